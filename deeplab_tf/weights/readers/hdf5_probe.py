"""A first look at an HDF5 file in a separate process.

The HDF5 library trusts the structures of a file: one changed byte of a small file can make it allocate without
end. Here a child process opens every object first, with limits on its memory and its time. What the child has come
through, the caller can open.

The child runs this file as a script, so nothing but the standard library and h5py is imported at the top.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import h5py

MORE_MEMORY_BYTES = 1 << 28
"""What the child may take beyond what it has after its imports. Only names, types and attributes are read."""
CPU_SECONDS = 30


def look_through(path: str) -> None:
    """Makes sure that the HDF5 library can open all that is in a file; takes about 0.4 s.

    Raises:
        ValueError: it cannot; what went wrong, in a few words.
    """
    # -P keeps this folder off sys.path.
    done = subprocess.run(
        [sys.executable, "-P", os.path.abspath(__file__), path], capture_output=True, text=True, errors="replace"
    )
    if done.returncode < 0:
        raise ValueError(f"the HDF5 library crashes on it, or comes to no end: signal {-done.returncode}")
    if done.returncode > 0:
        raise ValueError((done.stderr.strip().splitlines() or ["it cannot be opened"])[-1])


def _open_everything(path: str) -> None:
    def look(_: str, item: h5py.Group | h5py.Dataset) -> None:
        for name in item.attrs:
            item.attrs.get(name)
        if isinstance(item, h5py.Dataset):
            item.id.get_create_plist()

    with h5py.File(path, "r") as file:
        look("/", file)
        file.visititems(look)


def _main() -> None:
    with open("/proc/self/statm", encoding="ascii") as statm:
        in_use = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MORE_MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _open_everything(sys.argv[1])


if __name__ == "__main__":
    _main()
