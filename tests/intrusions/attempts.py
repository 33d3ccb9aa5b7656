"""What somebody could send to the local page who should get nothing from it: a request that is right but for one thing.

Each kind is a function of a dice and a target; all have to be refused, with a status of 400 to 499.
"""

from __future__ import annotations

import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

from deeplab_tf.webapp import guard
from tests.page_server import REFINE, SEGMENT, Response, browser_headers, raw_request


class Target(NamedTuple):
    """The page that is attacked.

    Attributes:
        port: of 127.0.0.1.
        image: a file that it takes.
        key: of an image that it keeps.
        constants: of the CRF, that it takes.
        secret: path of a file that nobody may get.
        max_bytes: of a file.
    """

    port: int
    image: bytes
    key: str
    constants: dict[str, float]
    secret: str
    max_bytes: int


Headers = list[tuple[str, str]]

# The routes of larger libraries that serve pages, and of this one with something added.
_PATHS = (
    "/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/call/predict", "/gradio_api/upload",
    "/gradio_api/file={secret}", "/gradio_api/file=https://127.0.0.1:1/", "/gradio_api/proxy=http://127.0.0.1:1/",
    "/gradio_api/deep_link", "/gradio_api/process_recording", "/gradio_api/info", "/file={secret}", "/file/{secret}",
    "/run/predict", "/call/predict", "/upload", "/config", "/info", "/docs", "/redoc", "/openapi.json", "/metrics",
    "/{secret}", "//{secret}", "/static/../..{secret}", "/page.css/../../../../..{secret}", "/..%2f..%2f..{secret}",
    "/%2e%2e/%2e%2e{secret}", "/page.js%00.html", "/page.js%2f..%2f..{secret}", "/segment/", "/segment/..", "/refine/1",
    "/SEGMENT", "/page.css/", "/.git/config", "/page.py", "/__init__.py", "/favicon.ico", "/?", "*",
    "http://evil.example/", "http://127.0.0.1:1/segment", "/refine;x", "/./segment", "/segment%20",
)  # fmt: skip
_HOSTS = (
    "evil.example", "evil.example:{port}", "foo.localhost", "foo.localhost:{port}", "localhost.evil.example:{port}",
    "127.0.0.1.evil.example:{port}", "0.0.0.0:{port}", "[::]:{port}", "10.0.0.1:{port}", "localhost@evil.example",
    "evil.example@localhost:{port}", "127.1:{port}", "2130706433:{port}", "0x7f000001", "127.0.0.1:{port}:80",
    "127.0.0.1:", "localhost.:{port}", "127.0.0.1 evil.example", "[127.0.0.1]", "[::1", "", "localhost,evil.example",
    "[::ffff:10.0.0.1]:{port}", "localhost:{port}/", "127.0.0.2:{port}",
)  # fmt: skip
_ORIGINS = (
    "http://evil.example", "https://evil.example", "null", "http://localhost:1", "https://127.0.0.1:{port}",
    "http://127.0.0.1", "http://127.0.0.1:{port}.evil.example", "http://127.0.0.1:{port}@evil.example", "file://", "",
    "http://localhost:{port}", "http://foo.localhost:{port}", "http://127.0.0.1:{port}/", "ftp://127.0.0.1:{port}",
    "chrome-extension://abcdefghijklmnop", "http://127.0.0.1:{port}, http://evil.example", "http://[::1]:{port}",
)  # fmt: skip
_METHODS = ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "post", "GETS")
_FORM_TYPES = (
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "image/jpeg",
    "application/octet-stream, text/plain", "text/plain; application/octet-stream", "application/json;charset=utf-8",
)  # fmt: skip


def foreign_host(dice: random.Random, target: Target) -> bytes:
    host = dice.choice(_HOSTS).format(port=target.port)
    # Of a name that leads here: for the browser the page and its requests are of one origin.
    return _request(dice, target, Host=host, Origin=f"http://{host}")


def no_host(dice: random.Random, target: Target) -> bytes:
    return _request(dice, target, version=dice.choice(("1.0", "1.1")), Host=None)


def two_hosts(dice: random.Random, target: Target) -> bytes:
    return _request(dice, target, more=[("Host", dice.choice(("evil.example", f"127.0.0.1:{target.port}")))])


def foreign_origin(dice: random.Random, target: Target) -> bytes:
    return _request(dice, target, Origin=dice.choice(_ORIGINS).format(port=target.port))


