"""The five routes, over HTTP: what they answer, and what they do not take, keep or do at once."""

import base64
import concurrent.futures
import contextlib
import io
import socket
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="needs requirements-webapp.txt")

from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.inference.segmenter import Segmenter
from deeplab_tf.webapp import app, guard, served_model, server
from deeplab_tf.webapp.kept import Kept
from deeplab_tf.webapp.page import Limits
from deeplab_tf.webapp.served_model import ServedModel
from tests import page_server
from tests.page_server import (
    REFINE,
    SEGMENT,
    ColourNetwork,
    browser_headers,
    get,
    pixels,
    png,
    post,
    raw_request,
    receive,
    refine,
    segment,
)
from tests.processes import wait_for

INFO = DatasetInfo("things", ("background", "cat", "<dog>"), pascal_palette(3))
PARAMS = CrfParams(w1=4, sigma_alpha=20, sigma_beta=5, w2=3, sigma_gamma=2, iterations=3)
CONSTANTS = {"w1": 4, "sigma_alpha": 20, "sigma_beta": 5, "w2": 3, "sigma_gamma": 2, "iterations": 3}
LIMITS = Limits()
probabilities_of = ColourNetwork()


@pytest.fixture
def network():
    return ColourNetwork()


@pytest.fixture
def served(network):
    """Serves a page of the network with other limits, and yields its port."""
    with contextlib.ExitStack() as stack:

        def serve(limits=LIMITS, params=PARAMS, segmenter=None, without_crf=""):
            model = ServedModel("a model", segmenter or Segmenter(network, INFO), params, without_crf)
            return stack.enter_context(page_server.served(app.build_app(model, limits, guard.LOOPBACK_NAMES)))

        yield serve


@pytest.fixture
def crf_calls(monkeypatch):
    """The constants of every call of the CRF."""
    calls = []

    def noted(image, probabilities, params):
        calls.append(params)
        return dense_crf(image, probabilities, params)

    monkeypatch.setattr(served_model, "dense_crf", noted)
    return calls


def picture(data_url):
    return Image.open(io.BytesIO(base64.b64decode(data_url.partition(",")[2])))


def test_the_labels_are_those_of_the_network_and_the_legend_names_what_is_there(served):
    image = pixels()
    expected = np.argmax(probabilities_of(image), -1)
    answer = segment(served(), png(image)).json
    labels = picture(answer["network"]["labels"])
    assert labels.mode == "P" and labels.getpalette()[3:6] == list(INFO.palette[1])
    np.testing.assert_array_equal(np.asarray(labels), expected)
    shares = [(item["name"], item["share"]) for item in answer["network"]["shares"]]
    assert shares == [("background", "90.0 %"), ("cat", "10.0 %")]
    assert answer["size"] == answer["seen"] == [40, 24] and answer["network"]["seconds"] >= 0


def test_the_layer_leaves_the_background_of_the_image_free(served):
    image = pixels()
    answer = segment(served(), png(image)).json
    below, layer = picture(answer["picture"]), picture(answer["network"]["layer"])
    assert np.abs(np.asarray(below).astype(int) - image).mean() < 15  # JPEG
    assert layer.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(layer)[..., 3] > 0, np.argmax(probabilities_of(image), -1) > 0)


def test_moving_the_constants_runs_the_crf_and_not_the_network(served, network, crf_calls):
    port = served()
    key = segment(port, png(pixels())).json["image"]
    assert refine(port, key, CONSTANTS).status == 200
    answer = refine(port, key, CONSTANTS | {"w1": 8.0}).json
    other = CrfParams(w1=8, sigma_alpha=20, sigma_beta=5, w2=3, sigma_gamma=2, iterations=3)
    assert network.asked == 1 and crf_calls == [PARAMS, other]
    expected = np.argmax(dense_crf(pixels(), probabilities_of(pixels()), other), -1)
    np.testing.assert_array_equal(np.asarray(picture(answer["crf"]["labels"])), expected)
    assert answer["crf"]["seconds"] >= 0 and {item["name"] for item in answer["crf"]["shares"]} == {"background", "cat"}


