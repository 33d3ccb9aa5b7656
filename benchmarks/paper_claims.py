"""The paper's claims in small: what each of its ideas brings, on a data set of yours, with equal budgets.

    python -m benchmarks.paper_claims --data_dir=data/voc_animals --out=runs/claims

Each variant is a training of `--experiment` with one thing changed, once for each seed, which is then scored on
`--eval_split`. Every training sees equally many images, iterations * batch size, unless the variant is about this
number. Killed and run again it goes on where it stopped: trainings resume, and what is scored is left alone. All of
it runs in one process, and OUT/VARIANT/SEED is a workdir like those of train.py. OUT/claims.json has every score,
OUT/claims.md the table: the mean over the seeds, the difference from the variant it is compared with, and the spread
(largest minus smallest) of this difference, for the same seed has the same order of images in both.

`--table=recipe` tries in the same way what is not in the paper: the trunk, and the parts of `--recipe=small_data`.

The whole takes hours on a CPU: `train.py --dry_run` says how long one of its trainings takes on your machine.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import os
import statistics
from collections.abc import Sequence
from typing import Any

from absl import flags

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import command_line, files

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Variant:
    """Something to try.

    Attributes:
        name: of its folder.
        claim: what is compared, for the table.
        paper: the paper's difference in points of mean IoU on VOC 2012 val, and where it stands.
        against: the variant that it is compared with.
        train: settings of its training, section.field=value; None where another variant's weights are taken.
        experiment: what is trained, if not --experiment.
        recipe: of the training, as in train.py.
        evaluate: settings for the evaluation, section.field=value.
        crf: whether the evaluation also refines, and scores bands around boundaries.
        weights_of: the variant whose training is scored, if not its own.
        key: where its score stands in metrics.json.
    """

    name: str
    claim: str
    paper: str = ""
    against: str = ""
    train: tuple[str, ...] | None = ()
    experiment: str = ""
    recipe: str = ""
    evaluate: tuple[str, ...] = ()
    crf: bool = False
    weights_of: str = ""
    key: str = "miou"


def rates(of_the_paper: Sequence[int], scale: float) -> str:
    """Returns the setting for the paper's rates times `scale`, each rounded to at least 1."""
    return "model.rates=" + ",".join(str(max(1, int(rate * scale + 0.5))) for rate in of_the_paper)


def paper_variants(iterations: int, rate_scale: float) -> list[Variant]:
    """Returns all variants of a training.

    Args:
        iterations: updates of the base variant.
        rate_scale: what the paper's rates are multiplied by, which are for output stride 8: 0.5 for output stride 16,
            0.25 for that and images of half the size.
    """
    base = "aspp_l"
    large = rates((6, 12, 18, 24), rate_scale)
    step = (large, "optimizer.policy=step", f"optimizer.step_size={max(1, iterations // 3)}")
    coarse = ("model.output_stride=32", rates((6, 12, 18, 24), rate_scale / 2))
    asked = functools.partial(Variant, train=None, weights_of=base)
    # The rates go with the stride.
    at_8, at_16 = ("model.output_stride=8",), ("model.output_stride=16",)
    twice = f"train.iterations={2 * iterations}"
    return [
        Variant(base, "ASPP-L, poly, batch 8, scale augmentation", train=(large,), crf=True),
        Variant("large_fov", "LargeFOV (one rate)", "-3.20 (Table 3)", base, (rates((12,), rate_scale),)),
        Variant("aspp_s", "ASPP-S (small rates)", "-1.98 (Table 3)", base, (rates((2, 4, 8, 12), rate_scale),)),
        Variant("msc", "three scales of the input", "+2.55 (Table 4)", base, (large, "model.scales=1,0.75,0.5")),
        Variant("step", "step instead of poly", "-1.17 (Table 2)", base, step),
        Variant(
            "batch_16",
            "twice the batch, half the updates",
            "-2.46 (Table 2, 10 x 20K to 30 x 6K)",
            base,
            (large, "train.batch_size=16", f"train.iterations={iterations // 2}"),
        ),
        Variant("batch_4", "half the batch, twice the updates", "", base, (large, "train.batch_size=4", twice)),
        Variant("longer", "twice the updates", "+1.17 (Table 2, 10K to 20K)", base, (large, twice)),
        Variant("one_scale", "no scale augmentation", "-1.59 (Table 4)", base, (large, "train.augment_scales=")),
        asked("crf", "the CRF", "+2.61 (Table 3)", base, crf=True, key="crf.miou"),
        asked("crf_band", "within 5 pixels of a boundary: network", crf=True, key="trimap.network.5"),
        asked("crf_band_crf", "the same after the CRF", "Fig. 10", "crf_band", crf=True, key="trimap.crf.5"),
        asked("stride_8", "output stride 8 in evaluation, the same weights", "Sec. 3.1", base, evaluate=at_8),
        Variant("stride_32", "output stride 32: no atrous convolution in the backbone", "Sec. 3.1", base, coarse),
        Variant(
            "stride_32_at_16",
            "the same weights at output stride 16 in evaluation",
            "Sec. 3.1",
            "stride_32",
            None,
            evaluate=at_16,
            weights_of="stride_32",
        ),
    ]


