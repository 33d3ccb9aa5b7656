r"""Exports a trained DeepLabv2 as a SavedModel, for TensorFlow and TensorFlow Serving, or for other programs.

  python export.py --workdir=runs/large_fov --out=exported/large_fov --crf
  docker run -p 8501:8501 -e MODEL_NAME=deeplab \
    -v "$PWD/exported/large_fov/saved_model:/models/deeplab" tensorflow/serving

  python export.py --workdir=runs/lite --out=exported/lite --size=257 --data_dir=data/voc12 \
    --formats=tflite,tflite_int8

  pip install -r requirements-export.txt -c constraints-export.txt
  python export.py --workdir=runs/lite --out=exported/lite --formats=onnx,openvino --data_dir=data/voc12

Padding, mean subtraction and upsampling are inside: the answers are those of eval.py with the same flags. The
files take images of any size unless --size is given. TensorFlow Lite files need it. Only the SavedModel has the CRF.
"""

from typing import Any

from absl import flags

from deeplab_tf import model_flags
from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import refuse_idle, run

TFLITE_FORMATS = ("tflite", "tflite_float16", "tflite_dynamic", "tflite_int8")
ONNX_FORMATS = ("onnx", "onnx_float16", "onnx_int8")
FORMATS = ("saved_model", *TFLITE_FORMATS, *ONNX_FORMATS, "openvino")
# Pictures that a file for another program is compared on.
TRIED = 2
FLAGS = flags.FLAGS
model_flags.define()
flags.DEFINE_string("out", "", "Folder for the export: OUT/saved_model/1, OUT/EXPERIMENT.tflite, .onnx, .xml.")
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
flags.DEFINE_string("data_dir", "", "Folder of datasets.convert: pictures to calibrate int8 files and to try files on.")
flags.DEFINE_string("calibration_split", "", "Split of --data_dir to take them from; the training split by default.")
flags.DEFINE_integer("calibration_images", 100, "How many of them calibrate int8 files.", lower_bound=1)
flags.DEFINE_bool("overwrite", False, "Replace an earlier export in --out.")


