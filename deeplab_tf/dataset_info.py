"""What a network has to know about a data set: its classes, their colours and the ignore label."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

IGNORE_LABEL = 255
CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The number of each of the 19 classes in Cityscapes' files named labelIds: of the masks, and of a submission."""

_BACKGROUND_NAMES = frozenset({"background", "bg", "void", "unlabeled", "unlabelled", "other", "others", "none"})
# Of `DatasetInfo.background_label`: decided by the names.
_BY_NAME = -1


def find_background(class_names: Iterable[str]) -> int | None:
    """Says which class is the background, for data sets that do not say it themselves.

    Args:
        class_names: one name per class.

    Returns:
        The label of the first class that is called background, bg, void, unlabeled, unlabelled, other, others or none;
        neither case nor anything but letters counts, as in "_background_". None where no class is called so, as in
        Cityscapes, whose class 0 is road.
    """
    for label, name in enumerate(class_names):
        if "".join(letter for letter in str(name).casefold() if letter.isalpha()) in _BACKGROUND_NAMES:
            return label
    return None


def pascal_palette(num_colours: int) -> tuple[tuple[int, int, int], ...]:
    """Returns the first colours of the PASCAL VOC colour map.

    The bits of the index are dealt to red, green and blue in turn, most significant bit of the colour first.

    Args:
        num_colours: how many colours, 1 to 256.

    Returns:
        One (red, green, blue) in 0..255 per index; index 0 is black.
    """
    palette = []
    for index in range(num_colours):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        palette.append((colour[0], colour[1], colour[2]))
    return tuple(palette)


def require_fields(fields: Any, what: str, names: Iterable[str] = ()) -> None:
    """Raises ValueError if the value from JSON is not an object with these fields; `what` names it in the message."""
    if not isinstance(fields, dict):
        raise ValueError(f"{what} should be an object of named fields, it is {fields!r:.60}")
    missing = [name for name in names if name not in fields]
    if missing:
        raise ValueError(f"{what} lacks {', '.join(sorted(missing))}")


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """The classes of a data set. It travels in the manifest and in a workdir's config.

    Attributes:
        name: registry name, such as "voc12".
        class_names: one name per class; the index is the label.
        palette: (red, green, blue) in 0..255 per class, for masks, overlays and legends.
        ignore_label: the label of pixels that count neither in the loss nor in the metrics.
        train_split: the split that training takes by default.
        split_sizes: (split, number of images) of the complete data set, where that is known; two data sets are equal
            without it.
        background_label: the class that means "nothing of interest": overlays do not paint it, and
            train.foreground_crops does not aim at it. None where all classes are of interest. By default
            `find_background` decides, as it does for manifests and workdirs that were written without it.
    """

    name: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_label: int = IGNORE_LABEL
    train_split: str = "train"
    split_sizes: tuple[tuple[str, int], ...] = dataclasses.field(default=(), compare=False)
    background_label: int | None = _BY_NAME

    def __post_init__(self) -> None:
        if self.background_label == _BY_NAME:
            object.__setattr__(self, "background_label", find_background(self.class_names))
        background = self.background_label
        if background is not None and not (type(background) is int and 0 <= background < len(self.class_names)):
            raise ValueError(
                f"the background is a label of 0 to {len(self.class_names) - 1}, or none; got {background!r:.60}."
            )
        if not 1 <= len(self.class_names) <= 255:
            raise ValueError(f"a data set needs 1 to 255 classes, got {len(self.class_names)}.")
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class names must differ, got {list(self.class_names)}.")
        if len(self.palette) != len(self.class_names):
            raise ValueError(f"one colour per class: got {len(self.palette)} for {len(self.class_names)} classes.")
        for text in (self.name, self.train_split, *self.class_names, *(split for split, _ in self.split_sizes)):
            if not isinstance(text, str) or not text or "\0" in text:
                raise ValueError(f"names must be text, got {text!r:.60}.")
        levels = [level for colour in self.palette for level in colour]
        sizes = [size for _, size in self.split_sizes]
        for number, most in (*((level, 255) for level in (*levels, self.ignore_label)), *((n, 2**62) for n in sizes)):
            if type(number) is not int or not 0 <= number <= most:
                raise ValueError(f"expected a whole number of 0 to {most}, got {number!r:.60}.")

    @property
    def num_classes(self) -> int:
        """K, the number of classes, background included."""
        return len(self.class_names)

    def to_json(self) -> dict[str, Any]:
        """Returns plain lists and strings, as json.dump takes them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> DatasetInfo:
        """Rebuilds what `to_json` gave, also after a trip through a file.

        Raises:
            ValueError: something else.
        """
        require_fields(fields, "the data set", ("name", "class_names", "palette", "ignore_label", "train_split"))
        try:
            return cls(
                name=fields["name"],
                class_names=tuple(fields["class_names"]),
                palette=tuple((red, green, blue) for red, green, blue in fields["palette"]),
                ignore_label=fields["ignore_label"],
                train_split=fields["train_split"],
                split_sizes=tuple((split, size) for split, size in fields.get("split_sizes", ())),
                background_label=fields.get("background_label", _BY_NAME),
            )
        except TypeError as error:  # no list where there should be one, or a list where there should be text
            raise ValueError(f"the data set is described in another form ({error})") from None