def recipe_variants(iterations: int, _: float) -> list[Variant]:
    """Returns the trunks, and the parts of `--recipe=small_data` one by one."""
    base = "lite0"
    # An average over the last fifth, however short the training.
    average = f"train.ema_decay={round(1 - 5 / max(iterations, 10), 4)}"
    return [
        Variant(base, "EfficientNet-Lite0"),
        Variant("lite1", "EfficientNet-Lite1", "", base, experiment="efficientnet_lite1_aspp"),
        Variant("lite2", "EfficientNet-Lite2", "", base, experiment="efficientnet_lite2_aspp"),
        Variant("all_layers", "no frozen layers", "", base, ("train.frozen_layers=",)),
        Variant(
            "any_scale", "any scale from 0.5 to 1.5", "", base, ("train.augment_scales=", "train.scale_range=0.5,1.5")
        ),
        Variant("over_objects", "half of the crops over an object", "", base, ("train.foreground_crops=0.5",)),
        Variant("colours", "colours vary", "", base, ("train.colour_jitter=0.1,0.3,0.3,0.05",)),
        Variant("average", "average of the weights", "", base, (average,)),
        Variant("small_data", "--recipe=small_data: all of these", "", base, (average,), recipe="small_data"),
        Variant(
            "lite2_small_data",
            "EfficientNet-Lite2 with --recipe=small_data",
            "",
            base,
            (average,),
            "efficientnet_lite2_aspp",
            "small_data",
        ),
        Variant(
            "flip", "mirrored image too (--flip)", "", base, None, evaluate=("inference.flip=true",), weights_of=base
        ),
    ]


TABLES = {"paper": paper_variants, "recipe": recipe_variants}


def train(variant: Variant, seed: int, folder: str) -> None:
    """Trains, or resumes.

    Raises:
        UserError: see `deeplab_tf.training.loop.train`.
        SystemExit: stopped by a signal, after saving.
    """
    from datasets import pipeline
    from datasets.stored import tfrecord
    from deeplab_tf import config as configs
    from deeplab_tf.experiments import apply_recipe, experiment_config
    from deeplab_tf.training import loop

    config = apply_recipe(experiment_config(variant.experiment or FLAGS.experiment), variant.recipe)
    settings = [f"train.iterations={FLAGS.iterations}", f"train.seed={seed}", "train.keep_checkpoints=1"]
    config = configs.override(config, [*settings, *FLAGS["set"].value, *(variant.train or ())])
    manifest = tfrecord.read_manifest(FLAGS.data_dir)
    config = dataclasses.replace(config, dataset=manifest.info)
    split = FLAGS.split or manifest.info.train_split
    make_batches = functools.partial(
        pipeline.train_batches,
        FLAGS.data_dir,
        split,
        batch_size=config.train.batch_size,
        iter_size=config.train.iter_size,
        **config.train.augmentation(),
        seed=config.train.seed,
    )
    loop.train(config, folder, make_batches, init=FLAGS.init, run={"data_dir": FLAGS.data_dir, "split": split})


def evaluate(folder: str, settings: Sequence[str], crf: bool, out_dir: str) -> None:
    """Scores a trained network on --eval_split; writes metrics.json into `out_dir`.

    Args:
        folder: a workdir.
        settings: section.field=value, how it is asked.
        crf: also refine, and score bands around boundaries.
        out_dir: made where missing.

    Raises:
        UserError: settings or files that do not fit.
    """
    from datasets import pipeline
    from deeplab_tf import config as configs
    from deeplab_tf import workdir
    from deeplab_tf.evaluation import evaluate as evaluation
    from deeplab_tf.evaluation.results import segment_examples
    from deeplab_tf.export.load import load_segmenter
    from deeplab_tf.runtime.progress import show_progress

    info = workdir.read_config(folder).info
    loaded = load_segmenter(folder, lambda config: configs.override(config, settings))
    stored = pipeline.evaluation_examples(FLAGS.data_dir, FLAGS.eval_split)
    examples = ((image_id.decode(), image, labels) for image_id, image, labels in stored.as_numpy_iterator())
    count = int(stored.cardinality())
    results = show_progress(segment_examples(loaded.with_crf() if crf else loaded.segmenter, examples), count)
    evaluation.evaluate(results, count, info, with_crf=crf, with_trimap=crf, out_dir=out_dir)


def score(variant: Variant, seed: int) -> float:
    """Trains and evaluates what is not there yet; returns the score, 0..1."""
    folder = os.path.join(FLAGS.out, variant.weights_of or variant.name, str(seed))
    if not os.path.exists(os.path.join(folder, "model.weights.h5")):
        if variant.train is None:
            raise UserError(f"{variant.name} takes the weights of {variant.weights_of}: name that in --only too.")
        print(f"\n{variant.name}, seed {seed}: training in {folder}", flush=True)
        train(variant, seed, folder)
        _forget()
    # Variants that ask in the same way share an evaluation.
    name = "_".join([*variant.evaluate, *(["crf"] if variant.crf else [])]) or "plain"
    out = os.path.join(folder, "eval", name)
    path = os.path.join(out, "metrics.json")
    if not os.path.exists(path):
        evaluate(folder, variant.evaluate, variant.crf, out)
        _forget()
    found = look_up(files.read_json(path), variant.key)
    print(f"{variant.name}, seed {seed}: {100 * found:.2f}", flush=True)
    return found


