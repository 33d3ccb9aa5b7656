import numpy as np
import pytest
from PIL import Image

from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.training import curves, loss_file, progress
from deeplab_tf.training.loss_file import Losses, LossFile
from deeplab_tf.training.validation import Score


def write(workdir, start, steps, names=("scale_1",), factor=1.0):
    file = LossFile(str(workdir), start, names)
    for step in steps:
        file.add(step, 0.1 / step, [factor / (step + place) for place in range(len(names))])
    file.close()
    return (workdir / "loss.csv").read_text()


def test_a_resumed_training_continues_the_file_with_every_update_once(tmp_path):
    (tmp_path / "straight").mkdir()
    straight = write(tmp_path / "straight", 0, range(1, 10))
    write(tmp_path, 0, range(1, 7))
    # It was killed while it wrote the line of step 7, and its checkpoint is that of step 4.
    with open(tmp_path / "loss.csv", "a") as file:
        file.write("7,0.0142")
    assert write(tmp_path, 4, range(5, 10)) == straight
    read = loss_file.read(str(tmp_path))
    assert read.steps == list(range(1, 10)) and read.losses[3] == 0.25 and read.learning_rates[0] == 0.1


def test_a_loss_can_be_read_back_exactly_and_its_terms_have_columns_where_there_are_several(tmp_path):
    assert write(tmp_path, 0, [1]).splitlines() == ["step,learning_rate,loss", "1,0.1,1"]
    third = np.float32(1) / np.float32(3)
    file = LossFile(str(tmp_path), 0, ["scale_1", "fused"])
    file.add(1, 0.5, [float(third), 1.0])
    file.close()
    header, line = (tmp_path / "loss.csv").read_text().splitlines()
    assert header == "step,learning_rate,loss,scale_1,fused"
    assert np.float32(line.split(",")[3]) == third


def test_a_file_with_other_columns_is_set_aside_and_not_lost(tmp_path, capsys):
    (tmp_path / "loss.csv").write_text("epoch,loss\n1,2\n")
    write(tmp_path, 3, [4])
    assert (tmp_path / "loss.csv.other").read_text() == "epoch,loss\n1,2\n"
    assert "has other columns than this training writes" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_told_of_once_and_the_training_goes_on(tmp_path, capsys):
    (tmp_path / "loss.csv").mkdir()
    file = LossFile(str(tmp_path), 0, ["scale_1"])
    file.add(1, 0.1, [1.0])
    file.flush()
    file.close()
    assert capsys.readouterr().out.count("is not written from here on") == 1


@pytest.mark.parametrize("validations", [0, 3])
def test_curves_are_drawn_with_and_without_scores_and_classes_without_pixels(tmp_path, validations):
    steps = list(range(1, 5001))
    losses = Losses(steps, [0.1] * 5000, [2 / step for step in steps])
    info = DatasetInfo("tiny", ("dark", "bright"), pascal_palette(2))
    scores = {step * 100: Score(0.1 * step, {"dark": 0.2, "bright": None}) for step in range(1, validations + 1)}
    curves.draw(str(tmp_path / "curves.png"), losses, scores, info)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1000, 940 if validations else 740)


def test_curves_of_a_training_that_was_stopped_before_its_first_update_are_drawn(tmp_path):
    curves.draw(str(tmp_path / "curves.png"), Losses([], [], []), {}, DatasetInfo("tiny", ("a",), pascal_palette(1)))
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_a_line_of_the_progress_has_the_mean_loss_since_the_line_before(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 3600)
    shown = progress.Progress(0, iterations=5, images_per_step=1)
    for step, loss in enumerate([9.0, 1.0, 2.0, 3.0, 6.0], start=1):
        shown.update(step, loss, 0.1, float(step))
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("step 1/5  loss 9.0000") and last.startswith("step 5/5  loss 3.0000")
