"""What --config reads: settings in a file, in the form of a workdir's config.json, or a part of them."""

from __future__ import annotations

import os
from typing import Any

from deeplab_tf.config import SECTIONS, Config, did_you_mean, merged
from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files

# What config.json says besides: about its data set and its runs, which are not those of another training.
_OF_ANOTHER_RUN = ("dataset", "run", "earlier_runs")


def read(path: str) -> dict[str, Any]:
    """Reads a file of settings: "experiment", and sections of fields, such as {"train": {"iterations": 1400}}.

    Args:
        path: YAML or JSON; a name that ends with .json is JSON.

    Returns:
        What it says, without what config.json says about data and runs.

    Raises:
        UserError: no such file, none of these forms, or an unknown section, with the nearest known name.
    """
    try:
        content = files.read_json(path) if path.endswith(".json") else _read_yaml(path)
    except OSError as error:
        raise UserError(f"cannot read --config={path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise UserError(f"cannot read --config={path}: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise UserError(
            f"--config={path} should hold sections of settings, such as train: and below it iterations: 1400; it holds"
            f" {content!r:.60}."
        )
    known = ("experiment", *SECTIONS, *_OF_ANOTHER_RUN)
    for name in content:
        if name not in known:
            raise UserError(
                f"--config={path}: there is no section {name!s:.60}{did_you_mean(str(name), known)}: it may hold"
                f" experiment, {', '.join(SECTIONS)}."
            )
    return {name: value for name, value in content.items() if name not in _OF_ANOTHER_RUN}


def experiment_of(content: dict[str, Any], path: str, flag: str) -> str:
    """Returns the name of the experiment, of --experiment or of the file.

    Raises:
        UserError: both name one, and another.
    """
    named = content.get("experiment") or flag
    if flag and named != flag:
        raise UserError(f"--config={path} is of the experiment {named!s:.60}, not {flag}: leave --experiment out.")
    return str(named)


def apply(config: Config, content: dict[str, Any], path: str) -> Config:
    """Changes a configuration as a file says.

    Raises:
        UserError: an unknown field, with the nearest known name, or a value that does not fit.
    """
    sections = {name: value for name, value in content.items() if name != "experiment"}
    return merged(config, sections, f"--config={path}")


def _read_yaml(path: str) -> Any:
    """Reads YAML.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not YAML.
        UserError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise UserError(
            f"--config={os.path.basename(path)}: reading YAML needs PyYAML (pip install pyyaml); JSON, as config.json"
            " is, needs nothing: name the file .json."
        ) from None
    try:
        with open(path, encoding="utf-8") as file:
            return yaml.safe_load(file)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
