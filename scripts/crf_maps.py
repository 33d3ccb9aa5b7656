"""Draws how the dense CRF changes the scores and beliefs of one class, update by update, as in Fig. 5 of the paper.

    python -m scripts.crf_maps --model=runs/large_fov --image=cat.jpg --class_name=cat --out=maps.png

The belief is the probability of the class after a number of mean-field updates; the score is its log-odds against all
other classes, from -10 (blue) to 10 (red).
"""

from __future__ import annotations

from absl import flags

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import command_line


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("model", "", "The --workdir of train.py.")
    flags.DEFINE_string("image", "", "The image.")
    flags.DEFINE_string("class_name", "", "The class. Default: the most frequent one, except the background.")
    flags.DEFINE_list(
        "updates", ["0", "1", "2", "10"], "Numbers of mean-field updates to draw; 0 is the result of the network."
    )
    flags.DEFINE_multi_string("set", [], "Changes a constant of the CRF. Example: --set=crf.w1=5")
    flags.DEFINE_string("out", "", "The picture to write, .png or .jpg.")


def main() -> None:
    """Predicts, refines and draws."""
    # Imported here, so that --help and a mistyped flag answer at once.
    from datasets.raw import files as raw_files
    from datasets.stored import tfrecord
    from deeplab_tf import workdir
    from deeplab_tf.config import override
    from deeplab_tf.crf.maps import draw_maps
    from deeplab_tf.images import visualize
    from deeplab_tf.inference.probabilities import predict_probabilities

    values = flags.FLAGS
    if not (values.model and values.image and values.out):
        raise UserError("--model, --image and --out are required: the network, the image and the picture to write.")
    try:
        updates = [int(text) for text in values.updates]
    except ValueError:
        raise UserError(f"--updates takes whole numbers such as 0,1,2,10; got {','.join(values.updates)}.") from None
    if not updates or min(updates) < 0:
        raise UserError(f"--updates takes numbers of at least 0; got {','.join(values.updates)}.")
    model, config = workdir.load(values.model, override(workdir.read_config(values.model), values.set))
    names = config.info.class_names
    if values.class_name and values.class_name not in names:
        raise UserError(f"--class_name={values.class_name} is none of {', '.join(names)}.")
    image = tfrecord.decode_image(raw_files.read_image(values.image)).numpy()
    label = names.index(values.class_name) if values.class_name else None
    probabilities = predict_probabilities(model, image, config.inference)
    picture = draw_maps(image, probabilities, config.crf, names, updates, label, config.info.background_label)
    visualize.save_image(values.out, picture)
    print(f"see {values.out}")


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
