"""Segments images and videos with a trained DeepLabv2.

  python predict.py --model=runs/large_fov --images=photos/ --out=answers/ --crf

For photos/cat.jpg it writes answers/cat.png, a palette PNG whose values are the class indices, and
answers/cat_overlay.jpg, the image with the classes drawn over it. For photos/walk.mp4 it writes
answers/walk_overlay.mp4, without sound. Answers that are there already are replaced.

A file of a folder that cannot be read is left out and listed at the end, and the exit status is 1.
"""

from absl import flags

from deeplab_tf import model_flags
from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import refuse_idle, run

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model", "", "The --workdir of train.py, or what export.py wrote: OUT/saved_model/1, or a .tflite file."
)
model_flags.define(workdir=False)
flags.DEFINE_string("images", "", "An image, a video, or a folder of images and videos.")
flags.DEFINE_string("out", "", "Folder for the answers; those of the same names are replaced.")
flags.DEFINE_list(
    "save",
    ["labels", "overlay"],
    "What to write. labels: OUT/STEM.png, of images. overlay: OUT/STEM_overlay.jpg, of videos OUT/STEM_overlay.mp4. "
    "probabilities: OUT/STEM_probabilities.npy, float32 [H, W, classes], of images. frames: OUT/STEM/000000.png, the "
    "labels of each frame of a video.",
)
flags.DEFINE_bool("crf", False, "Refine with the dense CRF.")
flags.DEFINE_enum(
    "crf_backend",
    "auto",
    ["auto", "compiled", "tf", "pydensecrf"],
    "What computes the CRF. auto: tf where there is a GPU, else compiled; pydensecrf needs requirements-crf.txt.",
)


def main() -> int:
    """Wires flags, model and files together; returns the exit status."""
    # Imported here, so that --help and a mistyped flag answer at once.
    import sys
    import time

    from datasets import dataset_info
    from deeplab_tf.inference.files import check_save, find_sources, segment_sources
    from deeplab_tf.runtime import files

    if not FLAGS.images or not FLAGS.out:
        raise UserError("--images and --out are needed: what to segment, and the folder for the answers.")
    if not FLAGS.crf:
        refuse_idle({"crf_backend": "--crf is not given"})
        model_flags.refuse_settings({"crf": "--crf is not given"})
    sources = find_sources(FLAGS.images, FLAGS.out)
    check_save(FLAGS.save, sources)
    loaded = model_flags.load_segmenter(FLAGS.model, dataset_info)
    segmenter = loaded.with_crf(FLAGS.crf_backend) if FLAGS.crf else loaded.segmenter
    files.make_folder(FLAGS.out, "--out")
    begin = time.monotonic()
    failures = segment_sources(segmenter, sources, FLAGS.out, FLAGS.save)
    found = len(sources.images) + len(sources.videos)
    seconds = time.monotonic() - begin
    print(f"{found - len(failures)} of {found} file(s) segmented into {FLAGS.out} in {seconds:.1f} s")
    if failures:
        print("\n".join([f"{len(failures)} of {found} not, or not to the end:", *map(str, failures)]), file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    run(main, frozen_weights=True)
