"""What a workdir says of its training: the losses and the validation scores, step by step."""

from __future__ import annotations

import dataclasses
import os

from deeplab_tf import workdir as workdirs
from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files
from deeplab_tf.training import loss_file
from deeplab_tf.training.validation import HISTORY_FILE


@dataclasses.dataclass(frozen=True)
class History:
    """How a training went.

    Attributes:
        workdir: where it is.
        losses: step to loss (summed over the outputs of the network), of every update.
        validation: step to mean IoU, 0..1, of --eval_split; empty without one.
    """

    workdir: str
    losses: dict[int, float]
    validation: dict[int, float]

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and mean IoU of the best validation, the earlier of equal ones; None without any."""
        if not self.validation:
            return None
        return max(self.validation.items(), key=lambda item: (item[1], -item[0]))

    @property
    def weights(self) -> str:
        """Path of the trained weights."""
        return os.path.join(self.workdir, workdirs.WEIGHTS_FILE)

    def __repr__(self) -> str:
        said = [repr(self.workdir)]
        if self.losses:
            first, last = min(self.losses), max(self.losses)
            said.append(f"loss {self.losses[first]:.4g} at step {first}, {self.losses[last]:.4g} at step {last}")
        if self.best:
            said.append(f"best mean IoU {100 * self.best[1]:.2f} % at step {self.best[0]}")
        return f"History({', '.join(said)})"


def read_history(workdir: str) -> History:
    """Reads how the training of a workdir went, over all processes that took part in it.

    Raises:
        UserError: validation.json or loss.csv is there and cannot be read.
    """
    path, scores = os.path.join(workdir, HISTORY_FILE), {}
    try:
        scores = {int(entry["step"]): float(entry["miou"]) for entry in files.read_json(path)["history"]}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error}. Move it away to begin a new one.") from error
    return History(workdir, _losses(workdir), dict(sorted(scores.items())))


def _losses(workdir: str) -> dict[int, float]:
    """Reads loss.csv, where every update stands once; {} where there is none."""
    try:
        read = loss_file.read(workdir)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"cannot read {os.path.join(workdir, loss_file.LOSS_FILE)}: {files.reason(error)}.") from error
    return dict(zip(read.steps, read.losses, strict=True))
