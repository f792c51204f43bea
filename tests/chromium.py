"""A page as a reader's browser has it once its scripts have run, and a browser to use it in."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
# The browser reads commands from descriptor 3 and writes answers to 4, which no port has to open.
LAUNCH = (
    "import os, sys; r, w = (os.dup(os.dup(int(n))) for n in sys.argv[1:3]);"
    "os.dup2(r, 3); os.dup2(w, 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
PATIENCE_S = 60


def rendered(page: Path) -> str:
    """Return the document that a page becomes in headless Chromium; skip the test without one."""
    browser = _browser()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        shown = ["--dump-dom", f"--user-data-dir={profile}", page.absolute().as_uri()]
        command = [browser, *OPTIONS, *shown]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def _browser() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no chromium here to open pages in")
    return found


class Tab:
    """An open page, used through Chromium's DevTools protocol.

    Attributes:
        requests: addresses that pages asked for.
        errors: what scripts complained of.
        contexts: numbers of the scripts' worlds, a page's own before those of frames in it.
    """

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write, self._kept = read, write, b""
        self._number, self._session = 0, ""
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.contexts: list[int] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": given}
        asked |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(asked).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return dict(message["result"])

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._kept:
            got = os.read(self._read, 1 << 16)
            assert got, "the browser went away"
            self._kept += got
        text, _, self._kept = self._kept.partition(b"\0")
        message = dict(json.loads(text))
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            case "Runtime.executionContextsCleared":
                self.contexts.clear()
            case "Runtime.executionContextCreated":
                self.contexts.append(message["params"]["context"]["id"])
            case "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"]))
            case "Log.entryAdded" if message["params"]["entry"]["level"] == "error":
                self.errors.append(message["params"]["entry"]["text"])
        return message

    def open(self, page: Path, ready: str, width: int = 1440, after: str = "") -> None:
        """Open a page, with something after its address, and wait for an expression."""
        self.resize(width)
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=page.absolute().as_uri() + after)
        self.wait(ready)

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window a size, a telephone's where it is narrow."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip

    def evaluate(self, expression: str, context: int | None = None) -> Any:
        """Return the value of an expression, or of what it promises, in a page or a frame."""
        where = {} if context is None else {"contextId": context}
        found = self.call(
            "Runtime.evaluate",
            expression=expression, awaitPromise=True, returnByValue=True, **where,
        )  # fmt: skip
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE_S
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"never came true: {expression}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """Return the text of an element as it is shown."""
        return str(self.evaluate(f"document.querySelector({selector!r}).innerText"))

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        codes = {"Enter": 13, "Tab": 9, "End": 35, "Home": 36, "Escape": 27, " ": 32}
        codes |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        written = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = codes.get(key, ord(key[0]))
        self.call(
            "Input.dispatchKeyEvent", type="keyDown" if written else "rawKeyDown", key=key,
            windowsVirtualKeyCode=code, **({"text": written} if written else {}),
        )  # fmt: skip
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def mouse(self, kind: str, x: float, y: float, **given: Any) -> None:
        """Send an event of the mouse: mousePressed, mouseReleased, mouseMoved or mouseWheel."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **given)

    def click(self, x: float, y: float) -> None:
        """Click a place in the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1, buttons=1)

    def screenshot(self, target: Path) -> None:
        """Save the whole page as a PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        target.write_bytes(base64.b64decode(found["data"]))

    def print(self, target: Path) -> None:
        """Save the page as a PDF, as a printer would get it."""
        found = self.call("Page.printToPDF", printBackground=True)
        target.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browsing() -> Iterator[Tab]:
    """Start a headless Chromium that reaches no network; skip the test without one."""
    found = _browser()
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            sys.executable, "-c", LAUNCH, str(to_read), str(from_write), found, *OPTIONS,
            "--remote-debugging-pipe", f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND", "about:blank",
        ]  # fmt: skip
        with subprocess.Popen(
            command, pass_fds=(to_read, from_write), stderr=subprocess.DEVNULL
        ) as browser:
            os.close(to_read)
            os.close(from_write)
            try:
                yield Tab(from_read, to_write)
            finally:
                browser.terminate()
                browser.wait(PATIENCE_S)
                os.close(from_read)
                os.close(to_write)


def title_of(document: str) -> str:
    """The title of a document, which a script that ran may have changed."""
    found = re.search(r"<title[^>]*>(.*?)</title>", document, flags=re.DOTALL)
    return found[1] if found else ""
