"""Whether the loss is sane: it makes a checkpoint a good one, and a training that diverges is told of."""

from __future__ import annotations

import math
import statistics
from collections import deque

SANE, DIVERGED = 10.0, 100.0
"""Times the usual loss: up to SANE a loss is sane, above DIVERGED the training has diverged. Up to the loss of guessing
any is sane, and up to twice that none has diverged: an overfitted network may meet a new image."""
PROBATION = 10
"""So many losses after a checkpoint have to be sane, at most, before it counts as good: the update that spoils the
weights shows in the losses of later steps only."""
_WINDOW = 100  # losses of the running median, at most
_FEW = 20  # losses that a median says something of; so many are judged at the end of a training
_NOTHING_LEARNED = 10  # losses of exactly 0 in a row


class LossWatch:
    """Follows the loss of a training.

    The usual loss is the lowest running median so far, of sane losses only: a slow divergence does not raise it. Before
    there are enough losses for a median, it is the lowest loss.

    Args:
        guessing: the loss of a network to which all classes are equally likely: ln K for each term.
        usual: the usual loss of the processes before this one; None for none.
        probation: see PROBATION; less where checkpoints do not stay that long.
    """

    def __init__(self, guessing: float, usual: float | None = None, probation: int = PROBATION) -> None:
        self._guessing = guessing
        self._lowest = usual
        self._probation = probation
        self._sane: deque[float] = deque(maxlen=_WINDOW)
        self._last: deque[float] = deque(maxlen=_FEW)
        self._step = 0
        self._sane_since: int | None = None
        self._zeros = 0
        self.diverged = False
        """Whether a loss was DIVERGED times the usual one, and not PROBATION losses have been sane since."""

    @property
    def lowest(self) -> float | None:
        """The lowest running median, for the process after this one; None before there were enough losses."""
        return self._lowest

    @property
    def last(self) -> float:
        """The last loss; NaN before the first."""
        return self._last[-1] if self._last else math.nan

    def add(self, step: int, loss: float) -> str:
        """Notes a finite loss.

        Args:
            step: its number; they come in order.
            loss: the sum of its terms.

        Returns:
            What is to be said of it, "" for nothing.
        """
        usual = self._usual(loss)
        self._step = step
        self._last.append(loss)
        if loss > max(SANE * usual, self._guessing):
            self._sane_since = None
        else:
            self._sane_since = self._sane_since or step
            self._sane.append(loss)
            if len(self._sane) >= _FEW:
                median = statistics.median(self._sane)
                self._lowest = median if self._lowest is None else min(self._lowest, median)
        self._zeros = self._zeros + 1 if loss == 0 else 0
        if loss > max(DIVERGED * usual, 2 * self._guessing) and not self.diverged:
            self.diverged = True
            return (
                f"warning: step {step}: the loss is {loss:.4g} and was {usual:.4g}: the training diverges. No "
                "checkpoint is written until it recovers. If it does not, stop, and lower optimizer.base_lr."
            )
        if self.diverged and self._sane_since is not None and step - self._sane_since + 1 >= PROBATION:
            self.diverged = False
            return f"step {step}: the loss is {loss:.4g}, back to what it was."
        if self._zeros == _NOTHING_LEARNED:
            return f"warning: step {step}: {self._about_zeros()}"
        return ""

    def confirms(self, step: int) -> bool:
        """Says whether the checkpoint of a step is a good one: all losses of its probation are sane."""
        return self._sane_since is not None and self._sane_since <= step + 1 and self._step >= step + self._probation

    @property
    def sane(self) -> bool:
        """Whether the last loss was."""
        return self._sane_since is not None

    def verdict(self) -> str:
        """Says at the end of a training what its last losses show; "" where there is nothing to say."""
        if not self._last:
            return ""
        loss = statistics.median(self._last)
        if self._zeros >= len(self._last):
            return self._about_zeros()
        if loss > self._guessing:
            return (
                f"the loss is {loss:.4g} at the end, and a uniform guess has {self._guessing:.4g}: the "
                "network has learned nothing. Train longer, or with another optimizer.base_lr."
            )
        if len(self._last) == _FEW and self._lowest is not None and loss > 2 * self._lowest > 0:
            return (
                f"the loss is {loss:.4g} at the end, and was {self._lowest:.4g} before: the training has become worse. "
                "Train with a lower optimizer.base_lr."
            )
        return ""

    def _about_zeros(self) -> str:
        if self._guessing == 0:
            return "the data set has one class, so that every loss is 0 and the network learns nothing."
        return (
            f"the last {self._zeros} losses are exactly 0: every pixel of these crops is ignored, and the "
            "network learns nothing. Look at the labels with python -m datasets.check."
        )

    def _usual(self, loss: float) -> float:
        """The usual loss before this one, or what stands for it at the beginning."""
        if self._lowest is not None:
            return self._lowest
        return min(self._sane, default=loss)
