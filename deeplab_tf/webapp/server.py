"""Listening on an address, and saying who can open the page there."""

from __future__ import annotations

import ipaddress
import secrets
import signal
import socket
import sys
from asyncio import Transport
from typing import NamedTuple

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from deeplab_tf.errors import UserError
from deeplab_tf.webapp.guard import LOOPBACK_NAMES

_TERMINATED = 128 + signal.SIGTERM
# A browser opens six at most; the next one is told to come again.
_CONNECTIONS = 64
_FIRST_LINES_SECONDS = 10
_FIRST_LINES_BYTES = 16_384
_FINISH_SECONDS = 5


class Entrance(NamedTuple):
    """How the page is reached.

    Attributes:
        names: of this machine.
        token: that requests have to bring, or "".
        addresses: to open in a browser, on this machine first.
        warning: who else can reach it; "" where nobody can.
    """

    names: frozenset[str]
    token: str
    addresses: tuple[str, ...]
    warning: str


class _Connection(H11Protocol):
    """A connection that is closed when the first lines of its next request do not come."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_request()

    def _expect_request(self) -> None:
        last = self.cycle

        def close() -> None:
            if self.cycle is last and (last is None or last.response_complete):
                self.transport.close()

        self.loop.call_later(_FIRST_LINES_SECONDS, close)


def listen(host: str, port: int) -> socket.socket:
    """Takes an address.

    Args:
        host: an address or a name of this machine.
        port: 1..65535, or 0 for any that is free.

    Raises:
        UserError: no such host, or the port is in use or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise UserError(
            f"cannot listen on --host={host} --port={port}: {reason}. Name another --port, or --port=0 for any that is "
            "free."
        ) from error


def open_entrance(listener: socket.socket, host: str, names: list[str], with_token: bool = False) -> Entrance:
    """Decides by which names the page is reached, and whether it wants a token.

    Args:
        listener: from `listen`.
        host: that it was told to listen on.
        names: further ones of this machine.
        with_token: want one also where only this machine can reach the page.
    """
    address, port = listener.getsockname()[:2]
    parsed = ipaddress.ip_address(address)
    known = {*LOOPBACK_NAMES, *names}
    shown, warning = [address], ""
    if not parsed.is_loopback:
        this_machine = socket.gethostname()
        known |= {this_machine, f"{this_machine}.local", *([] if parsed.is_unspecified else [host])}
        if parsed.is_unspecified:  # browsers take this address for 127.0.0.1, other pages' scripts included
            shown = ["127.0.0.1" if parsed.version == 4 else "::1", this_machine]
        warning = (
            f"warning: other machines can reach this page, at port {port}. The token lets in anyone who has it;"
            " without it they can only keep the port busy. Nothing is encrypted: anyone who reads the network's traffic"
            " sees the token and the images. Safer is --host=127.0.0.1 with ssh -L."
        )
    token = secrets.token_urlsafe(24) if with_token or not parsed.is_loopback else ""
    addresses = tuple(_url(name, port, token) for name in shown)
    return Entrance(frozenset(name.lower() for name in known), token, addresses, warning)


def serve(app: ASGIApp, listener: socket.socket, entrance: Entrance) -> None:
    """Answers until Ctrl-C (KeyboardInterrupt) or SIGTERM (SystemExit with 143).

    Args:
        app: the page.
        listener: from `listen`; closed at the end.
        entrance: what to say of it.
    """
    if entrance.warning:
        print(entrance.warning, file=sys.stderr)
    here, *elsewhere = entrance.addresses
    for address in elsewhere:
        print(f"on another machine, open {address}")
    print(f"open {here} in a browser; Ctrl-C ends", flush=True)
    # uvicorn hands a signal on when it has closed all.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        build_server(app).run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def build_server(app: ASGIApp) -> uvicorn.Server:
    """Returns a server that says nothing of itself, believes no proxy and keeps few connections open."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            lifespan="on",
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            h11_max_incomplete_event_size=_FIRST_LINES_BYTES,
            timeout_graceful_shutdown=_FINISH_SECONDS,
        )
    )


def _url(name: str, port: int, token: str) -> str:
    host = f"[{name}]" if ":" in name else name
    return f"http://{host}:{port}/" + (f"?token={token}" if token else "")
