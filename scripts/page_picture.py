"""Takes the picture of the local page that the README shows, in a headless Chromium.

  python -m scripts.page_picture --model=models/voc_animals --image=chelsea.png --out=docs/images/webapp.png

The page opens the image, refines it with the CRF, and is photographed when the answer is there. Take a photograph whose
licence lets it be published: chelsea.png is in the package scikit-image (CC0).
"""

from absl import flags

from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import run

WIDTH, HEIGHT = 1280, 860
SHOWN = (
    "!document.querySelector('#shown').hidden && !document.querySelector('#answer.busy')"
    " && document.querySelector('.facts').textContent.includes('CRF')"
)


def main() -> None:
    """Takes the picture as the flags say."""
    import re
    import subprocess
    import sys
    import tempfile

    from PIL import Image

    from tests import browser

    values = flags.FLAGS
    if not (values.model and values.image and values.out):
        raise UserError("--model, --image and --out are needed: a network, an image, and where the picture goes.")
    if browser.PROGRAM is None:
        raise UserError("a Chromium or Chrome is needed, and none is on the PATH.")
    command = [sys.executable, "-u", "-m", "deeplab_tf.webapp", f"--model={values.model}", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = next(filter(None, (re.search(r"http://\S+", line) for line in server.stdout)), None)
            if found is None:
                raise UserError(f"the page did not start; see what `{' '.join(command[2:])}` says.")
            with tempfile.TemporaryDirectory() as profile, browser.browser(profile) as page:
                page.open(found[0], WIDTH, HEIGHT)
                page.wait("document.body && document.body.dataset.ready")
                page.value("document.querySelector('#crf input').click()")
                page.choose_file("input[type=file]", values.image)
                page.wait(SHOWN, timeout=180)
                page.screenshot(values.out, whole=False)
            with Image.open(values.out) as picture:
                small = picture.convert("RGB").quantize(256)  # a third of the bytes
            small.save(values.out, optimize=True)
        finally:
            server.terminate()


if __name__ == "__main__":
    flags.DEFINE_string("model", "", "Folder of the model, such as models/voc_animals.")
    flags.DEFINE_string("image", "", "The image to show.")
    flags.DEFINE_string("out", "", "The PNG to write.")
    run(main)