def main() -> None:
    """Wires flags, model and export together."""
    # Imported here, so that --help and a mistyped flag answer at once.
    from datasets import dataset_info
    from deeplab_tf.export import compare, onnx, openvino, packages, tflite
    from deeplab_tf.export.saved_model import export_saved_model, saved_model_path
    from deeplab_tf.networks.deeplab import rebuild
    from deeplab_tf.runtime import files

    if not FLAGS.out:
        raise UserError("--out is needed: the folder for the export.")
    unknown = [name for name in FLAGS.formats if name not in FORMATS]
    if unknown or not FLAGS.formats:
        raise UserError(f"--formats knows {', '.join(FORMATS)}; got {', '.join(unknown) or 'none'}.")
    int8 = [name for name in FLAGS.formats if name.endswith("_int8")]
    if int8 and not FLAGS.data_dir:
        raise UserError(
            f"{int8[0]} is calibrated on pictures that show what the network will see: "
            "add --data_dir=DIR, the folder of datasets.convert that it was trained on."
        )
    size = parse_size(FLAGS.size)
    if FLAGS.formats == ["saved_model"]:
        for_others = "it is for files for other programs, and --formats names none"
        refuse_idle(dict.fromkeys(("data_dir", "calibration_split", "calibration_images"), for_others))
    if not int8:
        refuse_idle({"calibration_images": "only int8 files are calibrated, and --formats names none"})
    if not FLAGS.data_dir:
        refuse_idle({"calibration_split": "--data_dir is not given"})
    model, config = model_flags.load(FLAGS.workdir, dataset_info, FLAGS.precision)
    tflite_formats = [name for name in TFLITE_FORMATS if name in FLAGS.formats]
    onnx_formats = [name for name in ONNX_FORMATS if name in FLAGS.formats]
    if tflite_formats:
        tflite_size = tflite.check_size(size, model.size_multiple)
    if onnx_formats:
        packages.require("tf2onnx", onnx_formats[0])
        packages.require("onnxruntime", onnx_formats[0])
    if "openvino" in FLAGS.formats:
        packages.require("openvino", "openvino")
    portable = [*onnx_formats, *(["openvino"] if "openvino" in FLAGS.formats else [])]
    others = [*tflite_formats, *portable]
    if others and config.inference.tile:
        raise UserError(f"{others[0]} has no tiles inside: leave --tile out.")
    # All of them before the first is written.
    if "saved_model" in FLAGS.formats:
        files.refuse_existing(saved_model_path(FLAGS.out), FLAGS.overwrite)
    for name in tflite_formats:
        files.refuse_existing(tflite.tflite_path(FLAGS.out, config, name), FLAGS.overwrite)
    for name in onnx_formats:
        files.refuse_existing(onnx.onnx_path(FLAGS.out, config, name), FLAGS.overwrite)
    if "openvino" in portable:
        files.refuse_existing(openvino.openvino_path(FLAGS.out, config), FLAGS.overwrite)
    if others:
        count = FLAGS.calibration_images if int8 else TRIED
        pictures = list(pictures_of(FLAGS.data_dir, config.info.train_split, count, size, model.mean_rgb))

    if "saved_model" in FLAGS.formats:
        path = export_saved_model(model, config, FLAGS.out, crf=FLAGS.crf, size=size, overwrite=FLAGS.overwrite)
        inside = f"{model.backbone.compute_dtype}, {'with' if FLAGS.crf else 'without'} the CRF"
        print(f"exported {config.experiment} for {config.info.num_classes} classes, {inside}: {path}")
    if not others:
        return
    if FLAGS.crf:
        print(f"the CRF is not in {', '.join(others)}: it needs operations that these do not have.")
    # Dilated convolutions stay one operation each, and are faster than deinterlacing there (docs/tflite.md).
    mobile = rebuild(model, "dilated")

    def say(written: compare.Written) -> None:
        print(
            f"exported {config.experiment}, {written.num_bytes / 1e6:.1f} MB, {100 * written.agreement:.2f} % of the "
            f"pixels as in float32: {written.path}",
            flush=True,
        )

    for name in tflite_formats:
        print(f"converting to {name} ...", flush=True)
        written = tflite.export_tflite(
            mobile,
            config,
            FLAGS.out,
            name,
            size=tflite_size,
            pictures=pictures[:TRIED] or [compare.made_up_picture(tflite_size)],
            calibration=pictures if name == "tflite_int8" else (),
            overwrite=FLAGS.overwrite,
        )
        say(written)
    if not portable:
        return
    if None in size:
        tried = compare.pictures_of_two_sizes(pictures, model.size_multiple)
    else:
        tried = pictures[:TRIED] or [compare.made_up_picture((size[0] or 0, size[1] or 0))]
    print(f"converting to {', '.join(portable)} ...", flush=True)
    common: dict[str, Any] = {"size": size, "pictures": tried, "overwrite": FLAGS.overwrite}
    for written in onnx.export_onnx(mobile, config, FLAGS.out, onnx_formats, calibration=pictures, **common):
        say(written)
    if "openvino" in portable:
        say(openvino.export_openvino(mobile, config, FLAGS.out, **common))


def parse_size(text: str) -> tuple[int | None, int | None]:
    """Reads --size: a number, two numbers with an x between them, or nothing."""
    if not text:
        return None, None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
        raise UserError(f"--size takes pixels, such as 513, or HEIGHTxWIDTH, such as 257x449; got {text}.")
    return int(sides[0]), int(sides[-1])


def pictures_of(
    data_dir: str,
    train_split: str,
    count: int,
    size: tuple[int | None, int | None],
    mean_rgb: tuple[float, float, float],
) -> Any:
    """Yields the first pictures of --calibration_split, uint8 [H, W, 3], of that size; none without a data set."""
    from datasets import pipeline
    from datasets.stored import tfrecord
    from deeplab_tf.images.fit import fit_image

    if not data_dir:
        return
    height, width = size
    manifest = tfrecord.read_manifest(data_dir)
    split = FLAGS.calibration_split or (train_split if train_split in manifest.splits else "train")
    stored = pipeline.evaluation_examples(data_dir, split, manifest.split(split).skipped)
    for _, image, _ in stored.take(count).as_numpy_iterator():
        yield image if height is None or width is None else fit_image(image, (height, width), mean_rgb)[0]


if __name__ == "__main__":
    run(main)
