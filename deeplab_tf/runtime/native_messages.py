"""What native code writes to stderr, past Python: the one line a user must read is not to be the last of ten."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from deeplab_tf.errors import UserError


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Keeps from the terminal what is written to stderr, unless the block fails unexpectedly: then it is shown."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except UserError:
            raise
        except BaseException:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
