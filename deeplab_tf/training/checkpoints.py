"""Checkpoints of a training run: the model, the solver's state and the step. Nothing random is state."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import re
import shutil
from collections.abc import Callable

import keras
import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files
from deeplab_tf.training.averaging import averages
from deeplab_tf.training.loss_watch import PROBATION

_DATA, _INDEX = ".data-00000-of-00001", ".index"
_WRITING = ".writing"
_HEALTH = "health.json"


@dataclasses.dataclass(frozen=True)
class _Health:
    """What health.json says.

    Attributes:
        good: the step of the newest good checkpoint; the training was well for some steps after it.
        usual: see `LossWatch.lowest`.
        diverged: the step at which the training was seen to have diverged; None where it has not.
    """

    good: int | None = None
    usual: float | None = None
    diverged: int | None = None


class Checkpoints:
    """Saves and restores a run.

    Variables are stored by name, with checksums that are looked at when they are read. A checkpoint is a pair of
    files WORKDIR/checkpoints/step-N.{data-00000-of-00001,index}: written elsewhere, brought to the disk and then
    renamed, the index last, so there is no half-written one. A checkpoint whose weights are not all finite is not
    written. The newest good one (`settle`) stays in addition to the newest ones, and a run that has diverged
    (`note_divergence`) goes on from there. WORKDIR/checkpoints/health.json says which one that is.

    Args:
        workdir: checkpoints go to workdir/checkpoints.
        model: its variables, all of them.
        optimizer: built.
        keep: how many of the newest to keep.
    """

    def __init__(self, workdir: str, model: keras.Model, optimizer: keras.optimizers.Optimizer, keep: int) -> None:
        self._folder = os.path.join(workdir, "checkpoints")
        self._keep = keep
        self._health = _Health()
        self._unsettled: list[int] = []
        self.went_back = False
        """Whether `restore` left checkpoints of a training out because it had diverged."""
        self._trained = [variable.value for variable in model.trainable_variables]
        # The solver counts its updates, this counts ours: loss scaling skips some of the solver's.
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self._named: dict[str, tf.Variable] = {
            **{variable.path: variable.value for variable in model.variables},
            # Keras numbers the solvers of a process: caffe_sgd_1/...
            **{re.sub(r"_\d+(?=/)", "", variable.path, count=1): variable.value for variable in optimizer.variables},
            "step": self._step,
        }
        names = {id(variable): name for name, variable in self._named.items()}
        self._average_of = {names[id(a.value)]: names[id(w.value)] for a, w in averages(model, optimizer)}

    @property
    def variables(self) -> list[tf.Variable]:
        """All that is stored."""
        return list(self._named.values())

    @property
    def step(self) -> int:
        """How many updates the restored weights have seen; 0 before."""
        return int(self._step)

    @property
    def usual_loss(self) -> float | None:
        """The usual loss of the processes before this one, as `restore` found it."""
        return self._health.usual

    def restore(self) -> str | None:
        """Restores the newest checkpoint that can be read; of a run that diverged, the newest good one.

        Newer ones that cannot, or whose index is not there, are renamed to *.damaged, and named; those of a run that
        diverged to *.diverged. What a killed process was writing is removed.

        Returns:
            Its path without the ending, or None where there is none yet.

        Raises:
            UserError: there are checkpoints, but none can be read.
        """
        shutil.rmtree(os.path.join(self._folder, _WRITING), ignore_errors=True)
        self._health = self._read_health()
        if self._health.diverged is not None:
            self._leave_divergence()
        damaged: dict[str, str] = {}
        for path in reversed(self._paths()):
            try:
                self._read(path)
            except (tf.errors.OpError, ValueError) as error:
                damaged[path] = files.reason(error)
            else:
                self._set_aside(damaged)
                self._unsettled = [self.step]
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
        self._unsettled.append(step)
        self._remove_old()
        return path

    def check_finite(self, step: int) -> None:
        """Refuses weights that are not finite.

        Raises:
            UserError: some are not.
        """
        if not self.are_finite():
            raise UserError(f"weights are no longer finite at step {step}; {self.advice()}")

    def are_finite(self) -> bool:
        """Says whether all weights are finite."""
        return all(bool(tf.reduce_all(tf.math.is_finite(variable))) for variable in self._trained)

    def settle(self, is_good: Callable[[int], bool], usual_loss: float | None) -> None:
        """Finds out whether a newer checkpoint has turned out to be a good one.

        Args:
            is_good: from the step of a checkpoint to whether the training was well for some steps after it.
            usual_loss: what `usual_loss` is to say in the next process.
        """
        good = [step for step in self._unsettled if is_good(step)]
        if good:
            self._unsettled = [step for step in self._unsettled if step > good[-1]]
            self._write_health(_Health(good[-1], usual_loss, self._health.diverged))
            self._remove_old()

    def note_divergence(self, step: int | None) -> None:
        """Notes that the training has diverged, so that the next process goes on from the newest good checkpoint.

        Args:
            step: at which that was seen; None takes it back.
        """
        good = self._health.good
        if step is not None and good is not None and step <= good + 1:
            good = None  # it was the last of a training, so that no loss had shown what is in it
        self._write_health(dataclasses.replace(self._health, good=good, diverged=step))

    def newest(self) -> str | None:
        """Returns the path of the newest checkpoint without the ending, None where there is none."""
        paths = self._paths()
        return paths[-1] if paths else None

    def advice(self) -> str:
        """Says what to do with a run that has diverged, after `note_divergence`."""
        last = self._before_divergence()
        back = f"goes back to {last[-1]}" if last else "starts from the beginning"
        return (
            "the training has diverged. The same command with a lower --set=optimizer.base_lr (try a tenth) "
            f"{back}; a head that starts from scratch needs --set=optimizer.name=adam."
        )

    def _before_divergence(self) -> list[str]:
        """Paths, oldest first, up to the newest good one; where none is known to be, up to some steps before."""
        known, diverged = self._health.good, self._health.diverged
        last = known if known is not None else (diverged or 0) - PROBATION
        return [path for path in self._paths() if _step_of(path) <= last]

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
            if _step_of(old) == self._health.good:
                continue
            for part in (_INDEX, _DATA):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(old + part)

    def _read(self, path: str) -> None:
        """Assigns all variables, or none: everything is read, and its checksum compared, first.

        Averages that the checkpoint does not have, because there were none then, begin at its weights.
        """
        stored = tf.train.load_checkpoint(path)
        names = [
            self._average_of[name] if name in self._average_of and not stored.has_tensor(name) else name
            for name in self._named
        ]
        values = tf.raw_ops.RestoreV2(
            prefix=path,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            dtypes=[variable.dtype for variable in self.variables],
        )
        for (name, variable), value in zip(self._named.items(), values, strict=True):
            if variable.shape != value.shape:
                raise ValueError(f"{name} is {value.shape.as_list()} there and {variable.shape.as_list()} here.")
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)

    def _read_health(self) -> _Health:
        path = os.path.join(self._folder, _HEALTH)
        try:
            fields = files.read_json(path)
            good, usual, diverged = (fields[name] for name in ("good", "usual", "diverged"))
            steps = [step for step in (good, diverged) if step is not None]
            if not all(type(step) is int and step >= 0 for step in steps):
                raise ValueError(f"a step is {steps}")
            return _Health(good, None if usual is None else float(usual), diverged)
        except FileNotFoundError:
            return _Health()
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"{path} cannot be read ({files.reason(error)}): the newest checkpoint is assumed to be good.")
            return _Health()

    def _write_health(self, health: _Health) -> None:
        self._health = health
        path = os.path.join(self._folder, _HEALTH)
        try:
            os.makedirs(self._folder, exist_ok=True)
            files.write_json(path, dataclasses.asdict(health))
        except (UserError, OSError) as error:
            # Without it the training goes on as well; a full disk is told of where it keeps checkpoints from it.
            print(f"cannot write {path}: {error}")

    def _leave_divergence(self) -> None:
        """Sets aside what was written since the newest good checkpoint."""
        last = self._before_divergence()
        spoiled = self._paths()[len(last) :]
        for path in spoiled:
            for part in (_INDEX, _DATA):
                if os.path.exists(path + part):
                    os.replace(path + part, path + part + ".diverged")
        print(
            f"the training had diverged at step {self._health.diverged}, so it goes back to "
            f"{f'step {_step_of(last[-1])}' if last else 'the beginning'}."
            + (f" Set aside as *.diverged: {', '.join(spoiled)}." if spoiled else "")
        )
        self.went_back = True
        self.note_divergence(None)

    def _set_aside(self, damaged: dict[str, str]) -> None:
        for path, reason in damaged.items():
            print(f"the checkpoint {path} cannot be read and is set aside as *.damaged: {reason}")
            for part in (_INDEX, _DATA):
                if os.path.exists(path + part):
                    os.replace(path + part, path + part + ".damaged")


def _step_of(path: str) -> int:
    return int(path.rpartition("-")[2])
