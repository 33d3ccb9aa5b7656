"""Trains a DeepLabv2, or resumes: the same command goes on where the last one stopped.

  python train.py --experiment=vgg16_large_fov --data_dir=data/voc12 --workdir=runs/large_fov

The data come from `python -m datasets.convert`. Progress is shown here and in TensorBoard; the trained
network is WORKDIR/model.weights.h5, and eval.py, predict.py and export.py take the WORKDIR. Ctrl-C and
SIGTERM save before they stop.
"""

from absl import flags

from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import run

FLAGS = flags.FLAGS
flags.DEFINE_string("experiment", "", "Network and solver, such as vgg16_large_fov or resnet101_aspp_msc.")
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
flags.DEFINE_bool("other_data", False, "Continue a workdir that was trained on other images, too.")
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
    from deeplab_tf.training import catalogue, config_file, dry_run
    from deeplab_tf.training import loop as training
    from deeplab_tf.training.defaults import with_iterations
    from deeplab_tf.training.idle_settings import idle_settings
    from deeplab_tf.training.trained_images import Images, TrainingData
    from deeplab_tf.training.validation import ValidationSplit

    if FLAGS.list_experiments:
        print(catalogue.table())
        return
    written = config_file.read(FLAGS.config) if FLAGS.config else {}
    config = experiment_config(config_file.experiment_of(written, FLAGS.config, FLAGS.experiment))
    config = apply_recipe(config_file.apply(config, written, FLAGS.config), FLAGS.recipe)
    config = configs.override(config, FLAGS["set"].value)
    if not FLAGS.data_dir or not FLAGS.workdir:
        raise UserError("--data_dir and --workdir are needed: the folder of datasets.convert, and one for this run.")
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
    shards = "".join(file.sha256 for file in manifest.split(split).files)
    data = TrainingData(
        FLAGS.data_dir,
        split,
        {name: Images(other.ids, other.image_hashes()) for name, other in manifest.splits.items()},
        contents=hashlib.sha256(shards.encode()).hexdigest(),
    )
    how = {
        "init": FLAGS.init,
        "strategy_name": FLAGS.strategy,
        "validation_split": validation_split,
        "data": data,
        "other_data": FLAGS.other_data,
    }
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
            training.train(config, FLAGS.workdir, make_batches, **how, run=run_info)


if __name__ == "__main__":
    run(main)
