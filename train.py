"""Trains a DeepLabv2, or resumes a training: the same command continues where the last one stopped.

  python train.py --experiment=vgg16_large_fov --data_dir=data/voc12 --workdir=runs/large_fov

The data come from `python -m datasets.convert`. Progress is shown here and in TensorBoard. The trained network
is WORKDIR/model.weights.h5; eval.py, predict.py and export.py take the WORKDIR. After Ctrl-C or SIGTERM, the
command saves before it stops.
"""

from absl import flags

from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import run

FLAGS = flags.FLAGS
flags.DEFINE_string("experiment", "", "Network and solver, such as vgg16_large_fov or resnet101_aspp_msc.")
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
flags.DEFINE_bool("skip_damaged", False, "Leave damaged records out and count them, instead of stopping at one.")
flags.DEFINE_enum(
    "strategy", "auto", ["auto", "one_device", "mirrored", "multi_worker"], "How devices are used (tf.distribute)."
)
flags.DEFINE_multi_string(
    "set",
    [],
    "section.field=value: change a setting of model, train, optimizer or crf. Can be repeated. "
    "Example: --set=train.batch_size=4 --set=optimizer.base_lr=0.0005",
)


def main() -> None:
    """Wires flags, data and training together."""
    # Imported here, so that --help and a mistyped flag answer at once.
    import contextlib
    import dataclasses
    import functools
    import hashlib

    from datasets import pipeline
    from datasets.stored import tfrecord
    from deeplab_tf import config as configs
    from deeplab_tf.experiments import apply_recipe, experiment_config
    from deeplab_tf.training import dry_run
    from deeplab_tf.training import loop as training
    from deeplab_tf.training.defaults import with_iterations
    from deeplab_tf.training.idle_settings import idle_settings
    from deeplab_tf.training.trained_images import Images, TrainingData
    from deeplab_tf.training.validation import ValidationSplit

    config = apply_recipe(experiment_config(FLAGS.experiment), FLAGS.recipe)
    config = configs.override(config, FLAGS["set"].value)
    if not FLAGS.data_dir or not FLAGS.workdir:
        raise UserError(
            "--data_dir and --workdir are required: the folder written by datasets.convert, and one for this run."
        )
    if FLAGS.skip_damaged:
        manifest, damaged = tfrecord.skip_damaged(FLAGS.data_dir, FLAGS.split)
        if FLAGS.eval_split and FLAGS.eval_split != (FLAGS.split or manifest.info.train_split):
            other, more = tfrecord.skip_damaged(FLAGS.data_dir, FLAGS.eval_split)
            validated = other.split(FLAGS.eval_split)
            manifest = dataclasses.replace(manifest, splits={**manifest.splits, FLAGS.eval_split: validated})
            damaged += more
        print(tfrecord.describe_damage(damaged))
    else:
        manifest = tfrecord.read_manifest(FLAGS.data_dir)
    split = FLAGS.split or manifest.info.train_split
    config = dataclasses.replace(config, dataset=manifest.info)
    given = [assignment.partition("=")[0].strip() for assignment in FLAGS["set"].value]
    config = with_iterations(config, manifest.split(split).count, given)
    settings = config.train
    for line in idle_settings(config, given, validates=bool(FLAGS.eval_split)):
        print(f"note: {line}")
    make_batches = functools.partial(
        pipeline.train_batches,
        FLAGS.data_dir,
        split,
        batch_size=settings.batch_size,
        iter_size=settings.iter_size,
        **settings.augmentation(),
        seed=settings.seed,
        skipped=manifest.split(split).skipped,
    )
    print(f"{manifest.split(split).count} images of {manifest.info.name} {split} in {FLAGS.data_dir}")
    validation_split = None
    splits = [split]
    if FLAGS.eval_split:
        splits.append(FLAGS.eval_split)
        described = manifest.split(FLAGS.eval_split)
        stored = functools.partial(pipeline.evaluation_examples, FLAGS.data_dir, FLAGS.eval_split, described.skipped)
        # Read when it is needed: the devices have to be set up first.
        validation_split = ValidationSplit(FLAGS.eval_split, described.count, lambda: stored().as_numpy_iterator())
    how = {"init": FLAGS.init, "strategy_name": FLAGS.strategy, "validation_split": validation_split}
    with contextlib.ExitStack() as stack:
        for name in splits:
            stack.enter_context(tfrecord.naming_damage(manifest, name))
        if FLAGS.dry_run:
            dry_run.rehearse(config, FLAGS.workdir, make_batches, **how)
        else:
            run_info = {
                "data_dir": FLAGS.data_dir,
                "split": split,
                "eval_split": FLAGS.eval_split,
                "strategy": FLAGS.strategy,
            }
            shards = "".join(file.sha256 for file in manifest.split(split).files)
            data = TrainingData(
                FLAGS.data_dir,
                split,
                {name: Images(other.ids, other.image_hashes()) for name, other in manifest.splits.items()},
                contents=hashlib.sha256(shards.encode()).hexdigest(),
            )
            training.train(config, FLAGS.workdir, make_batches, **how, run=run_info, data=data)


if __name__ == "__main__":
    run(main)
