"""Checkpoints: what is written comes back, and what is damaged is noticed."""

import os

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.training.checkpoints import Checkpoints
from deeplab_tf.training.optimizer import build_optimizer, build_schedule
from tests.tiny import TINY_MULTIPLIERS, tiny_network

DATA, INDEX = ".data-00000-of-00001", ".index"


def checkpoints(folder, seed=1, keep=3, loss_scaling=False, hidden_units=4):
    model = tiny_network(seed=seed, hidden_units=hidden_units)
    schedule = build_schedule("poly", 1e-2, 100, 0.9, 1, 0.1)
    optimizer = build_optimizer(
        "sgd", schedule, momentum=0.9, weight_decay=5e-4, of_layers=TINY_MULTIPLIERS, loss_scaling=loss_scaling
    )
    optimizer.build(model.trainable_variables)
    return Checkpoints(str(folder), model, optimizer, keep)


def values(run):
    return [variable.numpy() for variable in run.variables]


@pytest.fixture
def three(tmp_path):
    """A folder with the checkpoints 2, 4 and 6, and what is in 4 and 6."""
    run = checkpoints(tmp_path)
    stored = {}
    for step in (2, 4, 6):
        for variable in run.variables[:-1]:
            variable.assign_add(tf.ones_like(variable))
        run.save(step)
        stored[step] = values(run)
    return tmp_path, stored


