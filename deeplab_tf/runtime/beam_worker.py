"""A process of this machine in which Beam's DirectRunner works: Beam's own, but quiet, and gone when its parent is."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

from deeplab_tf.runtime import native_messages


def main() -> None:
    """Works until the runner says that there is no more."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger().addHandler(logging.NullHandler())  # or else Beam's messages would go to the terminal
    with native_messages.held_back():
        from apache_beam.runners.worker import sdk_worker_main

        sdk_worker_main.main(sys.argv)


def _end_with_parent(parent: int) -> None:
    """Ends this process when the one that started it was killed: Beam would go on with its bundle to the end."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