def test_a_large_image_is_scaled_down_and_the_page_is_told(served):
    answer = segment(served(Limits(max_side=20)), png(pixels())).json
    assert answer["size"] == [40, 24] and answer["seen"] == [20, 12]
    assert picture(answer["network"]["labels"]).size == (20, 12)


@pytest.mark.parametrize(
    ("data", "limits", "status", "says"),
    [
        (b"no image", Limits(), 422, "holiday.png: expected a whole image"),
        (b"", Limits(), 422, "holiday.png: expected a whole image"),
        (png(pixels())[:200], Limits(), 422, "holiday.png: expected a whole image"),
        (png(pixels()), Limits(max_bytes=100), 413, "at most 0.0001 MB"),
        (png(pixels()), Limits(max_pixels=100), 422, "megapixels, got 40x24."),
    ],
)
def test_a_file_that_cannot_be_taken_is_one_line_and_the_network_is_not_run(
    served, network, data, limits, status, says
):
    response = segment(served(limits), data, "holiday.png")
    assert response.status == status and says in response.text and len(response.text.splitlines()) == 1
    assert network.asked == 0


def test_the_name_of_a_file_is_only_a_text(served):
    response = segment(served(), b"no image", "%3Cscript%3E..%2F..%2Fetc%2Fpasswd")
    assert (
        response.text.startswith("<script>../../etc/passwd: expected") and "plain" in response.headers["content-type"]
    )
    assert len(segment(served(), b"no image", "x" * 5000).text) < 500


def test_sigmas_that_no_lattice_can_hold_give_a_message(served):
    port = served(params=CrfParams(sigma_alpha=1e-6))
    key = segment(port, png(pixels())).json["image"]
    response = refine(port, key, CONSTANTS | {"sigma_alpha": 1e-6})
    assert response.status == 422 and "too small" in response.text


def test_a_model_of_labels_answers_and_says_why_it_has_no_crf(served):
    def labels_of(image):
        return np.argmax(probabilities_of(image), -1).astype(np.uint8)

    port = served(segmenter=Segmenter(labels_of, INFO, has_probabilities=False), without_crf="labels.")
    answer = segment(port, png(pixels())).json
    assert answer["network"]["shares"][1]["name"] == "cat"
    response = refine(port, answer["image"], CONSTANTS)
    assert response.status == 422 and "no CRF here: labels" in response.text


def test_many_at_once_get_their_own_answers_and_one_is_worked_on(served, network):
    port = served()
    files = [png(pixels(16 + i, 30, seed=i)) for i in range(12)]

    def both(data):
        answer = segment(port, data).json
        return answer, refine(port, answer["image"], CONSTANTS).json

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        results = list(pool.map(both, files))
    assert network.most_inside == 1 and network.asked == 12
    for i, (answer, refined) in enumerate(results):
        image = pixels(16 + i, 30, seed=i)
        expected = probabilities_of(image)
        np.testing.assert_array_equal(np.asarray(picture(answer["network"]["labels"])), np.argmax(expected, -1))
        expected = np.argmax(dense_crf(image, expected, PARAMS), -1)
        np.testing.assert_array_equal(np.asarray(picture(refined["crf"]["labels"])), expected)


def test_one_image_is_decoded_at_a_time(served, monkeypatch):
    inside, most = [], []
    decode = app.page.read_image

    def noted(*arguments):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return decode(*arguments)

    monkeypatch.setattr(app.page, "read_image", noted)
    port = served()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        statuses = [response.status for response in pool.map(lambda _: segment(port, png(pixels())), range(6))]
    assert statuses == [200] * 6 and max(most) == 1


def test_an_image_that_is_no_longer_kept_can_be_sent_again(served, network):
    one = 24 * 40 * (3 + 1 + 3 * 4)
    port = served(Limits(kept_bytes=2 * one))
    keys = [segment(port, png(pixels(seed=seed))).json["image"] for seed in range(3)]
    assert [refine(port, key, CONSTANTS).status for key in keys] == [410, 200, 200]
    again = segment(port, png(pixels(seed=0))).json["image"]
    assert refine(port, again, CONSTANTS).status == 200 and network.asked == 4


