"""The paper's claims in small: what each of its ideas brings, on a data set of yours, with equal budgets.

    python -m benchmarks.paper_claims --data_dir=data/voc_animals --out=runs/claims

Each variant is a training of `--experiment` with one thing changed, once for each seed; then eval.py scores it.
Every training sees equally many images, iterations * batch size, unless the variant is about this number. Killed and
run again it goes on where it stopped: trainings resume, and what is scored is left alone. OUT/claims.json has every
score, OUT/claims.md the table: the mean over the seeds, the difference from the variant it is compared with, and the
spread (largest minus smallest) of this difference, for the same seed has the same order of images in both.

The whole takes hours on a CPU: `train.py --dry_run` says how long one of its trainings takes on your machine.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
from typing import Any

from absl import flags

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import command_line, files

FLAGS = flags.FLAGS
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclasses.dataclass(frozen=True)
class Variant:
    """Something to try.

    Attributes:
        name: of its folder.
        claim: what is compared, for the table.
        paper: the paper's difference in points of mean IoU on VOC 2012 val, and where it stands.
        against: the variant that it is compared with.
        train: what train.py is to --set; None where another variant's weights are taken.
        evaluate: more flags of eval.py.
        weights_of: the variant whose training is scored, if not its own.
        key: where its score stands in metrics.json.
    """

    name: str
    claim: str
    paper: str = ""
    against: str = ""
    train: tuple[str, ...] | None = ()
    evaluate: tuple[str, ...] = ()
    weights_of: str = ""
    key: str = "miou"


def variants(iterations: int) -> list[Variant]:
    """Returns all variants of a training of so many updates; rates are halved, for output stride 16 instead of 8."""
    base = "aspp_l"
    step = ("optimizer.policy=step", f"optimizer.step_size={max(1, iterations // 3)}")
    coarse = ("model.output_stride=32", "model.rates=2,3,5,6")
    dense = "--set=model.output_stride={}"  # eval.py takes the rates with it
    crf = ("--crf", "--trimap")
    return [
        Variant(base, "ASPP-L, poly, batch 8, scale augmentation"),
        Variant("large_fov", "LargeFOV (one rate)", "-3.20 (Table 3)", base, ("model.rates=6",)),
        Variant("aspp_s", "ASPP-S (small rates)", "-1.98 (Table 3)", base, ("model.rates=1,2,4,6",)),
        Variant("msc", "three scales of the input", "+2.55 (Table 4)", base, ("model.scales=1,0.75,0.5",)),
        Variant("step", "step instead of poly", "-1.17 (Table 2)", base, step),
        Variant(
            "batch_16",
            "twice the batch, half the updates",
            "-2.46 (Table 2, 10 x 20K to 30 x 6K)",
            base,
            ("train.batch_size=16", f"train.iterations={iterations // 2}"),
        ),
        Variant(
            "batch_4",
            "half the batch, twice the updates",
            "",
            base,
            ("train.batch_size=4", f"train.iterations={2 * iterations}"),
        ),
        Variant(
            "longer", "twice the updates", "+1.17 (Table 2, 10K to 20K)", base, (f"train.iterations={2 * iterations}",)
        ),
        Variant("one_scale", "no scale augmentation", "-1.59 (Table 4)", base, ("train.augment_scales=",)),
        Variant("crf", "the CRF", "+2.61 (Table 3)", base, None, crf, base, "crf.miou"),
        Variant("crf_band", "within 5 pixels of a boundary: network", "", "", None, crf, base, "trimap.network.5"),
        Variant("crf_band_crf", "the same after the CRF", "Fig. 10", "crf_band", None, crf, base, "trimap.crf.5"),
        Variant(
            "stride_8",
            "output stride 8 in evaluation, the same weights",
            "Sec. 3.1",
            base,
            None,
            (dense.format(8),),
            base,
        ),
        Variant("stride_32", "output stride 32: no atrous convolution in the backbone", "Sec. 3.1", base, coarse),
        Variant(
            "stride_32_at_16",
            "the same weights at output stride 16 in evaluation",
            "Sec. 3.1",
            "stride_32",
            None,
            (dense.format(16),),
            "stride_32",
        ),
    ]


def train(variant: Variant, seed: int, folder: str) -> None:
    """Trains, or resumes, or does nothing where the training has ended."""
    settings = [f"train.iterations={FLAGS.iterations}", f"train.seed={seed}", "train.keep_checkpoints=1"]
    _command(
        "train.py",
        f"--experiment={FLAGS.experiment}",
        f"--init={FLAGS.init}",
        f"--data_dir={FLAGS.data_dir}",
        f"--workdir={folder}",
        *(f"--set={setting}" for setting in (*settings, *(variant.train or ()))),
    )


def score(variant: Variant, seed: int) -> float:
    """Trains and evaluates what is not there yet; returns the score, 0..1."""
    trained = os.path.join(FLAGS.out, variant.weights_of or variant.name, str(seed))
    if not os.path.exists(os.path.join(trained, "model.weights.h5")):
        if variant.train is None:
            raise UserError(f"{variant.name} takes the weights of {variant.weights_of}: name that in --only too.")
        train(variant, seed, trained)
    # Variants with the same flags share an evaluation.
    name = "_".join(flag.strip("-").replace("=", "-") for flag in variant.evaluate) or "plain"
    out = os.path.join(trained, "eval", name)
    path = os.path.join(out, "metrics.json")
    if not os.path.exists(path):
        where = (f"--workdir={trained}", f"--data_dir={FLAGS.data_dir}", f"--split={FLAGS.eval_split}", f"--out={out}")
        _command("eval.py", *where, *variant.evaluate)
    return look_up(files.read_json(path), variant.key)


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


def _command(*arguments: str) -> None:
    print(f"$ python {' '.join(arguments)}", flush=True)
    status = subprocess.run([sys.executable, *arguments], cwd=ROOT).returncode
    if status:
        sys.exit(status)


def main() -> None:
    """Runs what is missing, and writes the table after each score."""
    if not FLAGS.data_dir or not FLAGS.out:
        raise UserError("--data_dir and --out are needed: the folder of datasets.convert, and one for the runs.")
    known = variants(FLAGS.iterations)
    unknown = set(FLAGS.only) - {variant.name for variant in known}
    if unknown:
        raise UserError(f"--only: there is no {', '.join(sorted(unknown))} among {', '.join(v.name for v in known)}.")
    tried = [variant for variant in known if not FLAGS.only or variant.name in FLAGS.only]
    FLAGS.data_dir, FLAGS.out = (os.path.abspath(path) for path in (FLAGS.data_dir, FLAGS.out))
    files.make_folder(FLAGS.out, "--out")
    scores: dict[str, dict[str, float]] = {}
    settings = {name: FLAGS[name].value for name in ("experiment", "init", "eval_split", "seeds", "iterations")}
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
    other = {name for name in before if name != "seeds" and before[name] != settings[name]}
    if other:
        raise UserError(f"{path} is of a campaign with other settings: {', '.join(sorted(other))}. Take another --out.")


def _define_flags() -> None:
    flags.DEFINE_string("data_dir", "", "Folder written by datasets.convert.")
    flags.DEFINE_string("out", "", "Folder for the runs, claims.json and claims.md.")
    flags.DEFINE_string("experiment", "efficientnet_lite0_aspp", "What is varied; at output stride 16.")
    flags.DEFINE_string("init", "imagenet", "As for train.py.")
    flags.DEFINE_string("eval_split", "val", "Split that is scored.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "One training each.")
    flags.DEFINE_integer("iterations", 600, "Updates of the base variant.")
    flags.DEFINE_list("only", [], "Variants to run; all by default. What they are compared with has to be run too.")


if __name__ == "__main__":
    _define_flags()
    command_line.run(main)
