import json

import pytest
from absl import flags

from benchmarks import paper_claims
from deeplab_tf.config import override
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """A campaign whose commands are only noted down; every score is made up of variant and seed."""
    commands = []
    values = flags.FlagValues()
    for name, value in {
        "data_dir": str(tmp_path),
        "out": str(tmp_path / "out"),
        "experiment": "e",
        "init": "i",
    }.items():
        flags.DEFINE_string(name, value, "", flag_values=values)
    flags.DEFINE_string("eval_split", "val", "", flag_values=values)
    flags.DEFINE_list("seeds", ["0", "1"], "", flag_values=values)
    flags.DEFINE_list("only", [], "", flag_values=values)
    flags.DEFINE_integer("iterations", 90, "", flag_values=values)
    values(["test"])
    monkeypatch.setattr(paper_claims, "FLAGS", values)

    def command(script, *arguments):
        commands.append((script, *arguments))
        options = dict(
            argument[2:].split("=", 1) for argument in arguments if "=" in argument and "--set" not in argument
        )
        if script == "train.py":
            folder = tmp_path / options["workdir"]
            folder.mkdir(parents=True)
            (folder / "model.weights.h5").touch()
        else:
            seed = int(options["workdir"][-1])
            miou = 0.5 + 0.01 * seed + (0.02 if "aspp_s" in options["workdir"] else 0)
            band = {"widths": [1, 5], "network": {"miou": [0.1, 0.2]}, "crf": {"miou": [0.1, 0.25]}}
            (tmp_path / options["out"]).mkdir(parents=True)
            (tmp_path / options["out"] / "metrics.json").write_text(
                json.dumps({"miou": miou, "crf": {"miou": miou + 0.03}, "trimap": band})
            )

    monkeypatch.setattr(paper_claims, "_command", command)
    return values, commands, tmp_path / "out"


def test_every_variant_is_a_valid_change_and_is_compared_with_one_before_it():
    names = []
    for variant in paper_claims.variants(90):
        assert variant.against in (*names, "") and variant.weights_of in (*names, "")
        changes = variant.train if variant.train is not None else ()
        override(EXPERIMENTS["efficientnet_lite0_aspp"], changes)
        override(EXPERIMENTS["efficientnet_lite0_aspp"], [f[6:] for f in variant.evaluate if f.startswith("--set=")])
        names.append(variant.name)


def test_all_variants_see_equally_many_images_but_the_one_about_their_number():
    seen = {}
    for variant in paper_claims.variants(90):
        if variant.train is not None:
            config = override(EXPERIMENTS["efficientnet_lite0_aspp"], ["train.iterations=90", *variant.train])
            seen[variant.name] = config.train.iterations * config.train.batch_size * config.train.iter_size
    assert seen.pop("longer") == 2 * 90 * 8 and set(seen.values()) == {90 * 8}


def test_a_campaign_trains_once_for_each_seed_and_goes_on_where_it_stopped(campaign):
    _, commands, out = campaign
    paper_claims.main()
    trainings = [command for command in commands if command[0] == "train.py"]
    own = [variant for variant in paper_claims.variants(90) if variant.train is not None]
    assert len(trainings) == 2 * len(own) and len(set(trainings)) == len(trainings)
    seeds = [next(part[-1] for part in training if "train.seed" in part) for training in trainings]
    assert seeds == ["0"] * len(own) + ["1"] * len(own)  # seed by seed
    scores = json.loads((out / "claims.json").read_text())["scores"]
    assert scores["aspp_l"] == {"0": 0.5, "1": 0.51} and scores["crf_band_crf"] == {"0": 0.25, "1": 0.25}
    lines = (out / "claims.md").read_text().splitlines()
    assert "| ASPP-S (small rates) | 52.50 | +2.00 | 0.00 | -1.98 (Table 3) |" in lines
    assert "| the CRF | 53.50 | +3.00 | 0.00 | +2.61 (Table 3) |" in lines

    done = len(commands)
    paper_claims.main()
    assert len(commands) == done
    (out / "aspp_s" / "1" / "eval" / "plain" / "metrics.json").unlink()
    (out / "aspp_s" / "1" / "eval" / "plain").rmdir()
    paper_claims.main()
    assert len(commands) == done + 1 and commands[-1][0] == "eval.py"


def test_what_does_not_fit_is_refused(campaign):
    values, _, _ = campaign
    values.only = ["crf"]
    with pytest.raises(UserError, match="takes the weights of aspp_l"):
        paper_claims.main()
    values.only = ["aspp"]
    with pytest.raises(UserError, match="there is no aspp among"):
        paper_claims.main()
    values.only = ["aspp_l"]
    paper_claims.main()
    values.iterations = 91
    with pytest.raises(UserError, match="other settings: iterations"):
        paper_claims.main()
