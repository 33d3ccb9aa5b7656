"""Listening on an address, for one page that asks nobody else for anything."""

from __future__ import annotations

import ipaddress
import signal
import socket
import sys

import fastapi
import gradio as gr
import starlette.routing
import uvicorn

from deeplab_tf.errors import UserError
from deeplab_tf.webapp.interface import appearance

_TERMINATED = 128 + signal.SIGTERM


class _Server(uvicorn.Server):
    """Ends the streams by which open pages say that they are there: it would wait for them."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for route in self.config.app.routes:
            if isinstance(route, starlette.routing.Mount):
                route.app.stop_event.set()
        await super().shutdown(sockets)


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


def serve(interface: gr.Blocks, listener: socket.socket, max_bytes: int) -> None:
    """Answers until Ctrl-C (KeyboardInterrupt) or SIGTERM (SystemExit with 143).

    Args:
        interface: the page.
        listener: from `listen`; closed at the end.
        max_bytes: of an uploaded file; the rest of a larger one is not read.
    """
    address, port = listener.getsockname()[:2]
    app = gr.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        interface,
        path="/",
        server_name=address,
        server_port=port,
        max_file_size=max_bytes,
        run_history=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        **appearance(),
    )
    everywhere, local = _reach(address)
    if not local:
        print(
            "warning: other machines can open this page and use this one to compute: there is no password.",
            file=sys.stderr,
        )
    shown = f"[{address}]" if ":" in address else address
    print(f"open http://{'127.0.0.1' if everywhere else shown}:{port}/ in a browser; Ctrl-C ends", flush=True)
    config = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=5)
    # uvicorn hands a signal on when it has closed all.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        _Server(config).run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def _reach(address: str) -> tuple[bool, bool]:
    """Says of an IP address whether it stands for all of this machine's, and whether only this machine reaches it."""
    parsed = ipaddress.ip_address(address)
    return parsed.is_unspecified, parsed.is_loopback
