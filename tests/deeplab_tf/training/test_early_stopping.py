"""Training ends when the validation score no longer rises, and a resumed one at the same update."""

import json

import numpy as np
import pytest

from deeplab_tf.training import loop as training
from deeplab_tf.training import validation
from tests.tiny_training import batches_of, configure, use_tiny_network, validation_split
from tests.trained import weights

SCORES = {2: 0.5, 4: 0.4, 6: 0.5, 8: 0.6, 10: 0.9}


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains the tiny network in a folder of tmp_path; the score of each validated step is in SCORES."""
    monkeypatch.setattr(training, "build_network", use_tiny_network())
    run = validation.Validation.run
    at = []
    monkeypatch.setattr(
        validation.Validation, "run", lambda self, model, step, *more: at.append(step) or run(self, model, step, *more)
    )
    monkeypatch.setattr(
        validation.ConfusionMatrix, "summary", lambda *_: {"miou": SCORES[at[-1]], "per_class_iou": {"dark": 0.1}}
    )

    def go(name, **settings):
        config = configure(**{"iterations": 10, "eval_every": 2, "save_every": 3, "patience": 2, **settings})
        how = {"init": "none", "strategy_name": "one_device", "validation_split": validation_split(1)}
        training.train(config, str(tmp_path / name), batches_of(config), **how)
        return tmp_path / name

    return go


def steps_of(workdir):
    history = json.loads((workdir / "validation.json").read_text())["history"]
    return [entry["step"] for entry in history], sorted(path.stem for path in (workdir / "checkpoints").glob("*.index"))


def test_training_ends_after_validations_without_a_better_score_and_repeating_it_changes_nothing(train, capsys):
    workdir = train("w")
    said = capsys.readouterr().out
    assert "step 6  ends the training: no better mIoU in 2 validations" in said and "trained to step 6" in said
    assert steps_of(workdir) == ([2, 4, 6], ["step-3", "step-6"])
    ended = weights(workdir)
    train("w")
    assert "resuming at step 6" in capsys.readouterr().out
    for name, values in weights(workdir).items():
        np.testing.assert_array_equal(values, ended[name])
    # More patience, and it goes on.
    train("w", patience=3)
    assert steps_of(workdir)[0] == [2, 4, 6, 8, 10]


def test_a_training_killed_between_its_last_validation_and_the_checkpoint_ends_at_the_same_update(train, monkeypatch):
    straight = train("straight", save_every=4)
    with monkeypatch.context() as patch:
        save = training.Checkpoints.save

        def killed(self, step):
            if step == 6:
                raise KeyboardInterrupt
            return save(self, step)

        patch.setattr(training.Checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train("killed", save_every=4)
    resumed = train("killed", save_every=4)
    assert steps_of(resumed) == steps_of(straight) == ([2, 4, 6], ["step-4", "step-6"])
    ended = weights(resumed)
    for name, values in weights(straight).items():
        np.testing.assert_array_equal(ended[name], values)
    assert (resumed / "loss.csv").read_bytes() == (straight / "loss.csv").read_bytes()
    assert [line.split(",")[0] for line in (straight / "loss.csv").read_text().split()] == ["step", *"123456"]
