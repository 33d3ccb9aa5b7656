"""Evaluates a trained DeepLabv2: one confusion matrix over a split, before and after the dense CRF.

  python eval.py --workdir=runs/large_fov --data_dir=data/voc12 --crf --report

Writes OUT/metrics.json, OUT/panel.png and OUT/pictures/; with --report also OUT/report.html. Whatever is evaluated
here, predict.py and export.py answer in the same way. A split without labels gives an archive for a test server:

  python eval.py --workdir=runs/large_fov --data_dir=data/voc12 --split=test --submission --crf

Constants of the CRF that suit a network and its data are found, and written into the workdir, by

  python eval.py --workdir=runs/large_fov --data_dir=data/voc12 --crf_search
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from absl import flags

from deeplab_tf import model_flags
from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import refuse_idle, run

if TYPE_CHECKING:
    from deeplab_tf.evaluation.results import Result

FLAGS = flags.FLAGS
model_flags.define()
flags.DEFINE_string("data_dir", "", "Folder written by datasets.convert.")
flags.DEFINE_string("split", "val", "Split to evaluate.")
flags.DEFINE_bool("crf", False, "Also refine every answer with the dense CRF.")
flags.DEFINE_enum(
    "crf_backend",
    "auto",
    ["auto", "compiled", "tf", "pydensecrf"],
    "What computes the CRF. auto: tf where there is a GPU, else compiled; pydensecrf needs requirements-crf.txt.",
)
flags.DEFINE_bool("crf_search", False, "Instead: cross-validate the CRF's constants, and write the best into WORKDIR.")
flags.DEFINE_integer("crf_search_images", 100, "Images of the split for that, evenly spread.", lower_bound=1)
flags.DEFINE_list("score_classes", [], "Average over these classes only; the others stay possible (wrong) answers.")
flags.DEFINE_bool(
    "absent_as_zero", False, "Count a class in neither labels nor answers as IoU 0, as the released VOC script does."
)
flags.DEFINE_bool("trimap", False, "Also score bands of 1 to 40 pixels around boundaries (Fig. 10); part of --report.")
flags.DEFINE_bool("report", False, "Also write OUT/report.html: figures, charts, best and worst images, the protocol.")
flags.DEFINE_bool("submission", False, "Also write an archive for the test server of voc12 or cityscapes.")
flags.DEFINE_enum(
    "competition", "comp6", ["comp5", "comp6"], "Of VOC: comp6 if trained with more than VOC's data, else comp5."
)
flags.DEFINE_bool("skip_damaged", False, "Leave damaged records out and count them, instead of stopping at one.")
flags.DEFINE_string("out", "", "Folder for the results; WORKDIR/eval/SPLIT by default.")


def main() -> None:
    """Wires flags, data and evaluation together."""
    # Imported here, so that --help and a mistyped flag answer at once.
    import os

    from datasets import dataset_info, pipeline
    from datasets.quality import training_overlap
    from datasets.stored import tfrecord
    from deeplab_tf import workdir
    from deeplab_tf.evaluation import submission
    from deeplab_tf.evaluation.evaluate import evaluate, format_table
    from deeplab_tf.evaluation.results import segment_examples
    from deeplab_tf.evaluation.trimap import format_trimap
    from deeplab_tf.export.load import segmenter_of_network
    from deeplab_tf.runtime import files
    from deeplab_tf.runtime.progress import show_progress
    from deeplab_tf.training import trained_images

    if not FLAGS.data_dir:
        raise UserError("--data_dir is needed: the folder of datasets.convert.")
    if FLAGS.skip_damaged:
        manifest, damaged = tfrecord.skip_damaged(FLAGS.data_dir, FLAGS.split)
        print(tfrecord.describe_damage(damaged))
    else:
        manifest = tfrecord.read_manifest(FLAGS.data_dir)
    split = manifest.split(FLAGS.split)
    refuse_flags_without_effect(split.has_labels)
    out_dir = FLAGS.out or os.path.join(FLAGS.workdir or ".", "eval", split.name)
    archive = ""
    if FLAGS.submission:
        archive = os.path.join(out_dir, submission.archive_name(manifest.info, split.name, FLAGS.competition))
    if FLAGS.crf_search and (not FLAGS.workdir or not split.has_labels):
        raise UserError("--crf_search needs a --workdir, which gets the best constants, and a split with labels.")
    if FLAGS.crf_search and FLAGS.crf_backend == "pydensecrf":
        raise UserError("--crf_search uses a lattice many times, and pydensecrf cannot: --crf_backend=compiled or tf.")
    model, config = model_flags.load(FLAGS.workdir, dataset_info)
    if config.info.class_names != manifest.info.class_names:
        raise UserError(
            f"the network knows the classes {', '.join(config.info.class_names)}; "
            f"{FLAGS.data_dir} has {', '.join(manifest.info.class_names)}."
        )
    run_of_training = workdir.read_run(FLAGS.workdir) if FLAGS.workdir else {}
    trained = trained_images.read(FLAGS.workdir) if FLAGS.workdir else None
    kept = (trained.now, trained.before) if trained else None
    overlap = training_overlap.warn_of_overlap(run_of_training, manifest, split.name, kept)
    if overlap:
        print(f"warning: {overlap}")
    files.make_folder(out_dir, "--out")

    stored = pipeline.evaluation_examples(FLAGS.data_dir, split.name, split.skipped, needs_labels=not archive)
    examples = ((image_id.decode(), image, labels) for image_id, image, labels in stored.as_numpy_iterator())
    loaded = segmenter_of_network(model, config)
    if FLAGS.crf_search:
        with tfrecord.naming_damage(manifest, split.name):
            search_crf(loaded.segmenter.run_network, examples, split, config, out_dir)
        return
    segmenter = loaded.with_crf(FLAGS.crf_backend) if FLAGS.crf else loaded.segmenter
    results: Iterator[Result] = segment_examples(segmenter, examples)
    if archive:
        results = submission.archived(results, archive, manifest.info, FLAGS.competition)
    results = show_progress(results, split.count)
    with tfrecord.naming_damage(manifest, split.name):
        if not split.has_labels:
            print(f"{sum(1 for _ in results)} images without labels, for the test server: {archive}")
            return
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
    metrics = evaluation.metrics
    print(format_table(metrics))
    if FLAGS.trimap:
        print(f"\nmean IoU near boundaries, %\n{format_trimap(metrics['trimap'])}\n")
    if FLAGS.report:
        write_report(evaluation, config, run_of_training, overlap, os.path.join(out_dir, "report.html"))
    print(
        f"{split.count} images, {metrics['seconds_per_image']:.2f} s each for the network, "
        f"{metrics['images_per_second']:.2f} images/s in all; see {out_dir}"
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


def write_report(evaluation: Any, config: Any, run_of_training: dict[str, Any], overlap: str, path: str) -> None:
    """Tells the report what the flags said."""
    import datetime
    import shlex
    import sys

    from deeplab_tf.crf.dense_crf import choose_backend
    from deeplab_tf.evaluation import protocol, report

    scoring = {"crf": FLAGS.crf, "absent_as_zero": FLAGS.absent_as_zero}
    training = {"run": run_of_training, "weights": FLAGS.weights}
    about = report.About(
        title=f"{config.experiment} on {config.info.name} {FLAGS.split}",
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=shlex.join(["python", *sys.argv]),
        protocol=protocol.describe_protocol(config, crf_backend=choose_backend(FLAGS.crf_backend), **scoring),
        training=protocol.describe_training(config, **training),
        differences=protocol.differences_from_the_paper(
            config, score_classes=FLAGS.score_classes, **training, **scoring
        ),
        warnings=[overlap] if overlap else [],
    )
    report.write_report(path, evaluation, config, about)


if __name__ == "__main__":
    run(main, frozen_weights=True)
