"""Parts of what is said to the user."""

from __future__ import annotations

from collections.abc import Iterable


def some(items: Iterable[object], limit: int = 8) -> str:
    """Returns the first items for a message, and how many more there are: "1, 2, 3 and 9 more"."""
    listed = list(items)
    rest = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(str(item) for item in listed[:limit]) + rest
