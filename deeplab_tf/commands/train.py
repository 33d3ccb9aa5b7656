"""Trains a DeepLabv2, or resumes: the same command goes on where the last one stopped.

  python train.py --experiment=vgg16_large_fov --data_dir=data/voc12 --workdir=runs/large_fov

The data come from `python -m datasets.convert`. Progress is shown here and in TensorBoard; the trained
network is WORKDIR/model.weights.h5, and eval.py, predict.py and export.py take the WORKDIR. Ctrl-C and
SIGTERM save before they stop.
"""

from absl import flags

from deeplab_tf.runtime.command_line import run

FLAGS = flags.FLAGS
flags.DEFINE_string("experiment", "", "Network and solver, such as vgg16_large_fov or resnet101_aspp_msc.")
flags.DEFINE_string(
    "recipe",
    "",
    "How to train, for all experiments: small_data (some hundred to some thousand images) or fine_tune (to go on from "
    "--init=WORKDIR). --set comes after it.",
)
flags.DEFINE_string("data_dir", "", "Folder written by datasets.convert.")
flags.DEFINE_string("workdir", "", "Folder of this run: settings, checkpoints, TensorBoard events, weights.")
flags.DEFINE_string("split", "", "Split to train on; by default trainaug where the data set has it, else train.")
flags.DEFINE_string(
    "eval_split",
    "",
    "Split to validate on every train.eval_every updates, such as val; the weights of the best mean IoU are kept as "
    "WORKDIR/best.weights.h5.",
)
flags.DEFINE_string(
    "init",
    "imagenet",
    "Where the weights start: imagenet (the file that Keras publishes, from its cache or downloaded; for EfficientNet "
    "the installed package's), hed (a VGG-16 "
    "trunk trained on ImageNet and BSDS, installed with the requirements; wants another solver, see the README), none "
    "(random, with the statistics of the first crops in batch normalisations), a weights file, or the workdir of "
    "another run.",
)
flags.DEFINE_bool(
    "dry_run",
    False,
    "Do everything once, say what memory, disk and time the whole training would take, and leave nothing behind.",
)
flags.DEFINE_bool("skip_damaged", False, "Leave damaged records out and count them, instead of stopping at one.")
flags.DEFINE_enum(
    "strategy", "auto", ["auto", "one_device", "mirrored", "multi_worker"], "How devices are used (tf.distribute)."
)
flags.DEFINE_multi_string(
    "set",
    [],
    "section.field=value, changing the experiment: model.*, train.*, optimizer.*, crf.*. May be repeated. "
    "Example: --set=train.batch_size=4 --set=optimizer.base_lr=0.0005",
)


def main() -> None:
    """Trains as the flags say."""
    # Imported here, so that --help and a mistyped flag answer at once.
    from deeplab_tf.commands.trainer import run_training

    run_training(
        FLAGS.experiment,
        FLAGS.data_dir,
        FLAGS.workdir,
        recipe=FLAGS.recipe,
        split=FLAGS.split,
        eval_split=FLAGS.eval_split,
        init=FLAGS.init,
        strategy=FLAGS.strategy,
        skip_damaged=FLAGS.skip_damaged,
        assignments=FLAGS["set"].value or (),
        dry_run=FLAGS.dry_run,
    )


def command() -> None:
    """Runs the command: what train.py and `deeplab-train` call."""
    run(main)
