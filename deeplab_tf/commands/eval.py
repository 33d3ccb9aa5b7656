"""Evaluates a trained DeepLabv2: one confusion matrix over a split, before and after the dense CRF.

  python eval.py --workdir=runs/large_fov --data_dir=data/voc12 --crf --report

Writes OUT/metrics.json, OUT/panel.png and OUT/pictures/; with --report also OUT/report.html. predict.py and export.py
give the same results as those evaluated here. A split without labels gives an archive for a test server:

  python eval.py --workdir=runs/large_fov --data_dir=data/voc12 --split=test --submission --crf

Exported models, and label PNGs from any tool, are scored in the same way:

  python eval.py --model=exported/saved_model/1 --data_dir=data/voc12 --out=scores
  python eval.py --predictions=results --data_dir=data/voc12 --out=scores --report

An image without a result is left out and listed at the end, and the exit status is 1.

To find constants of the CRF that suit a network and its data, and write them into the workdir:

  python eval.py --workdir=runs/large_fov --data_dir=data/voc12 --crf_search
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from absl import flags

from deeplab_tf import model_flags, shipped
from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import command_as_typed, refuse_idle, run

if TYPE_CHECKING:
    from deeplab_tf.config import Config
    from deeplab_tf.dataset_info import DatasetInfo
    from deeplab_tf.evaluation.evaluate import Evaluation
    from deeplab_tf.evaluation.results import Result

REPORT_FILE = "report.html"

FLAGS = flags.FLAGS
model_flags.define()
flags.DEFINE_string(
    "model",
    "",
    "Instead of a workdir: what export.py wrote, OUT/saved_model/1, or a .tflite, .onnx or .xml file.",
)
flags.DEFINE_string(
    "predictions",
    "",
    "Instead of a workdir: a folder of label PNGs from any tool, with FOLDER/ID.png for each image of the split.",
)
flags.DEFINE_string("data_dir", "", "Folder written by datasets.convert.")
flags.DEFINE_string("split", "val", "Split to evaluate.")
flags.DEFINE_bool("crf", False, "Also score the results after the dense CRF.")
model_flags.define_crf_backend()
flags.DEFINE_bool(
    "crf_search", False, "Instead of evaluating: cross-validate the CRF's constants, and write the best into WORKDIR."
)
flags.DEFINE_integer(
    "crf_search_images", 100, "Number of images for --crf_search, evenly spaced over the split.", lower_bound=1
)
flags.DEFINE_list(
    "score_classes", [], "Average over these classes only. Predicting another class still counts as wrong."
)
flags.DEFINE_bool(
    "absent_as_zero",
    False,
    "Count a class that occurs in neither truth nor predictions as IoU 0, as the released VOC script does.",
)
flags.DEFINE_bool(
    "trimap", False, "Also score bands of 1 to 40 pixels around boundaries (Fig. 10); included in --report."
)
flags.DEFINE_bool(
    "report", False, "Also write OUT/report.html, with figures, charts, the best and worst images, and the protocol."
)
flags.DEFINE_bool("submission", False, "Also write an archive for the test server of voc12 or cityscapes.")
flags.DEFINE_enum(
    "competition", "comp6", ["comp5", "comp6"], "For VOC: comp6 if trained on more than VOC's data, otherwise comp5."
)
flags.DEFINE_bool(
    "skip_damaged", False, "Leave damaged records out and count them, instead of stopping at the first one."
)
flags.DEFINE_string("out", "", "Folder for the results. Default: WORKDIR/eval/SPLIT.")
flags.DEFINE_bool("overwrite", False, "Also replace files in --out that this command did not write.")


def main() -> int:
    """Wires flags, data and evaluation together; returns the exit status."""
    # Imported here, so that --help and a mistyped flag answer at once.
    import os
    import sys

    import tqdm

    from deeplab_tf import workdir
    from deeplab_tf.commands.data_sets import data_sets
    from deeplab_tf.evaluation import stored as stored_predictions
    from deeplab_tf.evaluation import submission
    from deeplab_tf.evaluation.evaluate import FILES, evaluate, format_table
    from deeplab_tf.evaluation.results import segment_examples
    from deeplab_tf.evaluation.trimap import format_trimap
    from deeplab_tf.runtime import files
    from deeplab_tf.runtime.progress import show_progress
    from deeplab_tf.runtime.written import Written
    from deeplab_tf.training import trained_images

    pipeline, tfrecord, dataset_info = data_sets("pipeline"), data_sets("stored.tfrecord"), data_sets().dataset_info
    training_overlap = data_sets("quality.training_overlap")
    check_flags()
    if FLAGS.skip_damaged:
        manifest, damaged = tfrecord.skip_damaged(FLAGS.data_dir, FLAGS.split)
        print(tfrecord.describe_damage(damaged))
    else:
        manifest = tfrecord.read_manifest(FLAGS.data_dir)
    split = manifest.split(FLAGS.split)
    refuse_flags_without_effect(split.has_labels)
    out_dir = FLAGS.out or os.path.join(FLAGS.workdir or ".", "eval", split.name)
    names = [*FILES, *([REPORT_FILE] if FLAGS.report else [])]
    archive = ""
    if FLAGS.submission:
        archive = os.path.join(out_dir, submission.archive_name(manifest.info, split.name, FLAGS.competition))
        names = [os.path.basename(archive), *(names if split.has_labels else [])]
    if FLAGS.crf_search and (not FLAGS.workdir or not split.has_labels):
        raise UserError("--crf_search needs a --workdir, which gets the best constants, and a split with labels.")
    if FLAGS.crf_search and FLAGS.crf_backend == "pydensecrf":
        raise UserError("--crf_search reuses lattices, which pydensecrf cannot: use --crf_backend=compiled or tf.")
    written = Written(out_dir, "eval")
    # The default folder is this command's own, also where an older version wrote no list.
    written.refuse_others(names, overwrite=FLAGS.overwrite or FLAGS.crf_search or not FLAGS.out)
    loaded = None if FLAGS.predictions else model_flags.load_segmenter(FLAGS.model or FLAGS.workdir, dataset_info)
    if loaded is not None and loaded.config.info.class_names != manifest.info.class_names:
        raise UserError(
            f"the network has the classes {', '.join(loaded.config.info.class_names)}; "
            f"{FLAGS.data_dir} has {', '.join(manifest.info.class_names)}."
        )
    run_of_training = workdir.read_run(FLAGS.workdir) if FLAGS.workdir else {}
    trained = trained_images.read(FLAGS.workdir) if FLAGS.workdir else None
    kept = (trained.now, trained.before) if trained else None
    warnings = [training_overlap.warn_of_overlap(run_of_training, manifest, split.name, kept)]
    print("".join(f"warning: {warning}\n" for warning in warnings if warning), end="")
    files.make_folder(out_dir, "--out")

    failures: list[UserError] = []

    def leave_out(error: UserError) -> None:
        if archive:  # a test server takes whole splits only
            raise error
        failures.append(error)
        tqdm.tqdm.write(f"warning: {error}", file=sys.stderr)

    stored = pipeline.evaluation_examples(FLAGS.data_dir, split.name, split.skipped, needs_labels=not archive)
    examples = ((image_id.decode(), image, labels) for image_id, image, labels in stored.as_numpy_iterator())
    results: Iterator[Result]
    if loaded is None:
        results = stored_predictions.read_results(FLAGS.predictions, examples, manifest.info, leave_out)
    elif FLAGS.crf_search:
        with tfrecord.naming_damage(manifest, split.name):
            search_crf(loaded.segmenter.run_network, examples, split, loaded.config, out_dir)
        return 0
    else:
        segmenter = loaded.with_crf(FLAGS.crf_backend) if FLAGS.crf else loaded.segmenter
        results = segment_examples(segmenter, examples, leave_out=leave_out)
    if archive:
        results = submission.archived(results, archive, manifest.info, FLAGS.competition)
    results = show_progress(results, split.count)
    with tfrecord.naming_damage(manifest, split.name), written.writing(*names):
        if not split.has_labels:
            print(f"{sum(1 for _ in results)} images without labels, for the test server: {archive}")
            return 0
        evaluation = evaluate(
            results,
            split.count,
            manifest.info,
            with_crf=FLAGS.crf,
            score_classes=FLAGS.score_classes or None,
            absent_as_zero=FLAGS.absent_as_zero,
            with_trimap=FLAGS.trimap or FLAGS.report,
            out_dir=out_dir,
        )
        if failures:
            warnings.append(f"{len(failures)} of {split.count} images have no result and are not in the figures.")
        if FLAGS.report:
            path = os.path.join(out_dir, REPORT_FILE)
            config = None if loaded is None else loaded.config
            write_report(evaluation, config, manifest.info, run_of_training, list(filter(None, warnings)), path)
    metrics = evaluation.metrics
    print(format_table(metrics))
    if FLAGS.trimap:
        print(f"\nmean IoU near boundaries, %\n{format_trimap(metrics['trimap'])}\n")
    seconds = metrics["seconds_per_image"]
    print(
        f"{metrics['num_images']} images, "
        + (f"{seconds:.2f} s each for the network, " if seconds is not None else "")
        + f"{metrics['images_per_second']:.2f} images/s in all; see {out_dir}"
    )
    if failures:
        print("\n".join([warnings[-1], *map(str, failures)]), file=sys.stderr)
    return 1 if failures else 0


def check_flags() -> None:
    """Refuses flags that do not go together.

    Raises:
        UserError: it says which.
    """
    if not FLAGS.data_dir:
        raise UserError("--data_dir is required: the folder written by datasets.convert.")
    named = [name for name in ("workdir", "weights", "model", "predictions") if FLAGS[name].value]
    if len(named) > 1:
        raise UserError(f"{' and '.join(f'--{name}' for name in named)}: give only one of them: what to evaluate.")
    if not FLAGS.out and named and named[0] in ("model", "predictions"):
        raise UserError(f"--{named[0]} needs --out too, the folder for the results.")
    folder = shipped.folder_or_path(FLAGS.workdir)
    if folder != FLAGS.workdir:
        if not FLAGS.out or FLAGS.crf_search:
            raise UserError(
                f"--workdir={FLAGS.workdir} comes with the installation, which stays as it is: "
                + ("copy the folder to search constants for it." if FLAGS.crf_search else "add --out, for the results.")
            )
        FLAGS["workdir"].value = folder
    given = [f"--{name}" for name in ("crf", "crf_search") if FLAGS[name].value] + model_flags.inference_changed()
    if FLAGS.predictions and given:
        raise UserError(
            f"--predictions are labels, and scored as they are: leave {', '.join(given)} out. The dense CRF of labels"
            " is a few lines of Python, see docs/crf.md."
        )


def refuse_flags_without_effect(has_labels: bool) -> None:
    """Refuses flags that would change nothing beside the others that are given."""
    if FLAGS.crf_search:
        reason = "--crf_search scores the CRF's constants by the mean IoU, and nothing else"
        names = "crf crf_backend score_classes absent_as_zero trimap report submission competition"
        refuse_idle(dict.fromkeys(names.split(), reason))
        return
    refuse_idle({"crf_search_images": "--crf_search is not given"})
    if not FLAGS.crf:
        refuse_idle({"crf_backend": "--crf is not given"})
        model_flags.refuse_settings({"crf": "--crf is not given"})
    if not FLAGS.submission:
        refuse_idle({"competition": "--submission is not given"})
    if not has_labels:
        unscored = f"{FLAGS.split} has no labels, and is not scored"
        refuse_idle(dict.fromkeys(("score_classes", "absent_as_zero", "trimap", "report"), unscored))


def search_crf(predict: Any, examples: Any, split: Any, config: Any, out_dir: str) -> None:
    """Searches the CRF's constants and writes them into the workdir."""
    import dataclasses
    import os

    from deeplab_tf import workdir
    from deeplab_tf.evaluation import crf_search

    weights = os.stat(os.path.join(FLAGS.workdir, workdir.BEST_WEIGHTS_FILE if FLAGS.best else workdir.WEIGHTS_FILE))
    source = {
        "weights": [weights.st_size, weights.st_mtime_ns],
        "data": [os.path.abspath(FLAGS.data_dir), split.name, split.count],
        "model": dataclasses.asdict(config.model),
        "inference": dataclasses.asdict(config.inference),
    }
    best = crf_search.search(
        predict,
        examples,
        split.count,
        config.info,
        config.crf,
        num_images=FLAGS.crf_search_images,
        source=source,
        out_dir=out_dir,
        backend=FLAGS.crf_backend,
    )
    workdir.write_crf(FLAGS.workdir, best)
    print(f"{best}, now in {FLAGS.workdir}/{workdir.CONFIG_FILE}; the table: {out_dir}/{crf_search.TEXT_FILE}")


