"""The page in a real browser, with a network that takes no time; and pages of somebody else in the same browser."""

import base64
import contextlib
import http.server
import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="needs requirements-webapp.txt")

from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.inference.segmenter import Segmenter
from deeplab_tf.webapp import app, guard
from deeplab_tf.webapp.page import Limits
from deeplab_tf.webapp.served_model import ServedModel
from tests import browser, page_server
from tests.page_server import ColourNetwork, pixels, png
from tests.processes import wait_for

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="needs chromium")

NAMES = ("background", "cat", "<img src=x onerror=alert(1)>")
PARAMS = CrfParams(w1=4, sigma_alpha=20, sigma_beta=5, w2=3, sigma_gamma=2, iterations=3)
SHOWN = "!document.querySelector('#shown').hidden && !document.querySelector('#answer.busy')"
PROBLEM = "!document.querySelector('#problem').hidden"
probabilities_of = ColourNetwork()


@contextlib.contextmanager
def served(network, limits=None, **options):
    model = ServedModel("a model", Segmenter(network, DatasetInfo("things", NAMES, pascal_palette(3))), PARAMS)
    with page_server.served(app.build_app(model, limits or Limits(), guard.LOOPBACK_NAMES, **options)) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser.browser(tmp_path_factory.mktemp("profile"), "--host-resolver-rules=MAP *.example 127.0.0.1") as page:
        yield page


@pytest.fixture
def network():
    return ColourNetwork()


@pytest.fixture
def address(network):
    with served(network) as address:
        yield address


@pytest.fixture
def file(tmp_path):
    return save(tmp_path / "picture.png")


def save(path, seed=0):
    path.write_bytes(png(pixels(seed=seed)))
    return path


def script(name):
    return (Path(browser.__file__).parent / "intrusions" / name).read_text(encoding="utf-8")


def open_page(page, address):
    page.open(address)
    page.wait(f"location.href === {address!r} && document.body && document.body.dataset.ready")
    page.requests.clear()
    page.complaints.clear()
    page.exceptions.clear()


def shown_labels(page):
    source = page.value("document.querySelector('.shown img.labels').src")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def labels_of(seed=0, params=None):
    probabilities = probabilities_of(pixels(seed=seed))
    return np.argmax(probabilities if params is None else dense_crf(pixels(seed=seed), probabilities, params), -1)


def posted(page, route):
    return len([url for url in page.requests if f"/{route}" in url])


def test_a_file_that_is_chosen_dropped_or_pasted_is_shown(page, address, file, tmp_path):
    open_page(page, address)
    page.choose_file("input[type=file]", file)
    page.wait(SHOWN)
    np.testing.assert_array_equal(shown_labels(page), labels_of())
    assert page.value("document.querySelector('#name').textContent") == "picture.png"

    page.drop_file("main", save(tmp_path / "dropped.png", seed=1))
    page.wait(f"document.querySelector('#name').textContent === 'dropped.png' && {SHOWN}")
    np.testing.assert_array_equal(shown_labels(page), labels_of(1))

    encoded = base64.b64encode(png(pixels(seed=2))).decode()
    page.value(
        f"""fetch('data:image/png;base64,{encoded}').catch(() => null).then(() => {{
          const bytes = Uint8Array.from(atob('{encoded}'), (letter) => letter.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], 'pasted.png', {{type: 'image/png'}}));
          document.body.dispatchEvent(new ClipboardEvent('paste', {{clipboardData: data, bubbles: true}}));
        }})"""
    )
    page.wait(f"document.querySelector('#name').textContent === 'pasted.png' && {SHOWN}")
    np.testing.assert_array_equal(shown_labels(page), labels_of(2))
    assert posted(page, "segment") == 3 and page.exceptions == []


def test_the_sliders_of_the_crf_are_greyed_until_it_is_on_and_run_the_crf_only(page, address, network, file):
    open_page(page, address)
    assert page.value(
        "[...document.querySelectorAll('#constants input, #constants button')].every(e => e.matches(':disabled'))"
    )
    opacity = "+getComputedStyle(document.querySelector('#w1 input[type=range]')).opacity"
    assert page.value(opacity) < 0.5
    page.choose_file("input[type=file]", file)
    page.wait(SHOWN)
    page.value("document.querySelector('#crf input').click()")
    page.wait(f"document.querySelector('.facts').textContent.includes('CRF') && {SHOWN}")
    assert page.value(opacity) == 1
    np.testing.assert_array_equal(shown_labels(page), labels_of(params=PARAMS))

    page.press("#w1 input[type=range]", "End")
    page.wait(f"document.querySelector('#w1 input[type=number]').value === '20' && {SHOWN}")
    stronger = CrfParams(w1=20, sigma_alpha=20, sigma_beta=5, w2=3, sigma_gamma=2, iterations=3)
    np.testing.assert_array_equal(shown_labels(page), labels_of(params=stronger))
    page.value("document.querySelector('#w1 button').click()")
    page.wait(f"document.querySelector('#w1 input[type=range]').value === '4' && {SHOWN}")
    np.testing.assert_array_equal(shown_labels(page), labels_of(params=PARAMS))
    assert network.asked == 1 and posted(page, "segment") == 1 and page.exceptions == []