def two_origins(dice: random.Random, target: Target) -> bytes:
    return _request(dice, target, more=[("Origin", "http://evil.example")])


def no_origin(dice: random.Random, target: Target) -> bytes:
    return _request(dice, target, only_post=True, Origin=None)


def other_site(dice: random.Random, target: Target) -> bytes:
    site = dice.choice(("cross-site", "same-site", "CROSS-SITE", "", "evil"))
    mode, kind = dice.choice((("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe"), ("navigate", "embed")))
    origin = dice.choice((None, f"http://127.0.0.1:{target.port}"))
    return _request(
        dice, target, **{"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": kind}, Origin=origin
    )


def form_of_another_page(dice: random.Random, target: Target) -> bytes:
    return _request(dice, target, only_post=True, **{"Content-Type": dice.choice(_FORM_TYPES)})


def other_route(dice: random.Random, target: Target) -> bytes:
    path = dice.choice(_PATHS).format(secret=target.secret)
    method = dice.choice(("GET", "POST")) if path != "/?" else "POST"
    return raw_request(method, path, browser_headers(target.port, **dice.choice((SEGMENT, REFINE))), target.image)


def other_method(dice: random.Random, target: Target) -> bytes:
    path = dice.choice(("/", "/page.js", "/page.css", "/segment", "/refine"))
    method = dice.choice((*_METHODS, "POST" if path in ("/", "/page.js", "/page.css") else "GET"))
    return raw_request(method, path, browser_headers(target.port, **SEGMENT))


def name_of_a_file(dice: random.Random, target: Target) -> bytes:
    """Instead of an image, what other programs open: a path, a URL, a playlist, a picture that includes another."""
    secret = target.secret
    path = dice.choice((secret, f"file://{secret}", "/dev/zero", "/proc/self/environ", "http://127.0.0.1:1/x.png", "/"))
    body = dice.choice(
        (
            path,
            json.dumps({"path": path, "meta": {"_type": "gradio.FileData"}}),
            json.dumps({"data": [{"path": path}]}),
            f"#EXTM3U\n#EXTINF:1,\n{path}\n",
            f"ffconcat version 1.0\nfile '{path}'\n",
            f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{path}"/></svg>',
            f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY y SYSTEM "{path}">]><x>&y;</x>',
            f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({path}) run\n",
            f"push graphic-context\nimage over 0,0 0,0 '{path}'\npop graphic-context\n",
        )
    )
    return raw_request("POST", f"/segment?name={path}", browser_headers(target.port, **SEGMENT), body.encode())