def _forget() -> None:
    """Frees the network: the next one is another."""
    import keras

    keras.backend.clear_session()
    gc.collect()


def look_up(metrics: dict[str, Any], key: str) -> float:
    """Returns an entry of metrics.json: "miou", "crf.miou", or "trimap.network.5", the mean IoU within 5 pixels."""
    first, *rest = key.split(".")
    if first == "trimap":
        answer, width = rest
        trimap = metrics["trimap"]
        return float(trimap[answer]["miou"][trimap["widths"].index(int(width))])
    return float(look_up(metrics[first], ".".join(rest)) if rest else metrics[first])


def table(tried: list[Variant], scores: dict[str, dict[str, float]]) -> str:
    """Lays the scores out as Markdown.

    Args:
        tried: the variants, in order.
        scores: of each variant by its seed, 0..1.
    """
    lines = ["| | mean IoU, % | difference | its spread | the paper's |", "|---|---|---|---|---|"]
    for variant in tried:
        own = scores[variant.name]
        cells = [variant.claim, f"{100 * statistics.mean(own.values()):.2f}", "", "", variant.paper]
        if variant.against in scores:
            gains = [100 * (own[seed] - scores[variant.against][seed]) for seed in own]
            cells[2:4] = f"{statistics.mean(gains):+.2f}", f"{max(gains) - min(gains):.2f}"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing, and writes the table after each score."""
    if not FLAGS.data_dir or not FLAGS.out:
        raise UserError("--data_dir and --out are needed: the folder of datasets.convert, and one for the runs.")
    known = TABLES[FLAGS.table](FLAGS.iterations, FLAGS.rate_scale)
    unknown = set(FLAGS.only) - {variant.name for variant in known}
    if unknown:
        raise UserError(f"--only: there is no {', '.join(sorted(unknown))} among {', '.join(v.name for v in known)}.")
    tried = [variant for variant in known if not FLAGS.only or variant.name in FLAGS.only]
    FLAGS.data_dir, FLAGS.out = (os.path.abspath(path) for path in (FLAGS.data_dir, FLAGS.out))
    files.make_folder(FLAGS.out, "--out")
    scores: dict[str, dict[str, float]] = {}
    names = ("experiment", "init", "split", "eval_split", "seeds", "iterations", "set", "rate_scale")
    settings = {name: FLAGS[name].value for name in names}
    _refuse_other_settings(settings)
    # Seed by seed, so that a campaign that is stopped early compares all variants.
    for number, seed in enumerate(FLAGS.seeds):
        for variant in tried:
            scores.setdefault(variant.name, {})[seed] = score(variant, int(seed))
            files.write_json(os.path.join(FLAGS.out, "claims.json"), {"settings": settings, "scores": scores})
        files.write_text(os.path.join(FLAGS.out, "claims.md"), table(tried, scores) + "\n")
        print(f"{table(tried, scores)}\n{number + 1} of {len(FLAGS.seeds)} seeds", flush=True)


def _refuse_other_settings(settings: dict[str, Any]) -> None:
    """Raises UserError where the folder holds a campaign with other settings; more seeds are none."""
    path = os.path.join(FLAGS.out, "claims.json")
    if not os.path.exists(path):
        return
    before = files.read_json(path)["settings"]
    other = {name for name in before if name != "seeds" and before[name] != settings.get(name)}
    if other:
        raise UserError(f"{path} is of a campaign with other settings: {', '.join(sorted(other))}. Take another --out.")


def _define_flags() -> None:
    flags.DEFINE_string("data_dir", "", "Folder written by datasets.convert.")
    flags.DEFINE_string("out", "", "Folder for the runs, claims.json and claims.md.")
    flags.DEFINE_string("experiment", "efficientnet_lite0_aspp", "What is varied; at output stride 16.")
    flags.DEFINE_string("init", "imagenet", "As for train.py.")
    flags.DEFINE_enum("table", "paper", list(TABLES), "paper: its claims; recipe: trunks and --recipe=small_data.")
    flags.DEFINE_string("split", "", "Split to train on; by default trainaug where the data set has it, else train.")
    flags.DEFINE_multi_string("set", [], "section.field=value for every training, such as --set=train.crop_size=193.")
    flags.DEFINE_string("eval_split", "val", "Split that is scored.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "One training each.")
    flags.DEFINE_integer("iterations", 600, "Updates of the base variant.")
    flags.DEFINE_float(
        "rate_scale", 0.5, "Of the paper's rates: 0.5 at output stride 16, 0.25 if images are halved too."
    )
    flags.DEFINE_list("only", [], "Variants to run; all by default. What they are compared with has to be run too.")


if __name__ == "__main__":
    _define_flags()
    command_line.run(main)