def test_the_number_beside_a_slider_counts_exactly_and_nonsense_is_not_sent(page, address, file):
    open_page(page, address)
    page.value("document.querySelector('#crf input').click()")
    page.choose_file("input[type=file]", file)
    page.wait(SHOWN)
    set_to = "(() => {{ const n = document.querySelector('#sigma_beta input[type=number]'); n.value = '{}';"
    set_to += " n.dispatchEvent(new Event('change')); }})()"
    before = posted(page, "refine")
    for nonsense in ("-3", "1000", ""):
        page.value(set_to.format(nonsense))
    time.sleep(0.2)
    page.value("1")  # so that what has happened is noted
    assert posted(page, "refine") == before
    page.value(set_to.format("7.77"))
    page.wait(f"document.querySelector('#sigma_beta input[type=range]').value === '7.8' && {SHOWN}")
    exact = CrfParams(w1=4, sigma_alpha=20, sigma_beta=7.77, w2=3, sigma_gamma=2, iterations=3)
    np.testing.assert_array_equal(shown_labels(page), labels_of(params=exact))


def test_turning_the_crf_off_and_on_again_and_moving_the_opacity_ask_nobody(page, address, file):
    open_page(page, address)
    page.value("document.querySelector('#crf input').click()")
    page.choose_file("input[type=file]", file)
    page.wait(f"document.querySelector('.facts').textContent.includes('CRF') && {SHOWN}")
    asked = posted(page, "segment") + posted(page, "refine")
    page.value("document.querySelector('#crf input').click()")
    page.wait("!document.querySelector('.facts').textContent.includes('CRF')")
    np.testing.assert_array_equal(shown_labels(page), labels_of())
    page.value("document.querySelector('#crf input').click()")
    page.wait("document.querySelector('.facts').textContent.includes('CRF')")
    np.testing.assert_array_equal(shown_labels(page), labels_of(params=PARAMS))
    page.press("#opacity-range", "ArrowLeft", times=15)
    page.wait("getComputedStyle(document.querySelector('.layer')).opacity === '0.4'")
    assert page.value("document.querySelector('#opacity output').textContent") == "40 %"
    assert posted(page, "segment") + posted(page, "refine") == asked == 2


def test_what_changes_while_a_request_runs_is_asked_for_once_afterwards(page, address, network, file):
    open_page(page, address)
    network.seconds = 0.7
    page.value("document.querySelector('#crf input').click()")
    page.choose_file("input[type=file]", file)
    wait_for(lambda: network.inside == 1)
    page.press("#w1 input[type=range]", "ArrowRight", times=20)
    page.wait(SHOWN)
    last = CrfParams(w1=6, sigma_alpha=20, sigma_beta=5, w2=3, sigma_gamma=2, iterations=3)
    np.testing.assert_array_equal(shown_labels(page), labels_of(params=last))
    assert posted(page, "segment") == 1 and posted(page, "refine") <= 2


def test_the_file_that_was_chosen_last_is_shown(page, address, network, tmp_path):
    open_page(page, address)
    network.seconds = 0.5
    page.choose_file("input[type=file]", save(tmp_path / "first.png", seed=1))
    wait_for(lambda: network.inside == 1)
    page.choose_file("input[type=file]", save(tmp_path / "second.png", seed=2))
    page.wait(SHOWN)
    np.testing.assert_array_equal(shown_labels(page), labels_of(2))
    time.sleep(0.7)
    np.testing.assert_array_equal(shown_labels(page), labels_of(2))


def test_two_pages_have_images_of_their_own_and_one_that_was_dropped_is_sent_again(page, network, tmp_path):
    one = 24 * 40 * (3 + 1 + 3 * 4)
    profile = tmp_path / "profile"
    with served(network, Limits(kept_bytes=one)) as address, browser.browser(profile) as other:
        for number, each in enumerate((page, other)):
            open_page(each, address)
            each.choose_file("input[type=file]", save(tmp_path / f"{number}.png", seed=number))
            each.wait(SHOWN)
        for number, each in enumerate((page, other)):
            each.value("document.querySelector('#crf input').click()")
            each.wait(f"document.querySelector('.facts').textContent.includes('CRF') && {SHOWN}")
            np.testing.assert_array_equal(shown_labels(each), labels_of(number, PARAMS))
        assert network.asked == 4