def too_long(dice: random.Random, target: Target) -> bytes:
    headers = browser_headers(target.port, **dice.choice((SEGMENT, REFINE)))
    if dice.random() < 0.5:
        length = target.max_bytes + dice.randrange(1, 1 << 40)
        return raw_request("POST", _route_of(headers), [*headers, ("Content-Length", str(length))], b"x" * 100)
    piece = b"%x\r\n%s\r\n" % (1 << 20, bytes(1 << 20))
    body = piece * (target.max_bytes // (1 << 20) + 1)
    return raw_request("POST", _route_of(headers), [*headers, ("Transfer-Encoding", "chunked")], body)


def wrong_length(dice: random.Random, target: Target) -> bytes:
    """A length that is none, or two of them, or a length and pieces: what hides one request in another."""
    lengths = dice.choice(
        (
            [("Content-Length", "-1")],
            [("Content-Length", "1e3")],
            [("Content-Length", "3"), ("Content-Length", "4")],
            [("Content-Length", "4"), ("Transfer-Encoding", "chunked, identity")],
            [("Transfer-Encoding", "gzip")],
        )
    )
    return raw_request(
        "POST", "/segment", [*browser_headers(target.port, **SEGMENT), *lengths], b"ab\r\nGET / HTTP/1.1\r\n"
    )


def damaged_image(dice: random.Random, target: Target) -> bytes:
    data = target.image[: dice.randrange(len(target.image) // 2)]
    if dice.random() < 0.3:
        data = dice.randbytes(dice.randrange(2000))
    return raw_request("POST", "/segment", browser_headers(target.port, **SEGMENT), data)


def image_of_many_pixels(dice: random.Random, target: Target) -> bytes:
    width, height = dice.choice(((60_000, 60_000), (1, 2**31 - 1), (2**31 - 1, 2**31 - 1), (10_000, 5_001), (0, 5)))
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    data += struct.pack(">I", 1000) + b"IDAT"
    return raw_request("POST", "/segment", browser_headers(target.port, **SEGMENT), data)


def wrong_constants(dice: random.Random, target: Target) -> bytes:
    constants = dict(target.constants)
    name = dice.choice(sorted(constants))
    constants[name] = dice.choice((-1, 1e9, 1e308, 10**400, float("nan"), float("inf"), None, "1", [], {}, True, 2**63))
    constants = dice.choice((constants, {**target.constants, "path": target.secret}, {}, [], None, 5, "w1"))
    fields = {"image": target.key, "constants": constants}
    body = json.dumps(fields).encode()
    body = dice.choice((body, body[:-2], b"[" * 1900, b'{"image":' * 200, b"\xff\xfe", b"", b"null", b"{}"))
    return raw_request("POST", "/refine", browser_headers(target.port, **REFINE), body)


def image_of_somebody_else(dice: random.Random, target: Target) -> bytes:
    key = dice.choice((target.key[:-1], target.key + "x", "", "0", target.secret, "../" + target.key, "x" * 1000))
    body = json.dumps({"image": key, "constants": target.constants}).encode()
    return raw_request("POST", "/refine", browser_headers(target.port, **REFINE), body)


def many_headers(dice: random.Random, target: Target) -> bytes:
    more = [(f"X-{number}", "x" * 200) for number in range(dice.randrange(3000, 4000))]
    return _request(dice, target, more=more)


def no_http(dice: random.Random, target: Target) -> bytes:
    noise = dice.randbytes(dice.randrange(1, 3000))
    return (
        dice.choice((noise, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
        + b"\r\n\r\n"
    )


KINDS: dict[str, Callable[[random.Random, Target], bytes]] = {
    kind.__name__: kind
    for kind in (
        foreign_host, no_host, two_hosts, foreign_origin, two_origins, no_origin, other_site, form_of_another_page,
        other_route, other_method, name_of_a_file, too_long, wrong_length, damaged_image, image_of_many_pixels,
        wrong_constants, image_of_somebody_else, many_headers, no_http,
    )
}  # fmt: skip
NO_HTTP = {"no_host", "two_hosts", "wrong_length", "many_headers", "no_http"}
"""Kinds that the HTTP library may answer by itself, or by closing the connection."""


def complaint(kind: str, response: Response, secret: bytes) -> str:
    """Says what is wrong with a response to an attempt; "" where it was refused as it should be.

    Args:
        kind: of `KINDS`.
        response: of the page.
        secret: what is in the file that nobody may get.
    """
    if secret in response.body:
        return "the secret file came back"
    if kind in NO_HTTP and (response.status == 0 or "content-security-policy" not in response.headers):
        return "" if response.status in (0, 400) else f"status {response.status}"
    if not 400 <= response.status <= 499:
        return f"status {response.status}"
    if any(response.headers.get(name.lower()) != value for name, value in guard.HEADERS.items()):
        return "a header is missing"
    if {"server", "set-cookie", "access-control-allow-origin", "location"} & set(response.headers):
        return "a header that tells or allows something"
    if re.search(rb"Traceback|site-packages|\.py\b|uvicorn|starlette", response.body):
        return "the response tells of the program"
    return ""


def _request(
    dice: random.Random,
    target: Target,
    more: Headers | None = None,
    version: str = "1.1",
    only_post: bool = False,
    **other: str | None,
) -> bytes:
    """A request of the page, with other headers in the place of its own; None leaves one out."""
    refined = json.dumps({"image": target.key, "constants": target.constants}).encode()
    requests = [("POST", "/segment", SEGMENT, target.image), ("POST", "/refine", REFINE, refined)]
    if not only_post:
        requests += [("GET", path, {}, b"") for path in ("/", "/page.js", "/page.css")]
    method, path, headers, body = dice.choice(requests)
    merged = dict(browser_headers(target.port)) | headers | other
    lines = [(name, value) for name, value in merged.items() if value is not None]
    return raw_request(method, path, [*lines, *(more or [])], body, version)


def _route_of(headers: Headers) -> str:
    return "/segment" if ("Content-Type", SEGMENT["Content-Type"]) in headers else "/refine"
