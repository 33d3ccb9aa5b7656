"""Pickles read without running them: plain values, and what a few named constructors make of plain values.

`pickle.Unpickler` does more than is needed even where `find_class` refuses everything: it hashes whatever is
used as a key, sets attributes, and lets the file say how large its memo is. Here every operation is written out;
none imports anything, and the only functions called are the caller's.
"""

from __future__ import annotations

import dataclasses
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

# A tensor takes about 56 operations: this is enough for 5,000 of them, and keeps a file that only wants memory small.
MOST_OPERATIONS = 300_000
_LONGEST_KEY = 200


@dataclasses.dataclass(frozen=True)
class _Constructor:
    """A global of the pickle that may be called."""

    name: str


@dataclasses.dataclass(frozen=True)
class _Inert:
    """An object of a class that nobody needs here, or its class: known by name, never made."""

    name: str


class _Stack:
    """The values of a pickle in the making; a mark sets aside what lies below it."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._below: list[list[Any]] = []

    def push(self, value: Any) -> None:
        self._values.append(value)

    def pop(self) -> Any:
        if not self._values:
            raise ValueError("the pickle takes a value that is not there")
        return self._values.pop()

    def top(self) -> Any:
        value = self.pop()
        self.push(value)
        return value

    def mark(self) -> None:
        self._below.append(self._values)
        self._values = []

    def pop_to_mark(self) -> list[Any]:
        if not self._below:
            raise ValueError("the pickle goes back to a mark that is not there")
        values, self._values = self._values, self._below.pop()
        return values


def read_pickle(
    stream: BinaryIO,
    constants: Mapping[str, Any],
    constructors: Mapping[str, Callable[[tuple[Any, ...]], Any]],
    load_persistent: Callable[[Any], Any] | None = None,
    is_inert: Callable[[str], bool] = lambda _: False,
) -> Any:
    """Reads one pickle of protocol 2 to 5, as far as state dicts need it.

    Args:
        stream: at the start of the pickle; left behind its end. In memory, since a pickle may ask for more bytes
            than there are.
        constants: what a global stands for, by its name: "torch.FloatStorage".
        constructors: what is done for a call of a global, by its name, from the tuple of arguments.
        load_persistent: what a persistent id stands for.
        is_inert: whether a global, by its name, is a class or function whose results nobody needs. Nothing is done for
            it: a placeholder takes the place of what it would make, whatever arguments, attributes and items it gets.

    Returns:
        None, bool, int, float, str, bytes, tuple, list and dict (with short strings and integers as keys), and what
        the four arguments give. Lists and dicts may contain themselves.

    Raises:
        ValueError: damaged, or it refers to anything else. What comes from the file is quoted in the message.
    """
    stack = _Stack()
    memo: dict[int, Any] = {}
    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count == MOST_OPERATIONS:
            raise ValueError(f"the pickle has more than {MOST_OPERATIONS} operations")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "NONE":
                stack.push(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.push(opcode.name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.push(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING":  # the last two: Python 2
                stack.push(argument)
            case "SHORT_BINBYTES" | "BINBYTES":
                stack.push(argument)
            case "EMPTY_TUPLE":
                stack.push(())
            case "EMPTY_LIST":
                stack.push([])
            case "EMPTY_DICT":
                stack.push({})
            case "MARK":
                stack.mark()
            case "TUPLE":
                stack.push(tuple(stack.pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.push(tuple(reversed([stack.pop() for _ in range(int(opcode.name[-1]))])))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack.top()
            case "MEMOIZE":
                memo[len(memo)] = stack.top()
            case "BINGET" | "LONG_BINGET":
                if argument not in memo:
                    raise ValueError("the pickle repeats a value that it has not had")
                stack.push(memo[argument])
            case "APPEND" | "APPENDS":
                values = [stack.pop()] if opcode.name == "APPEND" else stack.pop_to_mark()
                if not isinstance(stack.top(), _Inert):
                    _require(stack.top(), list, "appends to").extend(values)
            case "SETITEM" | "SETITEMS":
                values = [stack.pop(), stack.pop()][::-1] if opcode.name == "SETITEM" else stack.pop_to_mark()
                if not isinstance(stack.top(), _Inert):
                    set_items(_require(stack.top(), dict, "sets items of"), values[::2], values[1::2])
            case "GLOBAL":
                stack.push(_find(argument.replace(" ", ".", 1), constants, constructors, is_inert))
            case "STACK_GLOBAL":
                name, module = _require(stack.pop(), str, "names"), _require(stack.pop(), str, "names")
                stack.push(_find(f"{module}.{name}", constants, constructors, is_inert))
            case "REDUCE":
                arguments = _require(stack.pop(), tuple, "calls with")
                if isinstance(stack.top(), _Inert):
                    continue
                stack.push(constructors[_require(stack.pop(), _Constructor, "calls").name](arguments))
            case "BUILD":  # attributes of an OrderedDict: the versions of a network's parts
                stack.pop()
                if not isinstance(stack.top(), _Inert):
                    _require(stack.top(), dict, "sets attributes of")
            case "NEWOBJ" if _stands_below_arguments(stack):
                pass
            case "BINPERSID" if load_persistent:
                stack.push(load_persistent(stack.pop()))
            case _:
                raise ValueError(f"the pickle uses {opcode.name}, which a weights file has no business with")
    raise ValueError("the pickle has no end")


def set_items(target: dict[Any, Any], keys: list[Any], values: list[Any]) -> None:
    """Sets items of a dict that a pickle makes.

    Raises:
        ValueError: not as many values as keys, or a key that is neither an integer nor a short, printable string.
            Hashing a tuple of tuples could take for ever.
    """
    if len(keys) != len(values):
        raise ValueError("the pickle has a key without a value")
    for key in keys:
        if isinstance(key, str):
            if len(key) > _LONGEST_KEY or not key.isprintable():
                raise ValueError(f"the pickle has the name {key!r:.60}")
        elif not isinstance(key, int):
            raise ValueError(f"the pickle has a {type(key).__name__} where a name should be")
    target.update(zip(keys, values, strict=True))


def _stands_below_arguments(stack: _Stack) -> bool:
    """Takes the arguments of a new object, if its class is inert: the class then stands for the object."""
    _require(stack.pop(), tuple, "calls with")
    return isinstance(stack.top(), _Inert)


def _find(
    name: str, constants: Mapping[str, Any], constructors: Mapping[str, Any], is_inert: Callable[[str], bool]
) -> Any:
    if name in constants:
        return constants[name]
    if name in constructors:
        return _Constructor(name)
    if is_inert(name):
        return _Inert(name)
    raise ValueError(
        f"the file refers to {ascii(name)[1:-1]:.100}, which does not belong in a weights file; save the tensors"
        " alone: torch.save(model.state_dict(), FILE)"
    )


def _require(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"the pickle {what} a {type(value).__name__}")
    return value
