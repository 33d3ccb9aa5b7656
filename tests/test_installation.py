"""The wheel: everything that a command needs, under names of our own."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deeplab_tf as dl

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("deeplab_tf", "datasets", "models", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
NEWEST_ENOUGH = int(metadata.version("setuptools").split(".")[0]) >= 77


def pip(*arguments):
    return subprocess.run([sys.executable, "-m", "pip", "-q", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built of a copy: setuptools leaves folders behind."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for path in (*(ROOT / name for name in SOURCES), *ROOT.glob("requirements*.txt")):
        if path.is_dir():
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, copy)
    # Without a new setuptools here, pip downloads one.
    isolation = ["--no-build-isolation"] if NEWEST_ENOUGH else []
    done = pip("wheel", copy, "--no-deps", "-w", out, *isolation)
    if done.returncode and not NEWEST_ENOUGH:
        pytest.skip(f"setuptools 77 or newer is neither installed nor downloaded: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    [found] = out.iterdir()
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the package and its commands, and with another package that is called datasets."""
    target = tmp_path_factory.mktemp("installed")
    done = pip("install", "--no-deps", "--no-compile", "--target", target, wheel)
    assert done.returncode == 0, done.stderr
    (target / "datasets").mkdir()
    (target / "datasets" / "__init__.py").write_text("raise ImportError('this is the other package')\n")
    return target


def run(installed, cwd, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [installed / "bin" / arguments[0], *arguments[1:]]
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_wheel_has_every_module_the_networks_and_no_name_but_ours(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"deeplab_tf", f"deeplab_tf-{dl.__version__}.dist-info"}
    for folder, there in (("deeplab_tf", "deeplab_tf"), ("datasets", "deeplab_tf/_datasets")):
        files = [
            path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if "__pycache__" not in str(path)
        ]
        wanted = {f"{there}/{file}" for file in files if file.suffix in (".py", ".css", ".html", ".js", ".typed")}
        assert wanted <= names, sorted(wanted - names)
    for name in dl.list_pretrained():
        assert {f"deeplab_tf/_models/{name}/{file}" for file in ("config.json", "model.weights.h5")} <= names


@pytest.mark.slow
def test_installed_commands_run_anywhere_beside_another_package_called_datasets(installed, tmp_path):
    with open(ROOT / "pyproject.toml", "rb") as file:
        scripts = tomllib.load(file)["project"]["scripts"]
    assert {path.name for path in (installed / "bin").iterdir()} == set(scripts)
    for script in ("deeplab-convert", "deeplab-train"):
        done = run(installed, tmp_path, script, "--help")
        assert done.returncode == 0 and f"  {script} --" in done.stdout and "python" not in done.stdout, done.stderr

    pixels = np.random.default_rng(0).integers(0, 256, (65, 97, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "street.png")
    done = run(installed, tmp_path, "deeplab-predict", "--model=voc_animals", "--images=street.png", "--out=out")
    assert done.returncode == 0 and "1 of 1 file(s) segmented" in done.stdout, done.stderr
    with Image.open(tmp_path / "out" / "street.png") as labels:
        assert labels.size == (97, 65) and labels.mode == "P"


@pytest.mark.slow
def test_installed_commands_convert_and_train(installed, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("".join(f"{split}_{i:04d}\n" for split in ("train", "val") for i in range(4)))
    done = run(
        installed, tmp_path, "deeplab-convert", "--dataset=synthetic", "--out=data", "--ids=ids.txt", "--workers=2"
    )
    assert done.returncode == 0 and (tmp_path / "data" / "manifest.json").is_file(), done.stderr
    assert "deeplab-check --data_dir=data" in done.stdout and "deeplab-train --experiment" in done.stdout
    settings = ("--set=train.iterations=1", "--set=train.batch_size=1", "--set=train.crop_size=65")
    flags = ("--experiment=efficientnet_lite0_aspp", "--data_dir=data", "--workdir=run", "--init=none", *settings)
    done = run(installed, tmp_path, "deeplab-train", *flags)
    assert done.returncode == 0 and (tmp_path / "run" / "model.weights.h5").is_file(), done.stderr


def test_every_extra_is_a_file_of_requirements():
    text = (ROOT / "setup.py").read_text()
    of_files = {path.stem.removeprefix("requirements-") for path in ROOT.glob("requirements-*.txt")} - {"dev", "docs"}
    [line] = [line for line in text.splitlines() if line.startswith("EXTRAS")]
    assert set(eval(line.partition("=")[2])) == of_files
