r"""Exports a trained DeepLabv2 as a SavedModel, for TensorFlow and TensorFlow Serving, or for TensorFlow Lite.

  python export.py --workdir=runs/large_fov --out=exported/large_fov --crf
  docker run -p 8501:8501 -e MODEL_NAME=deeplab \
    -v "$PWD/exported/large_fov/saved_model:/models/deeplab" tensorflow/serving

  python export.py --workdir=runs/lite --out=exported/lite --size=257 --data_dir=data/voc12 \
    --formats=tflite,tflite_int8

Padding, mean subtraction and upsampling are inside: the answers are those of eval.py with the same flags. The
SavedModel takes images of any size unless --size is given; TensorFlow Lite files need it, and never have the CRF.
"""

from typing import Any

from absl import flags

from deeplab_tf import model_flags
from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import refuse_idle, run

TFLITE_FORMATS = ("tflite", "tflite_float16", "tflite_dynamic", "tflite_int8")
FORMATS = ("saved_model", *TFLITE_FORMATS)
# Pictures that a TensorFlow Lite file is compared on.
TRIED = 2
FLAGS = flags.FLAGS
model_flags.define()
flags.DEFINE_string("out", "", "Folder for the export: OUT/saved_model/1, OUT/EXPERIMENT.tflite.")
flags.DEFINE_list("formats", ["saved_model"], f"What to write, of {', '.join(FORMATS)}.")
flags.DEFINE_bool("crf", False, "Put the dense CRF, with the workdir's parameters, into the SavedModel.")
flags.DEFINE_string(
    "size", "", "The only size of images that the export takes, such as 513 or HEIGHTxWIDTH. Default: any size."
)
flags.DEFINE_enum(
    "precision",
    None,
    ["float32", "bfloat16", "float16"],
    "What the SavedModel computes in; the workdir's by default. bfloat16 is for new CPUs, float16 for GPUs.",
)
flags.DEFINE_string(
    "data_dir", "", "Folder of datasets.convert: pictures to calibrate tflite_int8 and to try files on."
)
flags.DEFINE_string("calibration_split", "", "Split of --data_dir to take them from; the training split by default.")
flags.DEFINE_integer("calibration_images", 100, "How many of them calibrate tflite_int8.", lower_bound=1)
flags.DEFINE_bool("overwrite", False, "Replace an earlier export in --out.")


def main() -> None:
    """Wires flags, model and export together."""
    # Imported here, so that --help and a mistyped flag answer at once.
    from datasets import dataset_info
    from deeplab_tf.export import tflite
    from deeplab_tf.export.saved_model import export_saved_model, saved_model_path
    from deeplab_tf.networks.deeplab import rebuild
    from deeplab_tf.runtime import files

    if not FLAGS.out:
        raise UserError("--out is needed: the folder for the export.")
    unknown = [name for name in FLAGS.formats if name not in FORMATS]
    if unknown or not FLAGS.formats:
        raise UserError(f"--formats knows {', '.join(FORMATS)}; got {', '.join(unknown) or 'none'}.")
    if "tflite_int8" in FLAGS.formats and not FLAGS.data_dir:
        raise UserError(
            "tflite_int8 is calibrated on pictures that show what the network will see: "
            "add --data_dir=DIR, the folder of datasets.convert that it was trained on."
        )
    size = parse_size(FLAGS.size)
    if not any(name in TFLITE_FORMATS for name in FLAGS.formats):
        for_tflite = "it is for TensorFlow Lite files, and --formats names none"
        refuse_idle(dict.fromkeys(("data_dir", "calibration_split", "calibration_images"), for_tflite))
    if "tflite_int8" not in FLAGS.formats:
        refuse_idle({"calibration_images": "only tflite_int8 is calibrated, and --formats does not name it"})
    if not FLAGS.data_dir:
        refuse_idle({"calibration_split": "--data_dir is not given"})
    model, config = model_flags.load(FLAGS.workdir, dataset_info, FLAGS.precision)
    tflite_formats = [name for name in TFLITE_FORMATS if name in FLAGS.formats]
    if tflite_formats:
        tflite_size = tflite.check_size(size, model.size_multiple)
    # All of them before the first is written.
    if "saved_model" in FLAGS.formats:
        files.refuse_existing(saved_model_path(FLAGS.out), FLAGS.overwrite)
    for name in tflite_formats:
        files.refuse_existing(tflite.tflite_path(FLAGS.out, config, name), FLAGS.overwrite)
    if tflite_formats:
        count = FLAGS.calibration_images if "tflite_int8" in tflite_formats else TRIED
        pictures = list(pictures_of(FLAGS.data_dir, config.info.train_split, count, tflite_size, model.mean_rgb))

    if "saved_model" in FLAGS.formats:
        path = export_saved_model(model, config, FLAGS.out, crf=FLAGS.crf, size=size, overwrite=FLAGS.overwrite)
        inside = f"{model.backbone.compute_dtype}, {'with' if FLAGS.crf else 'without'} the CRF"
        print(f"exported {config.experiment} for {config.info.num_classes} classes, {inside}: {path}")
    if not tflite_formats:
        return
    if FLAGS.crf:
        print("the CRF is not in the TensorFlow Lite files: it needs operations that TensorFlow Lite does not have.")
    # Dilated convolutions stay one operation each, and are faster than deinterlacing there (docs/tflite.md).
    mobile = rebuild(model, "dilated")
    for name in tflite_formats:
        print(f"converting to {name} ...", flush=True)
        written = tflite.export_tflite(
            mobile,
            config,
            FLAGS.out,
            name,
            size=tflite_size,
            pictures=pictures[:TRIED] or [tflite.made_up_picture(tflite_size)],
            calibration=pictures if name == "tflite_int8" else (),
            overwrite=FLAGS.overwrite,
        )
        print(
            f"exported {config.experiment}, {written.num_bytes / 1e6:.1f} MB, {100 * written.agreement:.2f} % of the "
            f"pixels as in float32: {written.path}"
        )


def parse_size(text: str) -> tuple[int | None, int | None]:
    """Reads --size: a number, two numbers with an x between them, or nothing."""
    if not text:
        return None, None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
        raise UserError(f"--size takes pixels, such as 513, or HEIGHTxWIDTH, such as 257x449; got {text}.")
    return int(sides[0]), int(sides[-1])


def pictures_of(
    data_dir: str, train_split: str, count: int, size: tuple[int, int], mean_rgb: tuple[float, float, float]
) -> Any:
    """Yields the first pictures of --calibration_split, uint8 [H, W, 3], made to fit; none without a data set."""
    from datasets import pipeline
    from datasets.stored import tfrecord
    from deeplab_tf.images.fit import fit_image

    if not data_dir:
        return
    manifest = tfrecord.read_manifest(data_dir)
    split = FLAGS.calibration_split or (train_split if train_split in manifest.splits else "train")
    stored = pipeline.evaluation_examples(data_dir, split, manifest.split(split).skipped)
    for _, image, _ in stored.take(count).as_numpy_iterator():
        yield fit_image(image, size, mean_rgb)[0]


if __name__ == "__main__":
    run(main)
