"""The page's five routes. What is not in `build_app`'s list is not served.

An image comes as the body of a request and stays in memory: no request names a file, an address or a program, so there
is none that could be opened, fetched or started, and nothing is written that would have to be deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from deeplab_tf.errors import UserError
from deeplab_tf.webapp import page
from deeplab_tf.webapp.guard import Guard
from deeplab_tf.webapp.kept import Kept
from deeplab_tf.webapp.served_model import ServedModel

STYLE, SCRIPT = "/page.css", "/page.js"
# Files in memory, being received or waiting for their turn. Further ones wait in the network's buffers.
_FILES = 4
_MOST_CONSTANTS_BYTES = 2000
_MOST_NAME_CHARACTERS = 200
_FORGET_EVERY_SECONDS = 60
_ANOTHER_CONNECTION = {"Connection": "close"}  # the rest of this one's body is not read


def build_app(model: ServedModel, limits: page.Limits, names: Iterable[str], token: str = "") -> ASGIApp:
    """Builds the application.

    Args:
        model: the model.
        limits: what it takes and keeps.
        names: of this machine; see `Guard`.
        token: that requests have to bring; "" for none.
    """
    desk = _Desk(model, limits)
    routes = [
        Route("/", _always(HTMLResponse(page.render(model, limits)))),
        Route(STYLE, _always(Response(page.style(), media_type="text/css"))),
        Route(SCRIPT, _always(Response(page.script(), media_type="text/javascript"))),
        Route("/segment", desk.segment, methods=["POST"]),
        Route("/refine", desk.refine, methods=["POST"]),
    ]
    app = Starlette(routes=routes, lifespan=desk.lifespan)
    app.router.redirect_slashes = False
    return Guard(app, names, token, open_paths=(STYLE, SCRIPT))


def _always(response: Response) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_: Request) -> Response:
        return response

    return endpoint


class _Desk:
    """Where requests wait: a few are received at once, one is worked on."""

    def __init__(self, model: ServedModel, limits: page.Limits) -> None:
        self._model, self._limits = model, limits
        self._constants = page.constants_around(model.crf)
        self._kept = Kept(limits.kept_bytes, limits.kept_seconds)
        self._files, self._turn = anyio.CapacityLimiter(_FILES), anyio.CapacityLimiter(1)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Forgets old images while the application runs."""

        async def forget() -> None:
            while True:
                await anyio.sleep(_FORGET_EVERY_SECONDS)
                self._kept.forget_old()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forget)
            yield
            tasks.cancel_scope.cancel()

    async def segment(self, request: Request) -> Response:
        """POST, with an image file as the body: what the network makes of it."""
        _require_type(request, "application/octet-stream")
        name = request.query_params.get("name", "")[:_MOST_NAME_CHARACTERS] or "the file"
        async with self._files:
            data = await _read(request, self._limits.max_bytes, self._limits.upload_seconds)
            return await self._work(request, self._segment, data, name)

    async def refine(self, request: Request) -> Response:
        """POST, with an image's key and the constants as JSON: what the CRF makes of it."""
        _require_type(request, "application/json")
        data = await _read(request, _MOST_CONSTANTS_BYTES, self._limits.upload_seconds)
        try:
            fields = json.loads(data)
            key, values = str(fields["image"]), fields["constants"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise HTTPException(400, 'Expected {"image": KEY, "constants": {...}}.') from None
        return await self._work(request, self._refine, key, values)

    async def _work(self, request: Request, work: Callable[..., dict[str, Any]], *arguments: Any) -> Response:
        """Waits for its turn, and works in a thread, unless nobody waits for the result any more."""
        async with self._turn:
            if await request.is_disconnected():
                return Response(status_code=400)
            try:
                return JSONResponse(await _in_thread(lambda: work(*arguments)))
            except UserError as error:
                raise HTTPException(422, str(error)) from None

    def _segment(self, data: bytes, name: str) -> dict[str, Any]:
        notes: list[str] = []
        image, (height, width) = page.read_image(data, name, self._limits, notes.append)
        segmented = self._model.segment(image)
        return {
            "image": self._kept.add(segmented),
            "notes": notes,
            "size": [width, height],
            "seen": [image.shape[1], image.shape[0]],
            "picture": page.draw_image(image),
            "network": page.draw_labels(segmented.labels, self._model.info, segmented.seconds),
        }

    def _refine(self, key: str, values: Any) -> dict[str, Any]:
        params = page.params_of(values, self._constants)
        segmented = self._kept.get(key)
        if segmented is None:
            raise HTTPException(410, "This image is no longer kept. Send it again.")
        refined = self._model.refine(segmented, params)
        return {"crf": page.draw_labels(refined.labels, self._model.info, refined.seconds)}


async def _in_thread(work: Callable[[], Any]) -> Any:
    """Runs something in a thread that does not keep the command from ending, as those of anyio and asyncio would."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def deliver(result: Any, error: BaseException | None) -> None:
        if future.done():  # the server is ending
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(deliver, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await future


def _require_type(request: Request, kind: str) -> None:
    # Neither of the types is one that a form or a script of another page can send without asking first.
    if request.headers.get("content-type") != kind:
        raise HTTPException(415, f"Expected Content-Type: {kind}.", _ANOTHER_CONNECTION)


async def _read(request: Request, max_bytes: int, seconds: float) -> bytes:
    """Reads a body, as long as it is neither too large nor too slow."""
    too_large = HTTPException(413, f"Expected at most {max_bytes / 1e6:g} MB.", _ANOTHER_CONNECTION)
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise too_large
    data = bytearray()
    try:
        with anyio.fail_after(seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > max_bytes:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, f"Expected the whole file within {seconds:g} s.", _ANOTHER_CONNECTION) from None
    except ClientDisconnect:
        raise HTTPException(400) from None  # for nobody to read
    return bytes(data)
