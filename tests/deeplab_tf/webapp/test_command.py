"""python -m deeplab_tf.webapp as a user types it, and in a real browser."""

import base64
import contextlib
import dataclasses
import io
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.source import Source
from datasets.sources import synthetic
from deeplab_tf import workdir
from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.inference.probabilities import build_predictor
from deeplab_tf.webapp.page import shares_of
from deeplab_tf.webapp.uploads import decode_upload
from tests import browser

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "models" / "voc_animals"
ANSWERED = "document.querySelector('.shown img.labels')"


def test_without_gradio_one_line_says_what_to_install():
    script = (
        "import runpy, sys; sys.modules['gradio'] = None; sys.argv = ['webapp', '--model=models/voc_animals'];"
        " runpy.run_module('deeplab_tf.webapp', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "pip install -r requirements-webapp.txt -c constraints.txt" in done.stderr


@contextlib.contextmanager
def served(tmp_path, *flags):
    """Starts the command and yields its process and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deeplab_tf.webapp", f"--model={MODEL}", "--port=0", *flags],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, process.communicate(timeout=20)[1]
        yield process, found[0]
    finally:
        process.kill()
        process.communicate(timeout=20)


def shown_labels(page):
    """The pixels of the label picture, which are class indices."""
    source = page.value("document.querySelector('.shown img.labels').src")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def shown_shares(page):
    """Names and percentages of the legend."""
    return page.value(
        "[...document.querySelectorAll('.legend li')].map(e =>"
        " [e.querySelector('b').textContent, e.querySelector('span').textContent])"
    )


def legend_of(labels, info):
    return [[name, f"{100 * share:.1f} %"] for name, share in shares_of(labels, info) if share >= 0.0005]


def open_page(page, address):
    page.open(address)
    page.wait("document.querySelector('input[type=file]') && document.querySelector('#opacity input[type=range]')")
    # Not before its scripts listen.
    page.wait("document.querySelector('#crf input').checked === false && document.readyState === 'complete'")


@pytest.mark.slow
@pytest.mark.skipif(browser.PROGRAM is None, reason="needs chromium")
def test_a_picture_dropped_into_a_browser_is_segmented_overlaid_and_refined(tmp_path):
    pytest.importorskip("gradio", reason="needs requirements-webapp.txt")
    data = synthetic.example(Source(), "val", "val_0000").image
    (tmp_path / "picture.jpg").write_bytes(data)
    (tmp_path / "damaged.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "large.jpg").write_bytes(data + bytes(1_100_000))
    image = decode_upload(data, 10**6)
    model, config = workdir.load(str(MODEL))
    probabilities = build_predictor(model)(image)
    network = np.argmax(probabilities, -1)
    refined = np.argmax(dense_crf(image, probabilities, config.crf), -1)
    stronger = np.argmax(dense_crf(image, probabilities, dataclasses.replace(config.crf, w1=20)), -1)
    assert len(np.unique(network)) > 1 and (network != refined).any() and (refined != stronger).any()

    with served(tmp_path, "--max_megabytes=1") as (process, address), browser.browser(tmp_path / "profile") as page:
        open_page(page, address)
        page.choose_file("input[type=file]", tmp_path / "picture.jpg")
        page.wait(ANSWERED)
        np.testing.assert_array_equal(shown_labels(page), network)
        assert [item for item in shown_shares(page) if "<" not in item[1]] == legend_of(network, config.info)

        # The opacity is the browser's business.
        opacity = "getComputedStyle(document.querySelector('.layer')).opacity"
        assert page.value(opacity) == "0.55"
        asked = len(page.requests)
        page.press("#opacity input[type=range]", "ArrowLeft", times=15)
        page.wait(f"{opacity} === '0.4'")
        assert len(page.requests) == asked

        page.value("document.querySelector('#crf input').click()")
        page.wait("document.querySelector('.facts').textContent.includes('CRF')")
        np.testing.assert_array_equal(shown_labels(page), refined)
        assert [item for item in shown_shares(page) if "<" not in item[1]] == legend_of(refined, config.info)
        page.value("window.before = document.querySelector('.shown img.labels').src")
        page.press("#w1 input[type=range]", "End")
        page.wait("document.querySelector('.shown img.labels').src !== window.before")
        np.testing.assert_array_equal(shown_labels(page), stronger)

        for name, says in (("damaged.jpg", "expected a whole image"), ("large.jpg", "exceed the maximum")):
            open_page(page, address)
            page.choose_file("input[type=file]", tmp_path / name)
            page.wait(f"document.body.innerText.includes({says!r})")
            assert not page.value(f"!!{ANSWERED}")

        hosts = {urllib.parse.urlsplit(url).netloc for url in page.requests if not url.startswith(("data:", "blob:"))}
        assert hosts == {urllib.parse.urlsplit(address).netloc}
        assert page.exceptions == []

        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
        assert process.stderr.read() == ""
    assert not list(tmp_path.glob("deeplab-webapp-*"))


@pytest.mark.slow
def test_a_port_in_use_is_one_line(tmp_path):
    pytest.importorskip("gradio", reason="needs requirements-webapp.txt")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = [sys.executable, "-m", "deeplab_tf.webapp", f"--model={MODEL}", f"--port={port}"]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.splitlines() == [
        f"error: cannot listen on --host=127.0.0.1 --port={port}: Address already in use. Name another --port, or "
        "--port=0 for any that is free."
    ]