def assert_restores(folder, stored, step):
    run = checkpoints(folder, seed=2)
    assert run.restore() == str(folder / "checkpoints" / f"step-{step}") and run.step == step
    for ours, expected in zip(values(run), stored[step], strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_the_newest_checkpoint_comes_back_with_every_variable(three):
    folder, stored = three
    assert_restores(folder, stored, 6)


@pytest.mark.parametrize("part", [DATA, INDEX])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "missing", "random"])
def test_an_older_checkpoint_stands_in_for_a_damaged_one(three, capsys, part, damage):
    folder, stored = three
    path = folder / "checkpoints" / f"step-6{part}"
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    if damage == "missing":
        path.unlink()
    else:
        flipped = bytearray(content)
        flipped[len(flipped) // 2] ^= 16
        damaged = {"flipped": flipped, "truncated": content[:-1], "empty": b"", "random": rng.bytes(len(content))}
        path.write_bytes(damaged[damage])
    assert_restores(folder, stored, 4)
    assert "step-6 cannot be read and is set aside" in capsys.readouterr().out
    left = sorted(os.listdir(folder / "checkpoints"))
    assert left[:4] == [f"step-{step}{part}" for step in (2, 4) for part in (DATA, INDEX)]
    assert all(name.endswith(".damaged") for name in left[4:])


def test_where_nothing_can_be_read_the_run_does_not_start_over_by_itself(three):
    folder, _ = three
    for path in (folder / "checkpoints").glob("*.index"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of the 3 checkpoints"):
        checkpoints(folder).restore()


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    (tmp_path / "checkpoints" / ".writing").mkdir(parents=True)
    (tmp_path / "checkpoints" / ".writing" / f"step-2{DATA}").write_bytes(b"half")
    # Killed between the two renames of a first save:
    (tmp_path / "checkpoints" / f"step-2{DATA}").write_bytes(b"whole")
    assert checkpoints(tmp_path).restore() is None
    assert os.listdir(tmp_path / "checkpoints") == [f"step-2{DATA}.damaged"]


def test_only_the_newest_are_kept_also_when_fewer_than_before(tmp_path):
    run = checkpoints(tmp_path)
    for step in range(1, 6):
        run.save(step)
    assert sorted(path.stem for path in (tmp_path / "checkpoints").glob("*.index")) == ["step-3", "step-4", "step-5"]
    checkpoints(tmp_path, keep=1).save(6)
    assert sorted(path.stem for path in (tmp_path / "checkpoints").iterdir()) == ["step-6", "step-6"]


def test_weights_of_another_shape_are_not_restored(three):
    folder, _ = three
    run = checkpoints(folder, hidden_units=5)
    before = values(run)
    with pytest.raises(UserError, match=r"is \[3, 3, 8, 4\] there and \[3, 3, 8, 5\] here"):
        run.restore()
    for ours, expected in zip(values(run), before, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_the_state_of_the_loss_scaling_is_stored_too(tmp_path):
    run, other = checkpoints(tmp_path, loss_scaling=True), checkpoints(tmp_path, seed=2, loss_scaling=True)
    scales = [v for v in run.variables if "dynamic_scale" in v.name]
    assert len(scales) == 1
    scales[0].assign(12.0)
    run.save(3)
    other.restore()
    assert [v.numpy() for v in other.variables if "dynamic_scale" in v.name] == [12.0]


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    run = checkpoints(tmp_path)
    run.save(1)
    run.variables[0].assign(tf.fill(run.variables[0].shape, np.nan))
    with pytest.raises(UserError, match="no longer finite at step 2"):
        run.save(2)
    assert run.newest() == str(tmp_path / "checkpoints" / "step-1")


def steps_in(folder):
    return sorted(int(path.stem.removeprefix("step-")) for path in (folder / "checkpoints").glob("*.index"))


def test_the_newest_good_checkpoint_outlives_newer_ones_and_the_process(tmp_path):
    run = checkpoints(tmp_path, keep=1)
    for step in (1, 2, 3):
        run.save(step)
        run.settle(lambda step: step == 1, usual_loss=0.5)
    assert steps_in(tmp_path) == [1, 3]
    again = checkpoints(tmp_path, keep=1, seed=2)
    assert again.restore() == str(tmp_path / "checkpoints" / "step-3") and again.usual_loss == 0.5
    again.save(4)
    assert steps_in(tmp_path) == [1, 4]
    again.settle(lambda step: step == 4, usual_loss=0.5)
    assert steps_in(tmp_path) == [4]


def test_after_a_divergence_the_newest_good_checkpoint_comes_back_and_newer_ones_are_set_aside(three, capsys):
    folder, stored = three
    run = checkpoints(folder)
    run.restore()
    run.save(8)
    run.settle(lambda step: step <= 6, usual_loss=0.5)
    run.note_divergence(9)
    assert "goes back to " + str(folder / "checkpoints" / "step-6") in run.advice()
    assert_restores(folder, stored, 6)
    said = capsys.readouterr().out
    assert "had diverged at step 9, so it goes back to step 6" in said and "step-8" in said
    assert (folder / "checkpoints" / f"step-8{DATA}.diverged").is_file()
    assert_restores(folder, stored, 6)  # and no further
    assert "diverged" not in capsys.readouterr().out


def test_where_no_checkpoint_is_known_to_be_good_it_goes_back_some_steps_or_to_the_beginning(tmp_path, capsys):
    run = checkpoints(tmp_path)
    for step in (10, 20, 30):  # as an earlier version left them
        run.save(step)
    run.note_divergence(31)
    assert "goes back to " + str(tmp_path / "checkpoints" / "step-20") in run.advice()
    run = checkpoints(tmp_path)
    assert run.restore() == str(tmp_path / "checkpoints" / "step-20")
    run.note_divergence(5)
    assert "starts from the beginning" in run.advice()
    run = checkpoints(tmp_path)
    assert run.restore() is None and run.went_back and steps_in(tmp_path) == []
    assert "goes back to the beginning" in capsys.readouterr().out


def test_the_last_checkpoint_of_a_training_is_not_good_if_the_next_loss_shows_otherwise(three):
    folder, stored = three
    run = checkpoints(folder)
    run.restore()
    run.settle(lambda step: True, usual_loss=0.5)
    run.note_divergence(7)
    assert "starts from the beginning" in run.advice()
    run.settle(lambda step: True, usual_loss=0.5)
    for step in (14, 20):
        run.save(step)
    run.note_divergence(21)
    assert_restores(folder, {**stored, 6: stored[6]}, 6)


def test_a_divergence_that_was_taken_back_is_forgotten(three):
    folder, stored = three
    run = checkpoints(folder)
    run.note_divergence(7)
    run.note_divergence(None)
    assert_restores(folder, stored, 6)


@pytest.mark.parametrize("content", ["", "[]", '{"good": "x", "usual": 1, "diverged": null}', '{"good": 1}'])
def test_a_health_file_that_cannot_be_read_is_told_of_and_the_newest_checkpoint_taken(three, capsys, content):
    folder, stored = three
    (folder / "checkpoints" / "health.json").write_text(content)
    assert_restores(folder, stored, 6)
    assert "health.json cannot be read" in capsys.readouterr().out
