"""Checkpoints of a training run: the model, the solver's state and the step. Nothing random is state."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil

import keras
import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files

_DATA, _INDEX = ".data-00000-of-00001", ".index"
_WRITING = ".writing"


class Checkpoints:
    """Saves and restores a run.

    Variables are stored by name, with checksums that are looked at when they are read. A checkpoint is a pair of
    files WORKDIR/checkpoints/step-N.{data-00000-of-00001,index}: written elsewhere, brought to the disk and then
    renamed, the index last, so there is no half-written one. A checkpoint whose weights are not all finite is not
    written.

    Args:
        workdir: checkpoints go to workdir/checkpoints.
        model: its variables, all of them.
        optimizer: built.
        keep: how many to keep.
    """

    def __init__(self, workdir: str, model: keras.Model, optimizer: keras.optimizers.Optimizer, keep: int) -> None:
        self._folder = os.path.join(workdir, "checkpoints")
        self._keep = keep
        self._trained = [variable.value for variable in model.trainable_variables]
        # The solver counts its updates, this counts ours: loss scaling skips some of the solver's.
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self._named: dict[str, tf.Variable] = {
            **{variable.path: variable.value for variable in model.variables},
            # Keras numbers the solvers of a process: caffe_sgd_1/...
            **{re.sub(r"_\d+(?=/)", "", variable.path, count=1): variable.value for variable in optimizer.variables},
            "step": self._step,
        }

    @property
    def variables(self) -> list[tf.Variable]:
        """All that is stored."""
        return list(self._named.values())

    @property
    def step(self) -> int:
        """How many updates the restored weights have seen; 0 before."""
        return int(self._step)

    def restore(self) -> str | None:
        """Restores the newest checkpoint that can be read.

        Newer ones that cannot, or whose index is not there, are renamed to *.damaged, and named. What a killed
        process was writing is removed.

        Returns:
            Its path without the ending, or None where there is none yet.

        Raises:
            UserError: there are checkpoints, but none can be read.
        """
        shutil.rmtree(os.path.join(self._folder, _WRITING), ignore_errors=True)
        damaged: dict[str, str] = {}
        for path in reversed(self._paths()):
            try:
                self._read(path)
            except (tf.errors.OpError, ValueError) as error:
                damaged[path] = files.reason(error)
            else:
                self._set_aside(damaged)
                return path
        if any(os.path.exists(path + _INDEX) for path in damaged):
            first, reason = next(iter(damaged.items()))
            raise UserError(
                f"none of the {len(damaged)} checkpoints in {self._folder} can be read; {first}: {reason}. "
                "Move that folder away to start from the beginning."
            )
        # Without its index a checkpoint was never finished: the process was killed between two renames.
        self._set_aside(damaged)
        return None

    def save(self, step: int) -> str:
        """Writes a checkpoint and returns its path without the ending.

        Raises:
            UserError: weights are not finite, or the disk refuses. What was there before is untouched.
        """
        self.check_finite(step)
        self._step.assign(step)
        path = os.path.join(self._folder, f"step-{step}")
        writing = os.path.join(self._folder, _WRITING)
        self._remove_old()  # it may be that fewer are to be kept than before
        try:
            os.makedirs(writing, exist_ok=True)
            unnamed = os.path.join(writing, f"step-{step}")
            tf.raw_ops.SaveV2(
                prefix=unnamed,
                tensor_names=list(self._named),
                shape_and_slices=[""] * len(self._named),
                tensors=[tf.convert_to_tensor(variable) for variable in self.variables],
            )
            for part in (_DATA, _INDEX):
                files.flush_to_disk(unnamed + part)
            for part in (_DATA, _INDEX):
                os.replace(unnamed + part, path + part)
            files.flush_to_disk(self._folder)
        except (tf.errors.OpError, OSError) as error:
            kept = self.newest()
            raise UserError(
                f"cannot write the checkpoint {path}: {files.reason(error)}. Make space (or keep fewer with "
                f"--set=train.keep_checkpoints=1) and repeat the command: it goes on "
                f"{f'from {kept}' if kept else 'from the beginning'}."
            ) from error
        finally:
            shutil.rmtree(writing, ignore_errors=True)
        self._remove_old()
        return path

    def check_finite(self, step: int) -> None:
        """Refuses weights that are not finite.

        Raises:
            UserError: some are not.
        """
        if not all(bool(tf.reduce_all(tf.math.is_finite(variable))) for variable in self._trained):
            raise UserError(f"weights are no longer finite at step {step}; {self.advice()}")

    def newest(self) -> str | None:
        """Returns the path of the newest checkpoint without the ending, None where there is none."""
        paths = self._paths()
        return paths[-1] if paths else None

    def advice(self) -> str:
        """Says what a diverged run can do."""
        return (
            f"the last good checkpoint is {self.newest() or 'not yet written'}. "
            "Try a lower optimizer.base_lr, or optimizer.name=adam for a head that starts from scratch."
        )

    def _paths(self) -> list[str]:
        """Paths without the ending, oldest first; one of the two files is enough to be found, and found unreadable."""
        found = {}
        for name in glob.glob("step-*", root_dir=self._folder):
            match = re.fullmatch(r"step-(\d+)(\.index|\.data-00000-of-00001)", name)
            if match:
                found[int(match[1])] = os.path.join(self._folder, name.removesuffix(match[2]))
        return [path for _, path in sorted(found.items())]

    def _remove_old(self) -> None:
        for old in self._paths()[: -self._keep]:
            for part in (_INDEX, _DATA):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(old + part)

    def _read(self, path: str) -> None:
        """Assigns all variables, or none: everything is read, and its checksum compared, first."""
        values = tf.raw_ops.RestoreV2(
            prefix=path,
            tensor_names=list(self._named),
            shape_and_slices=[""] * len(self._named),
            dtypes=[variable.dtype for variable in self.variables],
        )
        for (name, variable), value in zip(self._named.items(), values, strict=True):
            if variable.shape != value.shape:
                raise ValueError(f"{name} is {value.shape.as_list()} there and {variable.shape.as_list()} here.")
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)

    def _set_aside(self, damaged: dict[str, str]) -> None:
        for path, reason in damaged.items():
            print(f"the checkpoint {path} cannot be read and is set aside as *.damaged: {reason}")
            for part in (_INDEX, _DATA):
                if os.path.exists(path + part):
                    os.replace(path + part, path + part + ".damaged")
