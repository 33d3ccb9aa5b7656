"""How every command starts and ends: flags, one-line errors and exit statuses.

Commands import TensorFlow inside their `main`, so that --help and a mistyped flag answer at once.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from absl import app, flags, logging

from deeplab_tf.errors import UserError, UserErrors
from deeplab_tf.runtime import native_messages

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
INSTALLED = "deeplab-"
"""How the names of the installed commands begin."""
_MOST_PROBLEMS = 20
_HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull", "-?")


def _parse_flags(argv: Sequence[str], module: str, known_only: bool = False) -> list[str]:
    """Parses like absl, but exits 0 on --help and 2, with one line, on a bad flag.

    Args:
        argv: program and arguments.
        module: where the command's `main` is.
        known_only: pass on arguments that are not flags of this command.
    """
    program = os.path.basename(argv[0])
    if any(argument in _HELP for argument in argv[1:]):
        _print_help(module)
        sys.exit(0)
    try:
        rest = flags.FLAGS(list(argv), known_only=known_only)
    except flags.Error as error:
        _exit_with_line(f"{str(error).rstrip('.')}. Try: {program} --help")
    return rest


def _refuse_arguments(arguments: Sequence[str]) -> None:
    if arguments:
        program = os.path.basename(sys.argv[0])
        _exit_with_line(f"every argument is a --flag=value; got {' '.join(arguments)!r}. Try: {program} --help")


def refuse_unknown(arguments: Sequence[str]) -> None:
    """Refuses what is neither a flag of the command nor of what it passes flags on to.

    Raises:
        UserError: there is something; it says what could have been meant.
    """
    program = os.path.basename(sys.argv[0])
    try:
        rest = flags.FLAGS([program, *arguments])
    except flags.Error as error:
        raise UserError(f"{str(error).rstrip('.')}. Try: {program} --help") from None
    _refuse_arguments(rest[1:])


def refuse_idle(reasons: Mapping[str, str]) -> None:
    """Refuses flags that were given and would change nothing.

    Args:
        reasons: for each flag that has no effect now, why; a flag with its default value is accepted.

    Raises:
        UserError: one of them was given.
    """
    for name, reason in reasons.items():
        flag = flags.FLAGS[name]
        if flag.present and flag.value != flag.default:
            raise UserError(f"--{name} has no effect: {reason}. Leave it out.")


def as_typed(text: str) -> str:
    """Writes our commands in a text as the user types them: as they are, or by their installed names.

    Args:
        text: with "python train.py" or "python -m datasets.convert" in it.

    Returns:
        With "deeplab-train" and "deeplab-convert" where an installed command runs.
    """
    if not os.path.basename(sys.argv[0]).startswith(INSTALLED):
        return text
    return re.sub(r"python (?:-m datasets\.(\w+)|(train|eval|predict|export)\.py)", rf"{INSTALLED}\1\2", text)


def command_as_typed() -> list[str]:
    """Returns the running command, word by word."""
    program = os.path.basename(sys.argv[0])
    return [program, *sys.argv[1:]] if program.startswith(INSTALLED) else ["python", *sys.argv]


def _print_help(module: str) -> None:
    """Prints the docstring and the flags of the module that has the command's `main`, in the order of their definition.

    absl calls the module that Python was started with by its file.
    """
    print(as_typed((sys.modules[module].__doc__ or "").strip()) + "\n\nFlags:")
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0] if module == "__main__" else module):
        default = (flag.default_as_str or "").strip("'\"") if flag.default not in (None, "", [], False) else ""
        print(f"  --{flag.name}" + (f" (default {default})" if default else ""))
        # absl's own words for a flag that can be repeated are for programmers.
        text = re.sub(r"\.?;\s*repeat this option to specify a list of values", ". Can be repeated.", flag.help)
        for line in text.splitlines():
            print(textwrap.fill(line, width=100, initial_indent=" " * 6, subsequent_indent=" " * 6))


def _exit_with_line(message: str) -> NoReturn:
    print(f"error: {_as_line(message)}", file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


def _exit_with_lines(problems: Sequence[str]) -> NoReturn:
    """Ends the command with a line for each of the first problems, and how many more there are."""
    if len(problems) == 1:
        _exit_with_line(problems[0])
    print(f"error: {len(problems)} problems have to be corrected first:", file=sys.stderr)
    for problem in problems[:_MOST_PROBLEMS]:
        print(f"  {_as_line(problem)}", file=sys.stderr)
    if len(problems) > _MOST_PROBLEMS:
        print(f"  and {len(problems) - _MOST_PROBLEMS} more.", file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


def _as_line(message: str) -> str:
    # Names from files may hold control characters, which a terminal would obey.
    line = re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", " ".join(message.split()))
    return line.encode(errors="backslashreplace").decode()


def _import_tensorflow_quietly(frozen_weights: bool) -> None:
    """Imports TensorFlow without its start-up messages.

    TF_CPP_MIN_LOG_LEVEL alone does not do it: the first messages come before TensorFlow reads it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if frozen_weights:
        # On CPUs, kernels are then packed at the first image, and not at all those that follow.
        os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")
    with native_messages.held_back():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401

        logging.set_verbosity(logging.WARNING)


def run(
    main: Callable[..., int | None],
    takes_arguments: bool = False,
    needs_tensorflow: bool = True,
    takes_other_flags: bool = False,
    frozen_weights: bool = False,
) -> None:
    """Runs a command: parses the flags, calls `main` and ends with the status of what happened.

    With `takes_arguments`, `main` gets the arguments that are not flags; without it, there may be none. With
    `takes_other_flags`, it gets flags that it does not define; see `refuse_unknown`. Without `needs_tensorflow`, the
    seconds that its import takes are saved. `frozen_weights` is for commands in which no operation meets other weights
    than those of its first call: TensorFlow's convolutions are faster then, and wrong if it is not true.

    Status 0 on success and on --help; 2 with one line on stderr on a UserError or a bad flag (UserErrors: one line
    each, twenty at most); 130 on
    Ctrl-C. A `main` that returns a number ends with it: 1 where some of many things failed and were listed. An
    unexpected exception keeps its traceback (status 1).
    """
    takes_arguments = takes_arguments or takes_other_flags

    def guarded(argv: list[str]) -> int | None:
        if not takes_arguments:
            _refuse_arguments(argv[1:])
        try:
            if needs_tensorflow:
                _import_tensorflow_quietly(frozen_weights)
            return main(*[argv[1:]] if takes_arguments else ())
        except UserErrors as error:
            _exit_with_lines(error.problems)
        except UserError as error:
            _exit_with_line(str(error))
        except KeyboardInterrupt:
            print("interrupted.", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)

    app.run(guarded, flags_parser=functools.partial(_parse_flags, module=main.__module__, known_only=takes_other_flags))
