"""The scripts for people who have an exported model and nothing of this project."""

import base64
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def run(name, *arguments):
    command = [sys.executable, "-I", str(SCRIPTS / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


class Server(http.server.BaseHTTPRequestHandler):
    """Speaks the JSON of TensorFlow Serving: the mask of an image is the image itself."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        masks = [{"b64": one["images"]["b64"]} for one in request["instances"]]
        body = json.dumps({"predictions": [{"labels_png_bytes": m, "colour_png_bytes": m} for m in masks]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def images(tmp_path):
    for name in ("cat.jpg", "dog.png", "cat.png"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_the_client_writes_the_mask_of_each_image(address, images):
    done = run("serving_client.py", "rest", address, "deeplab", images / "out", images / "cat.jpg", images / "dog.png")
    assert done.returncode == 0, done.stderr
    assert (images / "out" / "cat.png").read_bytes() == base64.b64decode(base64.b64encode(b"cat.jpg"))
    assert (images / "out" / "dog_colour.png").read_bytes() == b"dog.png"


def test_the_client_refuses_two_images_of_one_stem_before_it_sends_them(address, images):
    done = run("serving_client.py", "rest", address, "deeplab", images / "out", images / "cat.jpg", images / "cat.png")
    assert done.returncode == 2 and "would both become cat.png" in done.stderr
    assert not (images / "out").exists()


def test_the_client_says_in_one_line_that_the_server_is_not_there(images):
    done = run("serving_client.py", "rest", "127.0.0.1:9", "deeplab", images / "out", images / "cat.jpg")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "is TensorFlow Serving running there?" in done.stderr


def test_the_client_names_an_image_that_is_missing(address, images):
    done = run("serving_client.py", "rest", address, "deeplab", images / "out", images / "bird.jpg")
    assert done.returncode == 2 and "bird.jpg: No such file" in done.stderr


@pytest.mark.parametrize("name", ["serving_client.py", "segment_with_tensorflow.py"])
def test_help_explains(name):
    done = run(name, "--help")
    assert (done.returncode == 0 and "saved_model" in done.stdout) or "TensorFlow Serving" in done.stdout


def test_segmenting_says_what_is_wrong_with_its_folders(tmp_path):
    done = run("segment_with_tensorflow.py", tmp_path, tmp_path, tmp_path / "out")
    assert done.returncode == 2 and "has no saved_model.pb" in done.stderr
