import os

import pytest

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import native_messages


def say(text):
    """Writes as native code does: to the file descriptor, past sys.stderr."""
    os.write(2, text)


def test_native_messages_are_kept_from_the_terminal_and_later_ones_are_shown(capfd):
    with native_messages.held_back():
        say(b"INFO: Created a delegate\n")
    say(b"later\n")
    assert capfd.readouterr().err == "later\n"


def test_they_are_shown_where_the_block_fails_unexpectedly(capfd):
    with pytest.raises(ValueError), native_messages.held_back():
        say(b"the reason\n")
        raise ValueError
    say(b"later\n")
    assert capfd.readouterr().err == "the reason\nlater\n"


def test_they_are_not_shown_beside_the_line_of_a_users_mistake(capfd):
    with pytest.raises(UserError), native_messages.held_back():
        say(b"INFO: Created a delegate\n")
        raise UserError("a line")
    assert capfd.readouterr().err == ""
