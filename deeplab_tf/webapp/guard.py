"""Who may use the page: decided from the first lines of a request, before its body is read or any route is looked up.

A browser that shows another site's page can send requests to this machine, too. What that page cannot do is set
Host, Origin and the Sec-Fetch headers of its requests: browsers write them.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # the token is in the address
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Sent with every response: nothing but the page's own files runs in it, and no other page may frame or load it."""

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_PAGE = "/"
# A name, or an address in the form of an URL, and a port: any, because a forwarded port may be another one.
_HOST = re.compile(r"(?P<name>[a-z0-9._-]+|\[[0-9a-f:.]*:[0-9a-f:.]*\])(:[0-9]{1,5})?", re.ASCII)
_ONCE = (b"host", b"origin", b"authorization", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")


class Guard:
    """ASGI middleware that refuses requests and adds `HEADERS` to all responses, its own refusals included."""

    def __init__(self, app: ASGIApp, names: Iterable[str], token: str = "", open_paths: Iterable[str] = ()) -> None:
        """Takes an application.

        Args:
            app: the application.
            names: by which this machine is reached, without ports. The address of a connection is always one of them.
            token: that requests have to bring; "" for none.
            open_paths: of GET requests that need no token, because nothing in them is anybody's.
        """
        self._app = app
        self._names = frozenset(name.lower() for name in names)
        self._token = token
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; see the ASGI specification."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            refusal = self._refusal(scope)
            app = PlainTextResponse(refusal, 403, {"Connection": "close"}) if refusal else self._app
            await app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> str:
        """Says why a request is refused; "" for one that is not."""
        headers: dict[bytes, str] = {}
        for name, value in scope["headers"]:
            if name in _ONCE and name in headers:
                return "This request has a header twice that it may have once."
            headers[name] = value.decode("latin-1")
        opens_page = scope["method"] in ("GET", "HEAD") and scope["path"] == _PAGE
        host = headers.get(b"host", "").lower()
        if not self._is_own(host, scope.get("server")):
            return (
                "This page answers only to the names and addresses of the machine that it runs on. If the name in your"
                " browser's address bar is one of them, start the page with --names=NAME."
            )
        if not _is_from_the_page(headers, host, scope["method"], opens_page):
            return "This page takes no requests from other pages."
        if self._token and not (opens_page or scope["path"] in self._open_paths) and not self._has_token(headers):
            return "The token is missing or wrong: open the address that the command printed."
        if self._token and opens_page and not self._is_token(_token_in(scope["query_string"])):
            return "This page wants the token: open the address that the command printed."
        return ""

    def _is_own(self, host: str, server: tuple[str, int | None] | None) -> bool:
        found = _HOST.fullmatch(host)
        if not found:
            return False
        name = found["name"].strip("[]")
        return name in self._names or (server is not None and _same_address(name, server[0]))

    def _has_token(self, headers: dict[bytes, str]) -> bool:
        kind, _, token = headers.get(b"authorization", "").partition(" ")
        return kind == "Bearer" and self._is_token(token)

    def _is_token(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._token.encode())


def _is_from_the_page(headers: dict[bytes, str], host: str, method: str, opens_page: bool) -> bool:
    origin = headers.get(b"origin")
    if origin is None and method not in ("GET", "HEAD"):
        return False  # every browser sends it here
    if origin is not None and origin.lower() != f"http://{host}":
        return False
    site = headers.get(b"sec-fetch-site", "same-origin")  # older browsers, and addresses of a network, have none
    if site in ("same-origin", "none"):
        return True
    # Somebody followed a link, which shows the page to this somebody alone.
    return opens_page and headers.get(b"sec-fetch-mode") == "navigate" and headers.get(b"sec-fetch-dest") == "document"


def _same_address(name: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False


def _token_in(query: bytes) -> str:
    try:
        return parse_qs(query.decode("ascii"), max_num_fields=8).get("token", [""])[0]
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sender
