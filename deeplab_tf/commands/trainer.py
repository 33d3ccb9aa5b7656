"""From an experiment's name and a folder of data to a trained network: what train.py and `deeplab_tf.train` do."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from deeplab_tf import config as configs
from deeplab_tf import shipped
from deeplab_tf.commands.data_sets import data_sets
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import apply_recipe, experiment_config
from deeplab_tf.training import config_file as config_files
from deeplab_tf.training import dry_run as rehearsal
from deeplab_tf.training import loop as training
from deeplab_tf.training.defaults import with_iterations
from deeplab_tf.training.history import History, read_history
from deeplab_tf.training.idle_settings import idle_settings
from deeplab_tf.training.trained_images import Images, TrainingData
from deeplab_tf.training.validation import ValidationSplit


def train(
    experiment: str,
    data_dir: str | os.PathLike[str],
    workdir: str | os.PathLike[str],
    *,
    iterations: int | None = None,
    config_file: str = "",
    recipe: str = "",
    split: str = "",
    eval_split: str = "",
    init: str = "imagenet",
    strategy: str = "auto",
    skip_damaged: bool = False,
    other_data: bool = False,
    settings: Mapping[str, Any] | Sequence[str] = (),
) -> History:
    """Trains a network, or resumes, as train.py does: the same call goes on where the last one stopped.

    Progress is printed. Afterwards `load_pretrained(workdir)` segments images, and eval.py and export.py take the
    workdir too.

    Args:
        experiment: network and solver, a name of `list_experiments()`.
        data_dir: folder written by datasets.convert.
        workdir: folder of this run: settings, checkpoints, TensorBoard events, weights.
        iterations: updates of the weights; None for as many as the experiment has. Short for
            settings={"train.iterations": N}.
        config_file: YAML or JSON file of settings, such as another workdir's config.json; "" for none. `recipe` and
            `settings` come after it.
        recipe: small_data, fine_tune, or "" for none.
        split: to train on; "" for trainaug where the data set has it, else train.
        eval_split: to validate on while training, such as "val"; "" for none. The weights of the best mean IoU are kept
            as WORKDIR/best.weights.h5.
        init: where the weights start: imagenet, hed, none, a weights file, the workdir of another run, or a name of
            `list_pretrained()`.
        strategy: how devices are used: auto, one_device, mirrored or multi_worker.
        skip_damaged: leave damaged records out and count them, instead of stopping at one.
        other_data: continue a workdir that was trained on other images, too.
        settings: other changes of the experiment, {"train.batch_size": 4} or ["train.batch_size=4"]: what train.py's
            --set takes.

    Returns:
        The losses and the validation scores, also those of earlier calls with this workdir.

    Raises:
        UserError: anything about names, settings, data or files that the user can mend, or a training that diverged.
        KeyboardInterrupt: Ctrl-C, after saving.
    """
    assignments = (
        [f"{name}={_text(value)}" for name, value in settings.items()]
        if isinstance(settings, Mapping)
        else (list(settings))
    )
    if iterations is not None:
        assignments.append(f"train.iterations={iterations}")
    try:
        run_training(
            experiment,
            os.fspath(data_dir),
            os.fspath(workdir),
            config_file=config_file,
            recipe=recipe,
            split=split,
            eval_split=eval_split,
            init=init,
            strategy=strategy,
            skip_damaged=skip_damaged,
            assignments=assignments,
            other_data=other_data,
        )
    except SystemExit as stopped:
        if stopped.code == 128 + signal.SIGINT:
            raise KeyboardInterrupt from None  # a notebook shows that as what it is
        raise
    return read_history(os.fspath(workdir))


def _text(value: Any) -> str:
    """Writes a setting's value as --set takes it: tuples with commas, true and false."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def run_training(
    experiment: str,
    data_dir: str,
    workdir: str,
    *,
    recipe: str = "",
    split: str = "",
    eval_split: str = "",
    init: str = "imagenet",
    strategy: str = "auto",
    skip_damaged: bool = False,
    assignments: Sequence[str] = (),
    config_file: str = "",
    dry_run: bool = False,
    other_data: bool = False,
) -> None:
    """Wires configuration, data and training together.

    Args:
        experiment: see `train`, and so on.
        data_dir: folder written by datasets.convert.
        workdir: folder of this run.
        recipe: name or "".
        split: name or "".
        eval_split: name or "".
        init: see `train`.
        strategy: see `train`.
        skip_damaged: see `train`.
        assignments: section.field=value each.
        config_file: of settings, which `recipe` and `assignments` change; "" for none. It may name the experiment.
        dry_run: do everything once, say what the whole would take, and leave nothing behind.
        other_data: continue a workdir that was trained on other images, too.

    Raises:
        UserError: see `train`.
        SystemExit: 130 after Ctrl-C, 143 after SIGTERM, both after saving.
    """
    pipeline, tfrecord = data_sets("pipeline"), data_sets("stored.tfrecord")
    written = config_files.read(config_file) if config_file else {}
    config = experiment_config(config_files.experiment_of(written, config_file, experiment))
    config = apply_recipe(config_files.apply(config, written, config_file), recipe)
    config = configs.override(config, list(assignments))
    if not data_dir or not workdir:
        raise UserError("--data_dir and --workdir are needed: the folder of datasets.convert, and one for this run.")
    if skip_damaged:
        manifest, damaged = tfrecord.skip_damaged(data_dir, split)
        if eval_split and eval_split != (split or manifest.info.train_split):
            other, more = tfrecord.skip_damaged(data_dir, eval_split)
            validated = other.split(eval_split)
            manifest = dataclasses.replace(manifest, splits={**manifest.splits, eval_split: validated})
            damaged += more
        print(tfrecord.describe_damage(damaged))
    else:
        manifest = tfrecord.read_manifest(data_dir)
    split = split or manifest.info.train_split
    config = dataclasses.replace(config, dataset=manifest.info)
    given = [assignment.partition("=")[0].strip() for assignment in assignments]
    config = with_iterations(config, manifest.split(split).count, given)
    settings = config.train
    for line in idle_settings(config, given, validates=bool(eval_split)):
        print(f"note: {line}")
    make_batches = functools.partial(
        pipeline.train_batches,
        data_dir,
        split,
        batch_size=settings.batch_size,
        iter_size=settings.iter_size,
        **settings.augmentation(),
        seed=settings.seed,
        skipped=manifest.split(split).skipped,
    )
    print(f"{manifest.split(split).count} images of {manifest.info.name} {split} in {data_dir}")
    validation_split = None
    splits = [split]
    if eval_split:
        splits.append(eval_split)
        described = manifest.split(eval_split)
        stored = functools.partial(pipeline.evaluation_examples, data_dir, eval_split, described.skipped)
        # Read when it is needed: the devices have to be set up first.
        validation_split = ValidationSplit(eval_split, described.count, lambda: stored().as_numpy_iterator())
    shards = "".join(file.sha256 for file in manifest.split(split).files)
    data = TrainingData(
        data_dir,
        split,
        {name: Images(other.ids, other.image_hashes()) for name, other in manifest.splits.items()},
        contents=hashlib.sha256(shards.encode()).hexdigest(),
    )
    how: dict[str, Any] = {
        "init": shipped.folder_or_path(init),
        "strategy_name": strategy,
        "validation_split": validation_split,
        "data": data,
        "other_data": other_data,
    }
    with contextlib.ExitStack() as stack:
        for name in splits:
            stack.enter_context(tfrecord.naming_damage(manifest, name))
        if dry_run:
            rehearsal.rehearse(config, workdir, make_batches, **how)
            return
        run_info = {"data_dir": data_dir, "split": split, "eval_split": eval_split, "strategy": strategy}
        training.train(config, workdir, make_batches, **how, run=run_info)
