"""The local page, served on a loopback port, and what speaks HTTP to it without a browser's good manners."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

SEGMENT = {"Content-Type": "application/octet-stream"}
REFINE = {"Content-Type": "application/json"}


class Response(NamedTuple):
    """A response; status 0 where the server closed the connection without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def browser_headers(port: int, **more: str) -> list[tuple[str, str]]:
    """Returns what a browser sends with a request of the page itself; underscores stand for hyphens."""
    headers = {"Host": f"127.0.0.1:{port}", "Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
    return [*headers.items(), *((name.replace("_", "-"), value) for name, value in more.items())]


def raw_request(
    method: str, target: str, headers: list[tuple[str, str]], body: bytes = b"", version: str = "1.1"
) -> bytes:
    """Puts a request together, whatever it says; Content-Length is added where there is a body and no length."""
    lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in headers)]
    names = {name.lower() for name, _ in headers}
    if (body or method == "POST") and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def send(port: int, data: bytes, seconds: float = 300, address: str = "127.0.0.1") -> Response:
    """Sends bytes and reads one response; what the server does not read is no error."""
    with socket.create_connection((address, port), timeout=seconds) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        return receive(connection)


def receive(connection: socket.socket) -> Response:
    """Reads one response."""
    received = bytearray()

    def more() -> bool:
        with contextlib.suppress(ConnectionError):
            piece = connection.recv(1 << 16)
            received.extend(piece)
            return bool(piece)
        return False

    while b"\r\n\r\n" not in received:
        if not more():
            return Response(0, {}, bytes(received))
    head = bytes(received).partition(b"\r\n\r\n")[0]
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    begin = len(head) + 4
    while len(received) - begin < int(headers.get("content-length", 1 << 60)):
        if not more():
            break
    return Response(int(first.split()[1]), headers, bytes(received[begin:]))


def post(port: int, target: str, headers: dict[str, str], body: bytes, **other: str) -> Response:
    """Sends what the page itself would send."""
    merged = dict(browser_headers(port)) | headers | {name.replace("_", "-"): value for name, value in other.items()}
    return send(port, raw_request("POST", target, list(merged.items()), body))


def get(port: int, target: str, **other: str) -> Response:
    """Sends what a browser sends that opens an address."""
    headers = {"Host": f"127.0.0.1:{port}"} | {name.replace("_", "-"): value for name, value in other.items()}
    return send(port, raw_request("GET", target, list(headers.items())))


def segment(port: int, data: bytes, name: str = "") -> Response:
    return post(port, "/segment" + (f"?name={name}" if name else ""), SEGMENT, data)


def refine(port: int, image: str, constants: Any) -> Response:
    return post(port, "/refine", REFINE, json.dumps({"image": image, "constants": constants}).encode())


@contextlib.contextmanager
def served(app: Any, listener: socket.socket | None = None) -> Iterator[int]:
    """Serves an application in a thread and yields its port."""
    from deeplab_tf.webapp import server

    with listener or server.listen("127.0.0.1", 0) as listening:
        running = server.build_server(app)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        end = time.monotonic() + 60
        while not running.started and thread.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        assert running.started
        try:
            yield listening.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


class ColourNetwork:
    """Probabilities by colour: blue is background, red a cat, green a dog, none for sure. Counts who asks at once."""

    def __init__(self) -> None:
        self.asked = self.inside = self.most_inside = 0
        self.seconds = 0.0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.asked += 1
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        time.sleep(self.seconds)
        scores = image[..., [2, 0, 1]].astype(np.float32) / 64
        exponentials = np.exp(scores)
        probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
        self.inside -= 1
        return probabilities


def pixels(height: int = 24, width: int = 40, seed: int = 0) -> np.ndarray:
    """Blue, with a red block that is a tenth of it, and noise."""
    image = np.full((height, width, 3), (40, 40, 200), np.float32)
    image[: height // 2, : width // 5] = (200, 40, 40)
    image += np.random.default_rng(seed).normal(0, 12, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def png(image: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG")
    return encoded.getvalue()
