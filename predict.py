"""Segments images with a trained DeepLabv2.

  python predict.py --model=runs/large_fov --images=photos/ --out=answers/ --crf

For photos/cat.jpg it writes answers/cat.png, a palette PNG whose values are the class indices, and
answers/cat_overlay.jpg, the image with the classes drawn over it.
"""

from absl import flags

from deeplab_tf import model_flags
from deeplab_tf.command_line import run
from deeplab_tf.errors import UserError

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model", "", "The --workdir of train.py, or what export.py wrote: OUT/saved_model/1, or a .tflite file."
)
model_flags.define(workdir=False)
flags.DEFINE_string("images", "", "An image, or a folder of images.")
flags.DEFINE_string("out", "", "Folder for the answers.")
flags.DEFINE_bool("crf", False, "Refine with the dense CRF.")
flags.DEFINE_enum(
    "crf_backend", "tf", ["tf", "pydensecrf"], "What computes the CRF; pydensecrf needs requirements-crf.txt."
)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def list_images(path: str) -> dict[str, str]:
    """Returns the images to segment by their stems, in alphabetical order."""
    import os

    if os.path.isfile(path):
        return {os.path.splitext(os.path.basename(path))[0]: path}
    if not os.path.isdir(path):
        raise UserError(f"--images={path} does not exist; name an image or a folder of images.")
    images: dict[str, str] = {}
    for name in sorted(os.listdir(path)):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if stem in images:
            raise UserError(
                f"{images[stem]} and {os.path.join(path, name)} would both be written to {stem}.png; rename one."
            )
        images[stem] = os.path.join(path, name)
    if not images:
        raise UserError(f"--images={path} holds no image ({', '.join(IMAGE_SUFFIXES)}).")
    return images


def main() -> None:
    """Wires flags, images and inference together."""
    # Imported here, so that --help and a mistyped flag answer at once.
    import os

    import tqdm

    from datasets import dataset_info, raw_files, tfrecord
    from deeplab_tf import exported, files, visualize
    from deeplab_tf.crf import dense_crf
    from deeplab_tf.inference import build_predictor

    if not FLAGS.images or not FLAGS.out:
        raise UserError("--images and --out are needed: what to segment, and the folder for the answers.")
    images = list_images(FLAGS.images)
    if FLAGS.model and exported.is_exported(FLAGS.model):
        if model_flags.inference_changed():
            raise UserError(
                f"{', '.join(model_flags.inference_changed())}: an exported model answers as it was exported; "
                "give the flags to export.py."
            )
        description, labels_of, probabilities_of = exported.load_exported(FLAGS.model)
        config = model_flags.configure(description.config)
        if FLAGS.crf and description.crf:
            raise UserError(f"{FLAGS.model} has the CRF inside: leave --crf out.")
        if FLAGS.crf and probabilities_of is None:
            raise UserError(
                f"{FLAGS.model} answers labels, and the CRF needs probabilities: take a SavedModel for --crf."
            )
    else:
        model, config = model_flags.load(FLAGS.model, dataset_info)
        probabilities_of = build_predictor(model, config.inference)
        labels_of = exported.likeliest(probabilities_of)
    if FLAGS.crf:
        labels_of = exported.likeliest(
            lambda image: dense_crf(image, probabilities_of(image), config.crf, FLAGS.crf_backend)
        )
    files.make_folder(FLAGS.out, "--out")
    palette = config.dataset.palette
    for stem, path in tqdm.tqdm(images.items(), unit="image", dynamic_ncols=True):
        image = tfrecord.decode_image(raw_files.read_image(path)).numpy()
        labels = labels_of(image)
        visualize.save_palette_png(os.path.join(FLAGS.out, f"{stem}.png"), labels, palette)
        visualize.save_image(os.path.join(FLAGS.out, f"{stem}_overlay.jpg"), visualize.overlay(image, labels, palette))
    print(f"{len(images)} image(s) segmented into {FLAGS.out}")


if __name__ == "__main__":
    run(main)
