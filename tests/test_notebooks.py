"""The notebooks run from top to bottom."""

import json
from pathlib import Path

import pytest

from scripts import run_notebooks

NOTEBOOKS = sorted(run_notebooks.FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_is_small_and_was_run_without_an_error(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    ran = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert ran == list(range(1, len(ran) + 1))
    kinds = {out["output_type"] for cell in cells for out in cell.get("outputs", ())}
    assert "error" not in kinds and kinds & {"display_data", "execute_result"}
    assert path.stat().st_size < 300_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, monkeypatch):
    pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    book = run_notebooks.execute(Path(path))
    said = "".join(out.get("text", "") for cell in book.cells for out in cell.get("outputs", ()))
    if path.stem == "own_images":
        assert "deeplab-convert" not in said and "0 of 20769 labels differ" in said
    else:
        assert "largest difference: " in said and float(said.partition("difference: ")[2].split()[0]) < 1e-4
