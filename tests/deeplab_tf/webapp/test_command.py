"""python -m deeplab_tf.webapp as a user types it, and in a real browser."""

import base64
import concurrent.futures
import contextlib
import dataclasses
import importlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.source import Source
from datasets.sources import synthetic
from deeplab_tf import workdir
from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.export.compare import made_up_picture
from deeplab_tf.export.kind import Job
from deeplab_tf.images.files import decode_pixels
from deeplab_tf.images.results import largest_shares
from deeplab_tf.inference.probabilities import build_predictor, predict_probabilities
from tests import browser
from tests.page_server import get, pixels, png, refine, segment
from tests.tiny import tiny_network

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "models" / "voc_animals"
ANSWERED = "!document.querySelector('.shown').hidden"


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_its_packages_one_line_says_what_to_install(package):
    script = (
        f"import runpy, sys; sys.modules['{package}'] = None; sys.argv = ['webapp', '--model=models/voc_animals'];"
        " runpy.run_module('deeplab_tf.webapp', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "pip install -r requirements-webapp.txt -c constraints.txt" in done.stderr
    assert package in done.stderr


@contextlib.contextmanager
def served(tmp_path, *flags, model=MODEL):
    """Starts the command and yields its process and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deeplab_tf.webapp", f"--model={model}", "--port=0", *flags],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        if line.startswith("on another machine"):
            line = process.stdout.readline()
        found = re.search(r"^open (http://\S+) in a browser", line)
        assert found, process.communicate(timeout=20)[1]
        yield process, found[1]
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
    return [[name, f"{100 * share:.1f} %"] for name, share in largest_shares(labels, info) if share >= 0.0005]


def open_page(page, address):
    page.open(address)
    page.wait("document.body && document.body.dataset.ready && document.querySelector('#crf input').checked === false")


@pytest.mark.slow
@pytest.mark.skipif(browser.PROGRAM is None, reason="needs chromium")
def test_a_picture_dropped_into_a_browser_is_segmented_overlaid_and_refined(tmp_path):
    pytest.importorskip("starlette", reason="needs requirements-webapp.txt")
    data = synthetic.example(Source(), "val", "val_0000").image
    (tmp_path / "picture.jpg").write_bytes(data)
    (tmp_path / "damaged.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "large.jpg").write_bytes(data + bytes(1_100_000))
    image = decode_pixels(data)
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

        for name, says in (
            ("damaged.jpg", "damaged.jpg: expected a whole image"),
            ("large.jpg", "large.jpg: expected a file of at most 1 MB, got 1.1 MB."),
        ):
            open_page(page, address)
            page.choose_file("input[type=file]", tmp_path / name)
            page.wait(f"document.body.innerText.includes({says!r})")
            assert not page.value(ANSWERED)

        hosts = {urllib.parse.urlsplit(url).netloc for url in page.requests if not url.startswith(("data:", "blob:"))}
        assert hosts == {urllib.parse.urlsplit(address).netloc}
        assert page.exceptions == []

        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
        assert process.stderr.read() == ""
    assert not [path for path in tmp_path.iterdir() if "deeplab" in path.name or "tmp" in path.name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_file_for_another_runtime_gives_its_labels_and_says_why_there_is_no_crf(tmp_path, name):
    for package in ("starlette", "tf2onnx", "onnxruntime", name):
        pytest.importorskip(package)
    info = DatasetInfo("toy", ("background", "cat", "dog"), pascal_palette(3))
    config = dataclasses.replace(EXPERIMENTS["vgg16_large_fov"], dataset=info)
    kind = importlib.import_module(f"deeplab_tf.export.{name}").KIND
    model = tiny_network()
    list(kind.write(Job(model, config, str(tmp_path), (None, None), []), [name]))
    image = made_up_picture((70, 90))
    with served(tmp_path, model=kind.path_of(str(tmp_path), config, name)) as (_, address):
        port = int(re.search(r":(\d+)/", address)[1])
        answer = segment(port, png(image)).json
        labels = Image.open(io.BytesIO(base64.b64decode(answer["network"]["labels"].partition(",")[2])))
        response = refine(port, answer["image"], dataclasses.asdict(config.crf))
    assert (np.asarray(labels) == predict_probabilities(model, image).argmax(-1)).mean() > 0.999
    assert len(np.unique(labels)) > 1
    assert response.status == 422 and "returns labels only, and the CRF needs probabilities" in response.text


@pytest.mark.slow
def test_a_port_in_use_is_one_line(tmp_path):
    pytest.importorskip("starlette", reason="needs requirements-webapp.txt")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = [sys.executable, "-m", "deeplab_tf.webapp", f"--model={MODEL}", f"--port={port}"]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.splitlines() == [
        f"error: cannot listen on --host=127.0.0.1 --port={port}: Address already in use. Name another --port, or "
        "--port=0 for any that is free."
    ]


@pytest.mark.slow
def test_other_machines_need_the_token_that_is_printed_with_a_warning(tmp_path):
    pytest.importorskip("starlette", reason="needs requirements-webapp.txt")
    with served(tmp_path, "--host=0.0.0.0", "--names=gpu7") as (process, address):
        parts = urllib.parse.urlsplit(address)
        assert re.fullmatch(r"token=[\w-]{32}", parts.query)
        port, token = parts.port, parts.query.partition("=")[2]
        for host in ("127.0.0.1", "gpu7", socket.gethostname()):
            assert get(port, f"/?token={token}", Host=f"{host}:{port}").status == 200
            assert get(port, "/", Host=f"{host}:{port}").status == 403
        assert get(port, f"/?token={token}", Host=f"0.0.0.0:{port}").status == 403
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        warning, *rest = process.stderr.read().splitlines()
        assert warning.startswith("warning: other machines can reach this page") and "encrypted" in warning
        assert rest == ["interrupted."]


@pytest.mark.slow
def test_it_ends_without_waiting_for_a_long_crf(tmp_path):
    pytest.importorskip("starlette", reason="needs requirements-webapp.txt")
    with served(tmp_path, "--max_side=0") as (process, address):
        port = urllib.parse.urlsplit(address).port
        answer = segment(port, png(pixels(1500, 2000))).json
        constants = {"w1": 20, "sigma_alpha": 5, "sigma_beta": 1, "w2": 20, "sigma_gamma": 20, "iterations": 20}
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            refining = pool.submit(refine, port, answer["image"], constants)
            time.sleep(2)
            assert not refining.done()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 128 + signal.SIGTERM
            assert refining.result().status in (0, 500)
