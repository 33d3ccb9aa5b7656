"""What was done with each image: the lines of manifest.jsonl, of failures.jsonl and of the notes of blocks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image.

    Attributes:
        input: the path of its file, or of the TFRecord file that holds it.
        record: its image_id in the TFRecord file; "" for an image file, and for what concerns the whole of a file.
        output: the file with its labels, relative to OUT; "" where there are none.
        size: (height, width) in pixels; (0, 0) where there are no labels.
        reason: why there are no labels; "" where there are.
    """

    input: str
    record: str = ""
    output: str = ""
    size: tuple[int, int] = (0, 0)
    reason: str = ""

    def __str__(self) -> str:
        place = f"{self.input} ({self.record})" if self.record else self.input
        return f"{place}: {self.reason or self.output}"

    @property
    def key(self) -> tuple[str, str]:
        """What makes two entries the same image."""
        return self.input, self.record

    def to_line(self) -> str:
        """Returns one line of JSON; what is empty is left out."""
        fields: dict[str, object] = {"input": self.input}
        if self.record:
            fields["record"] = self.record
        if self.reason:
            return json.dumps({**fields, "reason": self.reason}) + "\n"
        height, width = self.size
        return json.dumps({**fields, "output": self.output, "height": height, "width": width}) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Entry:
        """Reads what `to_line` gave.

        Raises:
            ValueError, KeyError, TypeError or AttributeError: something else.
        """
        fields = files.parse_json(line)
        return cls(
            str(fields["input"]),
            str(fields.get("record", "")),
            str(fields.get("output", "")),
            (int(fields.get("height", 0)), int(fields.get("width", 0))),
            str(fields.get("reason", "")),
        )


def read_lines(text: str, name: str) -> list[Entry]:
    """Reads a file of entries.

    Args:
        text: its content.
        name: what messages call it.

    Raises:
        UserError: it is something else.
    """
    try:
        return [Entry.from_line(line) for line in text.splitlines()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{name}: expected lines as batch_predict writes them, got something else ({error!r}). Delete it, and"
            " the command repeats that part."
        ) from None


def merge(entries: Iterable[Entry]) -> list[Entry]:
    """Returns one entry an image, sorted by path and record: that with labels, and of several the last one."""
    merged: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        if not entry.reason or entry.key not in merged or merged[entry.key].reason:
            merged[entry.key] = entry
    return [merged[key] for key in sorted(merged)]
