"""Requests that are not the page's own get nothing: over HTTP, with headers as they could come from anywhere."""

import random
import re

import pytest

pytest.importorskip("starlette", reason="needs requirements-webapp.txt")

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.inference.segmenter import Segmenter
from deeplab_tf.webapp import app, guard
from deeplab_tf.webapp.page import Limits
from deeplab_tf.webapp.served_model import ServedModel
from tests import page_server
from tests.intrusions.attempts import KINDS, Target, complaint
from tests.page_server import (
    SEGMENT,
    ColourNetwork,
    browser_headers,
    get,
    pixels,
    png,
    post,
    raw_request,
    segment,
    send,
)

PARAMS = CrfParams(w1=4, sigma_alpha=20, sigma_beta=5, w2=3, sigma_gamma=2, iterations=3)
LIMITS = Limits(max_bytes=2_000_000)
SECRET = b"what nobody else may read 4711"
IMAGE = png(pixels())
CONSTANTS = {"w1": 4, "sigma_alpha": 20, "sigma_beta": 5, "w2": 3, "sigma_gamma": 2, "iterations": 3}


def small_app(network, token="", names=guard.LOOPBACK_NAMES):
    info = DatasetInfo("things", ("background", "cat", "dog"), pascal_palette(3))
    return app.build_app(ServedModel("a model", Segmenter(network, info), PARAMS), LIMITS, names, token)


@pytest.fixture(scope="module")
def network():
    return ColourNetwork()


@pytest.fixture(scope="module")
def port(network):
    with page_server.served(small_app(network)) as port:
        yield port


@pytest.fixture(scope="module")
def target(port, tmp_path_factory):
    secret = tmp_path_factory.mktemp("home") / "secret.txt"
    secret.write_bytes(SECRET)
    key = segment(port, IMAGE).json["image"]
    return Target(port, IMAGE, key, CONSTANTS, str(secret), 2_000_000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_that_is_not_the_pages_own_is_refused_and_nothing_is_computed(target, network, kind):
    asked = network.asked
    dice = random.Random(kind)
    for number in range(60 if kind in ("foreign_host", "foreign_origin", "other_route") else 20):
        data = KINDS[kind](dice, target)
        found = complaint(kind, send(target.port, data), SECRET)
        assert not found, f"{found} at case {number}: {data[:600]!r}"
    assert network.asked == asked


def test_the_pages_own_requests_are_answered(target):
    assert get(target.port, "/").status == get(target.port, "/page.js").status == 200
    assert segment(target.port, IMAGE).status == 200
    assert page_server.refine(target.port, target.key, target.constants).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
@pytest.mark.parametrize("forwarded", ["", ":80", ":9999"])
def test_a_forwarded_port_may_be_another_one(port, host, forwarded):
    headers = {"Host": host + forwarded, "Origin": f"http://{host}{forwarded}"}
    assert post(port, "/segment", SEGMENT | headers, IMAGE).status == 200


def test_the_address_of_the_connection_is_the_machines_own():
    with page_server.served(small_app(ColourNetwork(), names=("localhost",))) as other:
        assert get(other, "/").status == 200
        assert get(other, "/", Host="127.0.0.2").status == 403


def test_a_link_on_another_page_may_open_the_page_and_nothing_else(port):
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert get(port, "/", **link).status == 200
    assert get(port, "/page.js", **link).status == 403
    assert post(port, "/segment", SEGMENT, IMAGE, **link).status == 403


def test_every_response_forbids_what_the_page_does_not_do(port):
    responses = (get(port, "/"), get(port, "/nothing"), get(port, "/", Host="evil.example"), segment(port, b"no image"))
    for response in responses:
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "server" not in response.headers and "access-control-allow-origin" not in response.headers


def test_a_wrong_name_is_told_how_to_mend_it(port):
    assert "--names=NAME" in get(port, "/", Host="gpu7.example").text


def test_with_a_token_nothing_but_style_and_script_comes_without_it():
    network = ColourNetwork()
    with page_server.served(small_app(network, token="right")) as port:
        for wrong in ("/", "/?token=", "/?token=wrong", "/?Token=right", "/?token=righ", "/?token=right1"):
            assert get(port, wrong).status == 403, wrong
        assert get(port, "/?token=right").status == get(port, "/page.css").status == get(port, "/page.js").status == 200
        for wrong in ("", "Bearer wrong", "right", "Basic right", "Bearer", "Bearer  right", "bearer right"):
            for path in ("/segment", "/refine", "/segment?token=right"):
                assert post(port, path, SEGMENT | {"Authorization": wrong}, IMAGE).status == 403
        assert post(port, "/segment", SEGMENT, IMAGE).status == 403 and network.asked == 0
        assert post(port, "/segment", SEGMENT | {"Authorization": "Bearer right"}, IMAGE).status == 200
        twice = [
            *browser_headers(port, **SEGMENT),
            ("Authorization", "Bearer right"),
            ("Authorization", "Bearer right"),
        ]
        assert send(port, raw_request("POST", "/segment", twice, IMAGE)).status == 403
    assert network.asked == 1


def test_the_token_is_in_no_response():
    with page_server.served(small_app(ColourNetwork(), token="very-secret-token")) as port:
        for response in (get(port, "/"), get(port, "/?token=very-secret-token"), get(port, "/page.js")):
            assert b"very-secret-token" not in response.body and "very-secret-token" not in str(response.headers)


def test_what_is_neither_http_nor_the_applications_start_is_not_passed_on():
    async def called(scope, receive, send):
        raise AssertionError

    coroutine = guard.Guard(called, guard.LOOPBACK_NAMES)({"type": "websocket"}, None, None)
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_a_route_that_is_added_is_guarded_too():
    inner = Starlette(routes=[Route("/new", lambda request: PlainTextResponse("secret"))])
    with page_server.served(guard.Guard(inner, guard.LOOPBACK_NAMES, "token")) as port:
        assert get(port, "/new").status == 403
        assert get(port, "/new", Authorization="Bearer token").text == "secret"
        assert get(port, "/new", Authorization="Bearer token", Host="evil.example").status == 403


def test_no_html_that_the_server_writes_has_script_or_style_in_it(port):
    html = get(port, "/").text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|javascript:|\sstyle=", html)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", html)
