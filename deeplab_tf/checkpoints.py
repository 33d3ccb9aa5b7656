"""Checkpoints of a training run: the model, the solver's state and the step. Nothing random is state."""

from __future__ import annotations

import os

import keras
import tensorflow as tf

from deeplab_tf.errors import UserError

KEPT = 3


class Checkpoints:
    """Saves and restores a run.

    Variables are stored by name. A checkpoint whose weights are not all finite is not written, so the newest
    one is always good.

    Args:
        workdir: checkpoints go to workdir/checkpoints.
        model: its variables, all of them.
        optimizer: built; its variables hold the step too.
    """

    def __init__(self, workdir: str, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        self._variables = [variable.value for variable in model.trainable_variables]
        self._checkpoint = tf.train.Checkpoint(
            model={variable.path.replace("/", "."): variable.value for variable in model.variables},
            optimizer={variable.path.replace("/", "."): variable.value for variable in optimizer.variables},
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, os.path.join(workdir, "checkpoints"), max_to_keep=KEPT, checkpoint_name="step"
        )

    def restore(self) -> str | None:
        """Restores the newest checkpoint that can be read.

        Returns:
            Its path, or None where there is none yet.

        Raises:
            UserError: there are checkpoints, but none can be read.
        """
        paths = list(reversed(self._manager.checkpoints))
        for path in paths:
            try:
                # Every variable must be in the file; the file also has a counter of its own.
                self._checkpoint.read(path).assert_existing_objects_matched().expect_partial()
            except (tf.errors.OpError, AssertionError, ValueError) as error:
                print(f"the checkpoint {path} cannot be read and is left out: {str(error).splitlines()[0]}")
            else:
                return path
        if paths:
            raise UserError(
                f"none of the checkpoints in {self._manager.directory} can be read. "
                "Move that folder away to start from the beginning."
            )
        return None

    def save(self, step: int) -> str:
        """Writes a checkpoint and returns its path.

        Raises:
            UserError: weights are not finite, or the disk refuses.
        """
        if not all(bool(tf.reduce_all(tf.math.is_finite(variable))) for variable in self._variables):
            raise UserError(f"weights are no longer finite at step {step}; {self.advice()}")
        try:
            return self._manager.save(checkpoint_number=step)
        except (tf.errors.OpError, OSError) as error:
            raise UserError(
                f"cannot write a checkpoint to {self._manager.directory}: {str(error).splitlines()[0]}"
            ) from error

    def advice(self) -> str:
        """Says what a diverged run can do."""
        kept = self._manager.latest_checkpoint
        return (
            f"the last good checkpoint is {kept or 'not yet written'}. "
            "Try a lower optimizer.base_lr, or optimizer.name=adam for a head that starts from scratch."
        )
