"""Runs the notebooks from top to bottom and stores their outputs in them.

python -m scripts.run_notebooks                                 all of notebooks/
python -m scripts.run_notebooks notebooks/own_images.ipynb
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"


def execute(path: Path) -> Any:
    """Runs a notebook in its own folder.

    Args:
        path: of the .ipynb file, which is not changed.

    Returns:
        The notebook with its outputs, as nbformat has it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(path, nbformat.NO_CONVERT)
    NotebookClient(book, timeout=900, resources={"metadata": {"path": str(path.parent)}}).execute()
    return book


def trim(book: Any) -> None:
    """Leaves out what does not help a reader: times, messages of libraries, sliders without Python, second pictures."""
    book.metadata.pop("widgets", None)
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr" and not _is_widget(out)]
            for out in cell.outputs:
                # Pillow gives a picture as PNG and as JPEG; the smaller one stays.
                pictures = {kind: len(data) for kind, data in out.get("data", {}).items() if kind.startswith("image/")}
                for kind in sorted(pictures, key=lambda kind: pictures[kind])[1:]:
                    del out.data[kind]


def _is_widget(out: Any) -> bool:
    return "application/vnd.jupyter.widget-view+json" in out.get("data", {})


def main(paths: list[str]) -> None:
    """Runs and stores."""
    import nbformat

    for path in [Path(path) for path in paths] or sorted(FOLDER.glob("*.ipynb")):
        book = execute(path)
        trim(book)
        nbformat.write(book, path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