def test_old_images_are_forgotten_while_nobody_asks(monkeypatch, network):
    monkeypatch.setattr(app, "_FORGET_EVERY_SECONDS", 0.02)
    made = []
    monkeypatch.setattr(app, "Kept", lambda *arguments: made.append(Kept(*arguments)) or made[0])
    model = ServedModel("a model", Segmenter(network, INFO), PARAMS)
    with page_server.served(app.build_app(model, Limits(kept_seconds=0.1), guard.LOOPBACK_NAMES)) as port:
        assert segment(port, png(pixels())).status == 200
        wait_for(lambda: made[0].num_bytes == 0)


def begin(port, data, length=None):
    """Sends a part of an image and leaves the connection open."""
    headers = [*browser_headers(port, **SEGMENT), ("Content-Length", str(length or len(data)))]
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(raw_request("POST", "/segment", headers, data))
    return connection


def test_what_is_not_sent_in_time_is_given_up(served, network):
    port = served(Limits(upload_seconds=0.2))
    with begin(port, png(pixels())[:100], 1000) as connection:
        response = receive(connection)
    assert response.status == 408 and network.asked == 0


def test_uploads_that_break_off_cost_nothing_and_keep_no_place(served, network):
    port = served()
    for _ in range(20):
        begin(port, png(pixels())[:100], 100_000).close()
    assert segment(port, png(pixels())).status == 200
    assert network.asked == 1


def test_a_caller_who_has_left_is_not_worked_for(served, network):
    port = served()
    network.seconds = 0.5
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(segment, port, png(pixels()))
        wait_for(lambda: network.inside == 1)
        for _ in range(3):
            begin(port, png(pixels())).close()
        assert first.result().status == 200
    network.seconds = 0
    assert segment(port, png(pixels())).status == 200
    assert network.asked == 2


def test_a_few_files_are_received_at_once_and_others_wait_unread(served):
    port = served()
    data = png(np.random.default_rng(0).integers(0, 256, (800, 900, 3), np.uint8))  # more than the buffers hold
    slow = [begin(port, data[:100], len(data)) for _ in range(app._FILES)]
    time.sleep(0.3)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(segment, port, data)
        time.sleep(0.5)
        assert not waiting.done()
        assert get(port, "/").status == 200  # the page itself does not wait
        slow.pop().close()
        assert waiting.result().status == 200
    for connection in slow:
        connection.close()


def test_too_many_connections_are_told_to_come_again(served):
    port = served()
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(server._CONNECTIONS)]
    time.sleep(0.3)
    assert get(port, "/").status == 503
    for connection in idle:
        connection.close()
    wait_for(lambda: get(port, "/").status == 200)


def test_a_connection_that_says_nothing_is_closed(served, monkeypatch):
    monkeypatch.setattr(server, "_FIRST_LINES_SECONDS", 0.3)
    port = served()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        assert connection.recv(1) == b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(raw_request("GET", "/page.css", browser_headers(port)) + b"GET / HTTP/1.1\r\nHo")
        assert receive(connection).status == 200
        for _ in range(30):  # drop by drop
            try:
                connection.sendall(b"x")
                if connection.recv(1, socket.MSG_DONTWAIT) == b"":
                    break
            except BlockingIOError:
                time.sleep(0.05)
            except ConnectionError:
                break
        else:
            pytest.fail("it stayed open")


def test_a_slow_network_is_not_cut_off(served, network, monkeypatch):
    monkeypatch.setattr(server, "_FIRST_LINES_SECONDS", 0.2)
    network.seconds = 0.8
    assert segment(served(), png(pixels())).status == 200


def test_a_defect_tells_the_caller_nothing_and_keeps_its_traceback(served, monkeypatch, capfd):
    port = served()
    monkeypatch.setattr(app.page, "draw_image", lambda image: 1 / 0)
    response = segment(port, png(pixels()))
    assert response.status == 500 and response.text == "Internal Server Error"
    said = []
    wait_for(lambda: said.append(capfd.readouterr().err) or "ZeroDivisionError" in "".join(said))


def test_nothing_is_written(served, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    port = served()
    data = png(pixels()) + bytes(2_500_000)  # more than web frameworks keep in memory
    assert refine(port, segment(port, data).json["image"], CONSTANTS).status == 200
    assert post(port, "/segment", SEGMENT, data[1:]).status == 422
    assert post(port, "/refine", REFINE, data).status == 413
    assert list(tmp_path.iterdir()) == []
