"""Evaluates a trained DeepLabv2: one confusion matrix over a split, before and after the dense CRF.

  python eval.py --workdir=runs/large_fov --data_dir=data/voc12 --crf

Writes OUT/metrics.json, OUT/panel.png and OUT/pictures/. Whatever is evaluated here, predict.py and export.py
answer in the same way.
"""

from absl import flags

from deeplab_tf import model_flags
from deeplab_tf.command_line import run
from deeplab_tf.errors import UserError

FLAGS = flags.FLAGS
model_flags.define()
flags.DEFINE_string("data_dir", "", "Folder written by datasets.convert.")
flags.DEFINE_string("split", "val", "Split to evaluate.")
flags.DEFINE_bool("crf", False, "Also refine every answer with the dense CRF.")
flags.DEFINE_enum(
    "crf_backend", "tf", ["tf", "pydensecrf"], "What computes the CRF; pydensecrf needs requirements-crf.txt."
)
flags.DEFINE_list("score_classes", [], "Average over these classes only; the others stay possible (wrong) answers.")
flags.DEFINE_bool("skip_damaged", False, "Leave damaged records out and count them, instead of stopping at one.")
flags.DEFINE_string("out", "", "Folder for the results; WORKDIR/eval/SPLIT by default.")


def main() -> None:
    """Wires flags, data and evaluation together."""
    # Imported here, so that --help and a mistyped flag answer at once.
    import functools
    import os

    from datasets import dataset_info, pipeline, tfrecord
    from deeplab_tf.evaluation import evaluate, format_table
    from deeplab_tf.inference import predict_probabilities

    if not FLAGS.data_dir:
        raise UserError("--data_dir is needed: the folder of datasets.convert.")
    if FLAGS.skip_damaged:
        manifest, damaged = tfrecord.skip_damaged(FLAGS.data_dir, FLAGS.split)
        print(tfrecord.describe_damage(damaged))
    else:
        manifest = tfrecord.read_manifest(FLAGS.data_dir)
    count = manifest.split(FLAGS.split).count
    model, config = model_flags.load(FLAGS.workdir, dataset_info)
    if config.dataset.class_names != manifest.info.class_names:
        raise UserError(
            f"the network knows the classes {', '.join(config.dataset.class_names)}; "
            f"{FLAGS.data_dir} has {', '.join(manifest.info.class_names)}."
        )
    out_dir = FLAGS.out or os.path.join(FLAGS.workdir or ".", "eval", FLAGS.split)
    stored = pipeline.evaluation_examples(FLAGS.data_dir, FLAGS.split, manifest.split(FLAGS.split).skipped)
    examples = ((image_id.decode(), image, labels) for image_id, image, labels in stored.as_numpy_iterator())
    with tfrecord.naming_damage(manifest, FLAGS.split):
        metrics = evaluate(
            functools.partial(predict_probabilities, model, options=config.inference),
            examples,
            count,
            manifest.info,
            crf=config.crf if FLAGS.crf else None,
            crf_backend=FLAGS.crf_backend,
            score_classes=FLAGS.score_classes or None,
            out_dir=out_dir,
        )
    print(format_table(metrics))
    print(f"{count} images, {metrics['seconds_per_image']:.2f} s each for the network; see {out_dir}")


if __name__ == "__main__":
    run(main)