def write_report(
    evaluation: "Evaluation",
    config: "Config | None",
    info: "DatasetInfo",
    run_of_training: dict[str, Any],
    warnings: list[str],
    path: str,
) -> None:
    """Tells the report what the flags said."""
    import dataclasses
    import datetime
    import shlex

    from deeplab_tf.crf.backends import choose_backend
    from deeplab_tf.evaluation import protocol, report

    scoring = {"crf": FLAGS.crf, "absent_as_zero": FLAGS.absent_as_zero}
    training = {"run": run_of_training, "weights": FLAGS.weights or FLAGS.model}
    about = report.About(
        title=f"{config.experiment if config else FLAGS.predictions} on {info.name} {FLAGS.split}",
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=shlex.join(command_as_typed()),
        protocol=protocol.describe_scoring(FLAGS.absent_as_zero),
        training={"Predictions": f"the labels in {FLAGS.predictions}, not made here"},
        differences=["Nothing is known of how the predictions were made."],
        warnings=warnings,
    )
    if config is not None:
        differences = protocol.differences_from_the_paper(
            config, score_classes=FLAGS.score_classes, **training, **scoring
        )
        about = dataclasses.replace(
            about,
            protocol=protocol.describe_protocol(config, crf_backend=choose_backend(FLAGS.crf_backend), **scoring),
            training=protocol.describe_training(config, **training),
            differences=differences,
        )
    report.write_report(path, evaluation, config, about, info)


def command() -> None:
    """Runs the command: what eval.py and `deeplab-eval` call."""
    run(main, frozen_weights=True)