def test_a_file_that_cannot_be_taken_is_named_and_the_next_one_is_shown(page, network, file, tmp_path):
    (tmp_path / "damaged.png").write_bytes(png(pixels())[:300])
    (tmp_path / "large.png").write_bytes(png(pixels()) + bytes(100_000))
    with served(network, Limits(max_bytes=50_000)) as address:
        open_page(page, address)
        problem = "document.querySelector('#problem').textContent"
        page.choose_file("input[type=file]", tmp_path / "damaged.png")
        page.wait(PROBLEM)
        assert page.value(problem).startswith("damaged.png: expected a whole image")
        page.choose_file("input[type=file]", tmp_path / "large.png")
        page.wait(f"{problem}.startsWith('large.png: expected a file of at most 0.05 MB, got 0.1 MB.')")
        assert posted(page, "segment") == 1 and not page.value(SHOWN)
        page.choose_file("input[type=file]", file)
        page.wait(SHOWN)
        assert not page.value(PROBLEM)


def test_a_server_that_has_ended_is_said_and_the_image_stays(page, network, file):
    with served(network) as address:
        open_page(page, address)
        page.choose_file("input[type=file]", file)
        page.wait(SHOWN)
    page.value("document.querySelector('#crf input').click()")
    page.wait(PROBLEM)
    assert "does not answer" in page.value("document.querySelector('#problem').textContent")
    np.testing.assert_array_equal(shown_labels(page), labels_of())


def test_results_are_saved_under_the_files_name(page, address, file, tmp_path):
    open_page(page, address)
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "saved"))
    page.choose_file("input[type=file]", file)
    page.wait(SHOWN)
    for link, name in (("#save-labels", "picture_labels.png"), ("#save-overlay", "picture_overlay.jpg")):
        page.value(f"document.querySelector('{link}').click()")
        wait_for((tmp_path / "saved" / name).exists)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "saved" / "picture_labels.png")), labels_of())
    overlay = np.asarray(Image.open(tmp_path / "saved" / "picture_overlay.jpg")).astype(int)
    # Inside the red block: the cat's dark red over it, 55 % of 128 and 45 % of 200.
    assert overlay.shape == (24, 40, 3) and np.abs(overlay[4:8, 3:5].mean((0, 1)) - [160, 18, 18]).max() < 20


def test_a_class_name_is_only_a_text(page, address, tmp_path):
    (tmp_path / "green.png").write_bytes(png(np.full((8, 8, 3), (0, 255, 0), np.uint8)))
    open_page(page, address)
    page.choose_file("input[type=file]", tmp_path / "green.png")
    page.wait(SHOWN)
    assert page.value("document.querySelector('.legend b').textContent") == NAMES[2]
    assert page.value("document.querySelectorAll('.legend img').length") == 0
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_modes(page, address, file, tmp_path, scheme):
    (tmp_path / "damaged.png").write_bytes(png(pixels())[:300])
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    open_page(page, address)
    contrasts = page.value(script("contrasts.js"))  # the CRF is off, its sliders are grey
    page.choose_file("input[type=file]", file)
    page.wait(SHOWN)
    page.value("document.querySelector('#crf input').click()")
    page.wait(f"document.querySelector('.facts').textContent.includes('CRF') && {SHOWN}")
    contrasts |= page.value(script("contrasts.js"))
    page.choose_file("input[type=file]", tmp_path / "damaged.png")
    page.wait(PROBLEM)
    contrasts |= page.value(script("contrasts.js"))
    page.call("Emulation.setEmulatedMedia", features=[])
    assert len(contrasts) > 30 and {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}


def test_with_a_token_the_printed_address_works_and_no_other(page, network, file):
    with served(network, token="right") as address:
        page.open(address)
        page.wait("document.body && document.body.innerText.includes('wants the token')")
        open_page(page, f"{address}?token=right")
        page.value("document.querySelector('#crf input').click()")
        page.choose_file("input[type=file]", file)
        page.wait(f"document.querySelector('.facts').textContent.includes('CRF') && {SHOWN}")
    np.testing.assert_array_equal(shown_labels(page), labels_of(params=PARAMS))


@contextlib.contextmanager
def hostile_server():
    """A page of somebody else, on a port of its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<!doctype html><body><script>{script('hostile.js')}</script></body>".encode())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "evil.example"])
def test_a_page_of_somebody_else_gets_nothing(page, address, network, name):
    with hostile_server() as port:
        page.open(f"http://{name}:{port}/#{address}")
        page.wait("window.attack")
        got = page.value("window.attack()")
    assert len(got) == 23 and {what: value for what, value in got.items() if value is not None} == {}
    assert network.asked == 0


def test_a_name_that_leads_to_this_machine_gets_nothing(page, address, network):
    rebound = address.replace("127.0.0.1", "evil.example")
    page.open(rebound)
    page.wait("document.body && document.body.innerText.includes('answers only to the names')")
    assert page.value("location.href") == rebound
    tried = """Promise.all([fetch('/'), fetch('/page.js'), fetch('/segment', {method: 'POST', body: 'x',
      headers: {'Content-Type': 'application/octet-stream'}})].map((answer) => answer.then((r) => r.status)))"""
    assert page.value(tried) == [403, 403, 403]
    assert network.asked == 0
