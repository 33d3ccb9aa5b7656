import json

import pytest

from deeplab_tf.errors import UserError
from deeplab_tf.training.history import read_history
from deeplab_tf.training.loss_file import LossFile


def test_losses_and_scores_of_all_processes_are_read_and_the_later_counts(tmp_path):
    # The second process does updates 3 and 4 again: it goes on from a checkpoint of the first.
    for start, losses in ((0, {1: 2.0, 2: 1.75, 3: 9.0, 4: 9.0}), (2, {3: 1.5, 4: 1.25, 5: 1.0})):
        file = LossFile(str(tmp_path), start, ["scale_1", "fused"])
        for step, loss in losses.items():
            file.add(step, 0.1, [loss - 0.5, 0.5])
        file.close()
    with open(tmp_path / "loss.csv", "a") as file:
        file.write("6,0.1")  # the process was killed here
    scores = [{"step": 3, "miou": 0.75}, {"step": 5, "miou": 0.75}, {"step": 1, "miou": 0.5}]
    (tmp_path / "validation.json").write_text(json.dumps({"split": "val", "history": scores}))
    history = read_history(str(tmp_path))
    assert list(history.losses.items()) == [(1, 2.0), (2, 1.75), (3, 1.5), (4, 1.25), (5, 1.0)]
    assert history.validation == {1: 0.5, 3: 0.75, 5: 0.75} and history.best == (3, 0.75)
    assert repr(history).endswith("loss 2 at step 1, 1 at step 5, best mean IoU 75.00 % at step 3)")
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


def test_losses_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "loss.csv").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*loss\.csv: "):
        read_history(str(tmp_path))
