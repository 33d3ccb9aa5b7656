"""Segments images and videos with a trained DeepLabv2.

  python predict.py --model=runs/large_fov --images=photos/ --out=results/ --crf

For photos/cat.jpg it writes results/cat.png, a palette PNG whose values are the class indices, and
results/cat_overlay.jpg, the image with the classes drawn over it. For photos/walk.mp4 it writes
results/walk_overlay.mp4, without sound. --save selects polygons, cutouts, masks, tables and more.

  python predict.py --model=runs/large_fov --images='photos/*/*.jpg' --out=results/ --save=cutout,shares --classes=cat

Results of earlier runs are replaced. Other files in --out are replaced only with --overwrite. If one of several files
cannot be read, it is left out and listed at the end, and the exit status is 1.
"""

from absl import flags

from deeplab_tf import model_flags
from deeplab_tf.errors import UserError
from deeplab_tf.images import results
from deeplab_tf.runtime.command_line import refuse_idle, run

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model",
    "",
    "The --workdir of train.py, or what export.py wrote: OUT/saved_model/1, or a .tflite, .onnx or .xml file; "
    "or the name of a network that comes with the installation, such as voc_animals.",
)
model_flags.define(workdir=False)
flags.DEFINE_multi_string(
    "images",
    [],
    "An image, a video, a folder of them, a pattern such as 'photos/*/*.jpg', or a .txt file with one path per line.",
)
flags.DEFINE_bool("recursive", False, "Include the subfolders of the folders in --images.")
flags.DEFINE_string("out", "", "Folder for the results; they keep the subfolders of the images.")
flags.DEFINE_bool("overwrite", False, "Also replace files in --out that this command did not write.")
flags.DEFINE_list(
    "save",
    ["labels", "overlay"],
    f"What to write. {results.describe()}",
)
flags.DEFINE_list("classes", [], "Classes for mask, cutout, polygons and coco. Default: all except background.")
flags.DEFINE_integer(
    "batch_size", 1, "Number of consecutive images of the same size that the network processes at once.", lower_bound=1
)
flags.DEFINE_bool("crf", False, "Refine with the dense CRF.")
model_flags.define_crf_backend()


def main() -> int:
    """Wires flags, model and files together; returns the exit status."""
    # Imported here, so that --help and a mistyped flag answer at once.
    import sys
    import time

    from deeplab_tf.commands.data_sets import data_sets
    from deeplab_tf.images.sources import find_sources
    from deeplab_tf.inference.files import check_save, planned_files, segment_sources
    from deeplab_tf.runtime import files
    from deeplab_tf.runtime.written import Written

    if not FLAGS.images or not FLAGS.out:
        raise UserError("--images and --out are required: what to segment, and the folder for the results.")
    if not FLAGS.crf:
        refuse_idle({"crf_backend": "--crf is not given"})
        model_flags.refuse_settings({"crf": "--crf is not given"})
    sources = find_sources(FLAGS.images, FLAGS.out, FLAGS.recursive)
    check_save(FLAGS.save, sources)
    written = Written(FLAGS.out, "predict")
    written.refuse_others(planned_files(sources, FLAGS.out, FLAGS.save), FLAGS.overwrite)
    loaded = model_flags.load_segmenter(FLAGS.model, data_sets().dataset_info)
    segmenter = loaded.with_crf(FLAGS.crf_backend) if FLAGS.crf else loaded.segmenter
    files.make_folder(FLAGS.out, "--out")
    begin = time.monotonic()
    failures = segment_sources(
        segmenter,
        sources,
        FLAGS.out,
        FLAGS.save,
        classes=FLAGS.classes,
        batch_size=FLAGS.batch_size,
        written=written,
    )
    found = sources.count
    seconds = time.monotonic() - begin
    print(f"{found - len(failures)} of {found} file(s) segmented into {FLAGS.out} in {seconds:.1f} s")
    if sources.left_out:
        print(f"left out: {sources.describe_left_out()}")
    if failures:
        print(
            "\n".join([f"{len(failures)} of {found} failed, or were not completed:", *map(str, failures)]),
            file=sys.stderr,
        )
    return 1 if failures else 0


def command() -> None:
    """Runs the command: what predict.py and `deeplab-predict` call."""
    run(main, frozen_weights=True)
