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
from deeplab_tf.export import FORMATS
from deeplab_tf.runtime.command_line import refuse_idle, run

# Pictures of --data_dir that files for other programs are compared on.
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
flags.DEFINE_bool(
    "probabilities",
    False,
    "TensorFlow Lite files give probabilities, as MediaPipe's ImageSegmenter takes them, instead of labels.",
)
flags.DEFINE_bool("overwrite", False, "Replace an earlier export in --out.")


def main() -> None:
    """Wires flags, model and export together."""
    # Imported here, so that --help and a mistyped flag answer at once.
    import importlib

    from datasets import dataset_info
    from deeplab_tf.export.kind import Job
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
    if not any(name.startswith("tflite") for name in FLAGS.formats):
        refuse_idle({"probabilities": "it is for TensorFlow Lite files, and --formats names none"})
    if not FLAGS.data_dir:
        refuse_idle({"calibration_split": "--data_dir is not given"})
    model, config = model_flags.load(FLAGS.workdir, dataset_info, FLAGS.precision)
    wanted = {name: FORMATS[name] for name in FORMATS if name in FLAGS.formats}
    # The kinds of files, each with its formats.
    chosen = [
        (
            importlib.import_module(f"deeplab_tf.export.{module}").KIND,
            [name for name in wanted if wanted[name] == module],
        )
        for module in dict.fromkeys(wanted.values())
    ]
    others = [name for name in wanted if name != "saved_model"]
    for kind, names in chosen:
        kind.check(names, size, model.size_multiple)
    if others and config.inference.tile:
        raise UserError(f"{others[0]} has no tiles inside: leave --tile out.")
    # All of them before the first is written.
    for kind, names in chosen:
        for name in names:
            files.refuse_existing(kind.path_of(FLAGS.out, config, name), FLAGS.overwrite)
    pictures = []
    if others:
        count = FLAGS.calibration_images if int8 else TRIED
        pictures = list(pictures_of(FLAGS.data_dir, config.info.train_split, count, size, model.mean_rgb))
    if FLAGS.crf and others:
        print(f"the CRF will not be in {', '.join(others)}: it needs operations that these do not have.")
    job = Job(model, config, FLAGS.out, size, pictures, FLAGS.crf, FLAGS.probabilities, FLAGS.overwrite)
    for kind, names in chosen:
        for line in kind.write(job, names):
            print(line, flush=True)


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
