"""Damage to bytes, to JSON and to text, drawn from a `random.Random`: of hypothesis, or one with a seed."""

from __future__ import annotations

import json
import struct
from random import Random
from typing import Any

_ODD_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_ODD_TEXTS = (
    "",
    " ",
    "0",
    "-1",
    "nan",
    "inf",
    "1e999",
    "٣",
    "\0",
    "\x1b[31m",
    "a/b",
    "../x",
    "/etc/passwd",
    5000 * "x",
)
_ODD_VALUES = (None, True, False, [], {}, [[]], {"a": 1}, float("nan"), float("inf"), 1e308, -0.5, 1.0, 10**400)


def damage_bytes(data: bytes, random: Random) -> bytes:
    """Returns the bytes with one to four changes: bits, numbers, parts that are missing, doubled or strange."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        place = random.randint(0, len(changed))
        size = random.choice((1, 2, 4, 8, 64, 1024))
        kind = random.randint(0, 6)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << random.randint(0, 7)
        elif kind == 1 and place < len(changed):
            changed[place] = random.randint(0, 255)
        elif kind == 2:
            number = random.choice(_ODD_NUMBERS)
            order, form = random.choice("<>"), random.choice("BHIQ")
            packed = struct.pack(order + form, number % 2 ** (8 * struct.calcsize(form)))
            changed[place : place + len(packed)] = packed
        elif kind == 3:
            del changed[place : place + size]
        elif kind == 4:
            other = random.randint(0, len(changed))
            changed[place:place] = changed[other : other + size]
        elif kind == 5:
            changed[place:place] = bytes(random.randint(0, 255) for _ in range(min(size, 8)))
        else:
            del changed[place:]
    return bytes(changed)


def damage_text(data: bytes, random: Random) -> bytes:
    """Returns lines of text with one of them changed, repeated or missing, or its bytes damaged."""
    if random.randint(0, 2) == 0:
        return damage_bytes(data, random)
    lines = data.split(b"\n")
    place = random.randint(0, len(lines) - 1)
    kind = random.randint(0, 3)
    if kind == 0:
        lines.insert(place, random.choice(lines))
    elif kind == 1:
        del lines[place]
    else:
        name, equals, _ = lines[place].partition(b"=")
        odd = odd_value(random).encode(errors="surrogatepass")
        lines[place] = name + equals + odd if kind == 2 else odd
    return b"\n".join(lines)


def odd_value(random: Random) -> str:
    """Returns a text that a program may not expect: numbers and their neighbours, paths, control characters."""
    if random.randint(0, 1):
        return random.choice(_ODD_TEXTS)
    numbers = [str(random.choice(_ODD_NUMBERS) * random.choice((1, -1))) for _ in range(random.randint(1, 4))]
    return ",".join(numbers) + random.choice(("", "", ".5", "e5", ","))


def damage_json(data: bytes, random: Random) -> bytes:
    """Returns JSON with one to three of its values replaced, moved or missing; or its text damaged."""
    if random.randint(0, 4) == 0:
        return damage_bytes(data, random)
    root = [json.loads(data)]
    for _ in range(random.randint(1, 3)):
        holder, key = random.choice(_places(root))
        kind = random.randint(0, 5)
        if kind == 0 and isinstance(holder, dict):
            del holder[key]
        elif kind == 1 and isinstance(holder, list) and holder is not root:
            holder.insert(key, _copy_of(holder[key]))
        elif kind == 2:
            other_holder, other_key = random.choice(_places(root))
            holder[key] = _copy_of(other_holder[other_key])
        else:
            holder[key] = _copy_of(_odd_json(random))
    text = json.dumps(root[0])
    if random.randint(0, 40) == 0:
        text = "[" * 100_000 + text
    return text.encode(errors="surrogatepass")


def _copy_of(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    """Every value, as the list or object that holds it and its place there."""
    found, waiting = [], [root]
    while waiting:
        holder: Any = waiting.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found


def _odd_json(random: Random) -> Any:
    number = random.choice(_ODD_NUMBERS) * random.choice((1, -1))
    text = random.choice(_ODD_TEXTS)
    return random.choice((*_ODD_VALUES, number, float(number), text, [number], [text]))
