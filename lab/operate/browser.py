# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium in a network namespace, driven by the Chrome DevTools Protocol over two pipes (--remote-debugging-pipe)."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from . import chromium

ANSWER_S = 60.0
MESSAGE_BYTES_MAX = 64 << 20
# Without a sandbox of its own, as root; it only sees the lab's pages. A tab in the background is not slowed down.
OPTIONS = (
    "--no-sandbox --remote-debugging-pipe --disable-gpu --disable-dev-shm-usage --hide-scrollbars --no-first-run "
    "--disable-background-timer-throttling --disable-renderer-backgrounding --disable-backgrounding-occluded-windows"
).split()
# Chromium reads commands from descriptor 3 and answers on 4.
PIPES = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
PROBLEMS = ("Runtime.exceptionThrown", "Log.entryAdded", "Inspector.targetCrashed")
Json = dict[str, Any]


class Browser:
    def __init__(self, netns: str, home: Path, authority: Path) -> None:
        """``home``: a folder for its profile. ``authority``: file of the CA that its pages are signed by."""
        made = chromium.build()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        made.trust(home, authority)
        theirs_in, self._out = _pipe()
        self._in, theirs_out = _pipe()
        words = [str(made.program), *OPTIONS, f"--user-data-dir={home / 'profile'}"]
        command = ["ip", "netns", "exec", netns, "bash", "-c", PIPES, "bash", str(theirs_in), str(theirs_out), *words]
        with open(home / "chromium.log", "wb") as log:
            self._process = subprocess.Popen(
                command, env=made.environment(home), stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(theirs_in, theirs_out)
            )
        os.close(theirs_in)
        os.close(theirs_out)
        self._log, self._buffer, self._number = home / "chromium.log", b"", 0
        self.problems: list[str] = []

    def call(self, method: str, session: str = "", **params: Any) -> Json:
        """The result of one command; events that come meanwhile are looked at for problems of the page."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + ANSWER_S
        while (answer := self._receive(end, method)).get("id") != number:
            self._note(answer)
        if "error" in answer:
            raise SystemExit(f"chromium: {method}: {answer['error']['message']}")
        return dict(answer["result"])

    def _receive(self, end: float, method: str) -> Json:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self._in, 1 << 20) if ready else b""
            if not data or len(self._buffer) > MESSAGE_BYTES_MAX:
                raise SystemExit(f"chromium: no answer to {method}; see {self._log}")
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(text))

    def _note(self, event: Json) -> None:
        if event.get("method") in PROBLEMS:
            self.problems.append(json.dumps(event["params"])[:600])

    def close(self) -> None:
        with contextlib.suppress(SystemExit, OSError):
            self.call("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)


class Tab:
    """One page, with a window of its own."""

    def __init__(self, browser: Browser, url: str, width: int, height: int, phone: bool = False) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank", width=width, height=height, newWindow=True)["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        scale = 2 if phone else 1
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone)
        failed = self.call("Page.navigate", url=url).get("errorText")
        if failed:
            raise SystemExit(f"chromium: {url}: {failed}")
        self.wait("location.href !== 'about:blank' && document.readyState === 'complete'", ANSWER_S)

    def call(self, method: str, **params: Any) -> Json:
        return self._browser.call(method, self._session, **params)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        out = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in out:
            raise SystemExit(f"chromium: {out['exceptionDetails'].get('exception', {}).get('description', out['exceptionDetails'])}")
        return out["result"].get("value")

    def wait(self, script: str, seconds: float) -> Any:
        """Until the expression is true."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            if time.monotonic() > end:
                text = self.run("document.body.innerText")
                raise SystemExit(f"chromium: not true after {seconds:.0f} s: {script}; the page says: {text}")
            time.sleep(0.1)
        return found

    def dark(self, on: bool) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}])

    def screenshot(self, file: Path) -> None:
        """The whole page, also what one would scroll to."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(picture))


def _pipe() -> tuple[int, int]:
    """(read, write), not among the descriptors that Chromium wants for its own ends."""
    low = os.pipe()
    high = tuple(fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10) for number in low)
    for number in low:
        os.close(number)
    return high[0], high[1]
