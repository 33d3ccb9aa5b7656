"""A local page to try a model: drop an image, look at the result, and move the sliders of the CRF.

  pip install -r requirements-webapp.txt -c constraints.txt
  python -m deeplab_tf.webapp --model=models/voc_animals

Then open http://127.0.0.1:7860/ in a browser. Nothing leaves this machine, and the page loads nothing from elsewhere:
no fonts, no scripts, no statistics. Only this machine can open the page, and other websites in the same browser cannot
use it. On a remote server, forward the port instead of opening it to others:  ssh -L 7860:127.0.0.1:7860 SERVER

The sliders of the CRF start at the model's own constants. Moving one runs only the CRF, not the network; the opacity
runs neither. To keep a constant that you have found, use --set=crf.sigma_beta=5, here and in predict.py and eval.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from deeplab_tf import model_flags
from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import run

if TYPE_CHECKING:
    from deeplab_tf.webapp.served_model import ServedModel

FLAGS = flags.FLAGS
INSTALL = "pip install -r requirements-webapp.txt -c constraints.txt"


def _define_flags() -> None:
    # Inside a function, because absl's flags are global and other commands have some of the same names.
    flags.DEFINE_string(
        "model",
        "",
        "The --workdir of train.py, or what export.py wrote: OUT/saved_model/1, or a .tflite, .onnx or .xml file.",
    )
    model_flags.define(workdir=False, weights=False)
    flags.DEFINE_integer(
        "max_side",
        1024,
        "Images with a longer side, in pixels, are scaled down to this, and the page says so, because the time of the "
        "CRF grows with the pixels. 0 for never; predict.py never scales.",
        lower_bound=0,
    )
    flags.DEFINE_integer("max_megabytes", 20, "Larger files are refused.", lower_bound=1)
    flags.DEFINE_integer(
        "max_megapixels",
        50,
        "Images of more million pixels are refused before they are decoded; each million takes 3 MB.",
        lower_bound=1,
    )
    flags.DEFINE_integer("port", 7860, "Port of the page; 0 for any free port.", lower_bound=0, upper_bound=65535)
    flags.DEFINE_string(
        "host",
        "127.0.0.1",
        "Address to listen on. With another address, such as 0.0.0.0, other machines can reach the page, and need the "
        "token in the printed address. The connection is not encrypted.",
    )
    flags.DEFINE_list(
        "names",
        [],
        "More names of this machine, such as the outside name of a container. The page accepts no other names.",
    )
    flags.DEFINE_bool(
        "token",
        False,
        "Require a token on this machine too, so that other people with accounts on it cannot open the page.",
    )


def main() -> None:
    """Wires the model, the page and the server together."""
    # Imported here, so that --help and a mistyped flag answer at once.
    from PIL import Image

    if not FLAGS.model:
        raise UserError("--model is required: a workdir, or what export.py wrote. Try: --model=models/voc_animals")
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise UserError(f"the page needs Starlette and uvicorn, {error.name} is not installed: {INSTALL}") from None
    from deeplab_tf.webapp import app, page, server

    Image.MAX_IMAGE_PIXELS = FLAGS.max_megapixels * 10**6  # so that Pillow does not refuse what is allowed here
    limits = page.Limits(FLAGS.max_megabytes * 10**6, FLAGS.max_megapixels * 10**6, FLAGS.max_side)
    model = load(FLAGS.model)
    with server.listen(FLAGS.host, FLAGS.port) as listener:
        model.warm_up()
        entrance = server.open_entrance(listener, FLAGS.host, FLAGS.names, FLAGS.token)
        server.serve(app.build_app(model, limits, entrance.names, entrance.token), listener, entrance)


def load(path: str) -> ServedModel:
    """Loads a model of any kind.

    Args:
        path: a workdir, or what export.py wrote.

    Raises:
        UserError: neither of these, damaged, or flags that do not go with it.
    """
    from deeplab_tf.webapp.served_model import ServedModel

    loaded = model_flags.load_segmenter(path)
    without_crf, config = "", loaded.config
    if loaded.crf_inside:
        without_crf = "this model has the CRF inside."
    elif not loaded.segmenter.has_probabilities:
        without_crf = (
            "this model returns labels only, and the CRF needs probabilities. Take the workdir or a SavedModel."
        )
    return ServedModel(f"{config.experiment} on {config.info.name}", loaded.segmenter, config.crf, without_crf)


if __name__ == "__main__":
    _define_flags()
    run(main, frozen_weights=True)
