"""A headless Chromium, driven by the DevTools protocol over two pipes: no driver and no further package is needed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_COMMANDS, _ANSWERS = 3, 4  # the descriptors that --remote-debugging-pipe reads and writes


class Page:
    """One page.

    `requests` has the URL of all that was asked for, `exceptions` what its scripts did not catch, `complaints` what the
    browser says of it by itself, such as what a policy forbids.
    """

    def __init__(self, commands, answers):
        self._commands, self._answers = commands, answers
        self._buffer, self._number, self._session = b"", 0, None
        self.requests, self.exceptions, self.complaints = [], [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Page", "Runtime", "DOM", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, timeout=60, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, url, width=1280, height=900, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Page.navigate", url=url)

    def value(self, expression):
        """What a JavaScript expression gives; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression, timeout=60):
        """Waits until an expression is true."""
        deadline = time.monotonic() + timeout
        while not self.value(f"!!({expression})"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never came true in {timeout} s: {expression}")
            time.sleep(0.05)

    def choose_file(self, selector, path):
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[os.fspath(path)])

    def drop_file(self, selector, path):
        """Drags a file from outside of the browser onto an element."""
        place = (
            f"(box => [box.x + box.width / 2, box.y + 5])(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        x, y = self.value(place)
        data = {"items": [], "files": [os.fspath(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def press(self, selector, key, times=1):
        """Focuses an element and presses a key such as ArrowRight."""
        self.value(f"document.querySelector({selector!r}).focus()")
        code = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35}[key]
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, path, whole=True):
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(answer["data"]))

    def _next(self, deadline):
        """The next message; what the page asked for and complained about is noted on the way."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            received = os.read(self._answers, 1 << 20)
            if not received:
                raise RuntimeError("the browser has ended")
            self._buffer += received
        line, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(line)
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.exceptions.append(json.dumps(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"])
        return message


@contextlib.contextmanager
def browser(profile, *flags):
    """Starts the browser with a profile folder of its own and further flags, yields a page, and ends it afterwards."""
    their_commands, our_commands = os.pipe()
    our_answers, their_answers = os.pipe()

    def place():
        # By way of high numbers, lest one of the two be 3 or 4 already.
        commands, answers = os.dup2(their_commands, 200), os.dup2(their_answers, 201)
        os.dup2(commands, _COMMANDS)
        os.dup2(answers, _ANSWERS)

    process = subprocess.Popen(
        [
            PROGRAM,
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "--no-sandbox",  # tests may run as root
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            *flags,
        ],
        preexec_fn=place,
        close_fds=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(their_commands)
    os.close(their_answers)
    try:
        yield Page(our_commands, our_answers)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(our_commands)
        os.close(our_answers)
