"""Trains a DeepLabv2, or resumes a training: the same command continues where the last one stopped.

  python train.py --experiment=efficientnet_lite0_aspp --data_dir=data/mine --workdir=runs/mine --eval_split=val

The data come from `python -m datasets.convert`. Progress is shown here and in TensorBoard. The trained network
is WORKDIR/model.weights.h5; eval.py, predict.py and export.py take the WORKDIR. After Ctrl-C or SIGTERM, the
command saves before it stops.
"""

from absl import flags

from deeplab_tf.runtime.command_line import run

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "experiment",
    "",
    "Network and solver, such as efficientnet_lite0_aspp or resnet101_aspp; --list_experiments shows all.",
)
flags.DEFINE_bool("list_experiments", False, "Show the experiments: network, weights, and for whom each is. Then stop.")
flags.DEFINE_string(
    "config",
    "",
    "YAML or JSON file of settings, such as another workdir's config.json or a part of it: experiment, model, train, "
    "optimizer, crf, inference. --recipe and --set come after it.",
)
flags.DEFINE_string(
    "recipe",
    "",
    "Several settings at once, for any experiment: small_data (a few hundred to a few thousand images) or fine_tune "
    "(to continue from --init=WORKDIR). --set is applied after it.",
)
flags.DEFINE_string("data_dir", "", "Folder written by datasets.convert.")
flags.DEFINE_string("workdir", "", "Folder of this run: settings, checkpoints, TensorBoard events, weights.")
flags.DEFINE_string("split", "", "Split to train on. Default: trainaug if the data set has it, otherwise train.")
flags.DEFINE_string(
    "eval_split",
    "",
    "Split to validate on every train.eval_every updates, such as val. The weights with the best mean IoU are kept as "
    "WORKDIR/best.weights.h5.",
)
flags.DEFINE_string(
    "init",
    "imagenet",
    "Initial weights: imagenet (the file that Keras publishes, from its cache or downloaded; for EfficientNet, from "
    "the installed package), hed (a VGG-16 trunk trained on ImageNet and BSDS, installed with the requirements; it "
    "needs another solver, see docs/training.md), none (random; batch normalisation takes the statistics of the first "
    "crops), a weights file, or the workdir of another training.",
)
flags.DEFINE_bool(
    "dry_run",
    False,
    "Run every step once, estimate the memory, disk space and time of the whole training, and leave nothing behind.",
)
flags.DEFINE_bool("other_data", False, "Continue a workdir even if it was trained on other images.")
flags.DEFINE_bool("skip_damaged", False, "Leave damaged records out and count them, instead of stopping at one.")
flags.DEFINE_enum(
    "strategy", "auto", ["auto", "one_device", "mirrored", "multi_worker"], "How devices are used (tf.distribute)."
)
flags.DEFINE_multi_string(
    "set",
    [],
    "section.field=value: change a setting of model, train, optimizer or crf, such as train.batch_size=4 "
    "(docs/settings.md lists all).",
)


def main() -> None:
    """Trains as the flags say."""
    # Imported here, so that --help and a mistyped flag answer at once.
    from deeplab_tf.commands.trainer import run_training

    if FLAGS.list_experiments:
        from deeplab_tf.training import catalogue

        print(catalogue.table())
        return
    run_training(
        FLAGS.experiment,
        FLAGS.data_dir,
        FLAGS.workdir,
        config_file=FLAGS.config,
        recipe=FLAGS.recipe,
        split=FLAGS.split,
        eval_split=FLAGS.eval_split,
        init=FLAGS.init,
        strategy=FLAGS.strategy,
        skip_damaged=FLAGS.skip_damaged,
        assignments=FLAGS["set"].value or (),
        dry_run=FLAGS.dry_run,
        other_data=FLAGS.other_data,
    )


def command() -> None:
    """Runs the command: what train.py and `deeplab-train` call."""
    run(main)
