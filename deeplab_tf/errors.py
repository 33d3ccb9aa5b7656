"""The one exception that a command prints as a single line."""


class UserError(Exception):
    """Something the user can mend: a missing file, a bad flag, bad data.

    The message is one line that says what was expected, what came and what to do. Commands print it on
    stderr without a traceback and exit with status 2. Any other exception is a defect of this package
    and keeps its traceback.
    """
