r"""Exports a trained DeepLabv2 as a SavedModel that takes uint8 RGB images of any size.

  python export.py --workdir=runs/large_fov --out=exported/large_fov
  docker run -p 8501:8501 -e MODEL_NAME=deeplab \
    -v "$PWD/exported/large_fov/saved_model:/models/deeplab" tensorflow/serving

Resizing to clean sizes, mean subtraction and upsampling are inside: the answers are those of eval.py.
"""

from absl import flags

from deeplab_tf import model_flags
from deeplab_tf.command_line import run
from deeplab_tf.errors import UserError

FORMATS = ("saved_model",)
FLAGS = flags.FLAGS
model_flags.define()
flags.DEFINE_string("out", "", "Folder for the export; the SavedModel is OUT/saved_model/1.")
flags.DEFINE_list("formats", ["saved_model"], "What to write: saved_model.")
flags.DEFINE_integer("size", None, "Side of the images, in pixels; any height and width by default.", lower_bound=1)
flags.DEFINE_bool("overwrite", False, "Replace an earlier export in --out.")


def main() -> None:
    """Wires flags, model and export together."""
    # Imported here, so that --help and a mistyped flag answer at once.
    from datasets import dataset_info
    from deeplab_tf.saved_model import export_saved_model

    if not FLAGS.out:
        raise UserError("--out is needed: the folder for the export.")
    unknown = [name for name in FLAGS.formats if name not in FORMATS]
    if unknown:
        raise UserError(f"--formats knows {', '.join(FORMATS)}; got {', '.join(unknown)}.")
    model, config = model_flags.load(FLAGS.workdir, dataset_info)
    path = export_saved_model(model, config, FLAGS.out, size=FLAGS.size, overwrite=FLAGS.overwrite)
    print(f"exported {config.experiment} for {config.dataset.num_classes} classes: {path}")


if __name__ == "__main__":
    run(main)
