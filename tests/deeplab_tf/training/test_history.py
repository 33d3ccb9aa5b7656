import json
import time

import pytest

from deeplab_tf.errors import UserError
from deeplab_tf.training.history import read_history
from deeplab_tf.training.progress import Summaries


def test_losses_and_scores_of_all_processes_are_read_and_the_later_counts(tmp_path):
    for process, steps in enumerate(({50: 2.0, 100: 1.5}, {100: 1.25, 150: 1.0})):
        summaries = Summaries(str(tmp_path))
        for step, loss in steps.items():
            summaries.scalars(step, {"loss/total": loss, "loss/fused": 9.0, "learning_rate": 0.1})
        summaries.close()
        time.sleep(1.1 if process == 0 else 0)  # the names of the files have seconds
    scores = [{"step": 100, "miou": 0.75}, {"step": 150, "miou": 0.75}, {"step": 50, "miou": 0.5}]
    (tmp_path / "validation.json").write_text(json.dumps({"split": "val", "history": scores}))
    history = read_history(str(tmp_path))
    assert history.losses == {50: 2.0, 100: 1.25, 150: 1.0}
    assert history.validation == {50: 0.5, 100: 0.75, 150: 0.75} and history.best == (100, 0.75)
    assert repr(history).endswith("loss 2 at step 50, 1 at step 150, best mean IoU 75.00 % at step 100)")
    assert history.weights == str(tmp_path / "model.weights.h5")


def test_a_workdir_without_a_training_has_an_empty_history(tmp_path):
    history = read_history(str(tmp_path))
    assert history.losses == history.validation == {} and history.best is None
    assert repr(history) == f"History({str(tmp_path)!r})"


@pytest.mark.parametrize("text", ["{", "[]", '{"history": 3}'])
def test_damaged_scores_are_named(tmp_path, text):
    (tmp_path / "validation.json").write_text(text)
    with pytest.raises(UserError, match=r"cannot read .*validation\.json"):
        read_history(str(tmp_path))
