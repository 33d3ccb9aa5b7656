import json
import os
import shutil

import pytest
from absl import flags

from benchmarks import paper_claims
from deeplab_tf.config import override
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS, apply_recipe


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """A campaign whose trainings and evaluations are only noted down; every score is made up of variant and seed."""
    done = []
    values = flags.FlagValues()
    texts = {"data_dir": str(tmp_path), "out": str(tmp_path / "out"), "experiment": "e", "init": "i", "split": ""}
    for name, value in {**texts, "eval_split": "val", "table": "paper"}.items():
        flags.DEFINE_string(name, value, "", flag_values=values)
    flags.DEFINE_list("seeds", ["0", "1"], "", flag_values=values)
    flags.DEFINE_list("only", [], "", flag_values=values)
    flags.DEFINE_multi_string("set", [], "", flag_values=values)
    flags.DEFINE_integer("iterations", 90, "", flag_values=values)
    flags.DEFINE_float("rate_scale", 0.5, "", flag_values=values)
    values(["test"])
    monkeypatch.setattr(paper_claims, "FLAGS", values)

    def train(variant, seed, folder):
        done.append(("train", variant.name, seed))
        assert folder == str(tmp_path / "out" / variant.name / str(seed))
        os.makedirs(folder)
        open(os.path.join(folder, "model.weights.h5"), "w").close()

    def evaluate(folder, settings, crf, out_dir):
        done.append(("evaluate", folder, settings, crf))
        miou = 0.5 + 0.01 * int(folder[-1]) + (0.02 if "aspp_s" in folder else 0)
        metrics = {"miou": miou, "crf": None}
        if crf:
            band = {"widths": [1, 5], "network": {"miou": [0.1, 0.2]}, "crf": {"miou": [0.1, 0.25]}}
            metrics |= {"crf": {"miou": miou + 0.03}, "trimap": band}
        os.makedirs(out_dir)
        with open(os.path.join(out_dir, "metrics.json"), "w") as file:
            json.dump(metrics, file)

    monkeypatch.setattr(paper_claims, "train", train)
    monkeypatch.setattr(paper_claims, "evaluate", evaluate)
    return values, done, tmp_path / "out"


@pytest.mark.parametrize("table", list(paper_claims.TABLES))
def test_every_variant_is_a_valid_change_and_is_compared_with_one_before_it(table):
    names = []
    for variant in paper_claims.TABLES[table](90, 0.5):
        assert variant.against in (*names, "") and variant.weights_of in (*names, "")
        experiment = EXPERIMENTS[variant.experiment or "efficientnet_lite0_aspp"]
        override(apply_recipe(experiment, variant.recipe), variant.train or ())
        override(experiment, variant.evaluate)
        names.append(variant.name)


def test_the_rates_are_the_papers_at_the_stride_and_size_at_hand():
    found = {}
    for scale in (1, 0.5, 0.25):
        variants = {variant.name: variant for variant in paper_claims.paper_variants(90, scale)}
        names = ("aspp_l", "large_fov", "aspp_s", "stride_32")
        found[scale] = [
            override(EXPERIMENTS["efficientnet_lite0_aspp"], variants[name].train).model.rates for name in names
        ]
    assert found[1] == [(6, 12, 18, 24), (12,), (2, 4, 8, 12), (3, 6, 9, 12)]
    assert found[0.5] == [(3, 6, 9, 12), (6,), (1, 2, 4, 6), (2, 3, 5, 6)]
    assert found[0.25] == [(2, 3, 5, 6), (3,), (1, 1, 2, 3), (1, 2, 2, 3)]
    trained = [variant for variant in variants.values() if variant.train is not None]
    assert all(any("model.rates=" in setting for setting in variant.train) for variant in trained)


def test_all_variants_see_equally_many_images_but_the_one_about_their_number():
    seen = {}
    for variant in paper_claims.paper_variants(90, 0.5):
        if variant.train is not None:
            config = override(EXPERIMENTS["efficientnet_lite0_aspp"], ["train.iterations=90", *variant.train])
            seen[variant.name] = config.train.iterations * config.train.batch_size * config.train.iter_size
    assert seen.pop("longer") == 2 * 90 * 8 and set(seen.values()) == {90 * 8}


def test_a_campaign_trains_once_for_each_seed_and_goes_on_where_it_stopped(campaign):
    _, done, out = campaign
    paper_claims.main()
    trainings = [entry for entry in done if entry[0] == "train"]
    own = [variant.name for variant in paper_claims.paper_variants(90, 0.5) if variant.train is not None]
    assert trainings == [("train", name, seed) for seed in (0, 1) for name in own]  # seed by seed
    evaluations = [entry for entry in done if entry[0] == "evaluate"]
    assert len(evaluations) == len(set(evaluations)) == 2 * (len(own) + 2)  # and the two other output strides
    scores = json.loads((out / "claims.json").read_text())["scores"]
    assert scores["aspp_l"] == {"0": 0.5, "1": 0.51} and scores["crf_band_crf"] == {"0": 0.25, "1": 0.25}
    lines = (out / "claims.md").read_text().splitlines()
    assert "| ASPP-S (small rates) | 52.50 | +2.00 | 0.00 | -1.98 (Table 3) |" in lines
    assert "| the CRF | 53.50 | +3.00 | 0.00 | +2.61 (Table 3) |" in lines

    before = len(done)
    paper_claims.main()
    assert len(done) == before
    shutil.rmtree(out / "aspp_s" / "1" / "eval" / "plain")
    paper_claims.main()
    assert done[before:] == [("evaluate", str(out / "aspp_s" / "1"), (), False)]


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
