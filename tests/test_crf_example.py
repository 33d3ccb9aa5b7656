import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs" / "crf.md"


@pytest.mark.slow
def test_the_documented_training_through_the_crf_runs_and_the_loss_falls(capsys):
    example = next(
        block for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S) if "import refine" in block
    )
    names = {}
    exec(compile(example, str(DOCS), "exec"), names)
    # 1.66 to 0.16 as documented; the network's first weights are random.
    assert names["losses"][-1] < 0.3 * names["losses"][0]
    assert float(names["w1"]) != 1 and float(names["w2"]) != 1
    assert "loss" in capsys.readouterr().out
