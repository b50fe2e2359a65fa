# SPDX-License-Identifier: GPL-3.0-or-later
"""A recorded terminal session: what a shell in a pseudo-terminal said, and when. As an asciicast (docs.asciinema.org) and as a picture."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType

COLUMNS, ROWS = 118, 34
PROMPT, NEW_LINE = "$ ", "\r\n"
KEY_S, AGAIN_S, READ_BYTES = 0.03, 2.0, 65_536
IDLE_S_MAX = 3.0  # a player need not show more of a silence
LICENCE = "SPDX-License-Identifier: GPL-3.0-or-later"
FONTS = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)  # of another host: a picture loads nothing
Event = tuple[float, str]


class Recorder:
    """A shell whose prompt is PROMPT. Everything that it prints after ``begin()`` is kept."""

    def __init__(self, setup: str, folder: Path, environment: dict[str, str]) -> None:
        """``setup``: commands before the recording begins."""
        master, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        (folder / "inputrc").write_text("set enable-bracketed-paste off\n")
        (folder / "setup.sh").write_text(f"{setup}\nPS1='{PROMPT}'\n")
        environment = {**environment, "TERM": "xterm-256color", "INPUTRC": str(folder / "inputrc"), "HISTFILE": ""}
        self._shell = subprocess.Popen(
            ["setsid", "-c", "bash", "--noprofile", "--rcfile", str(folder / "setup.sh"), "-i"],
            cwd=folder,
            env=environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        self._master, self._began, self._said = master, time.monotonic(), ""
        self.events: list[Event] = []
        self.wait_for(PROMPT, 20.0)
        self.events, self._began = [(0.0, PROMPT)], time.monotonic()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGHUP)
        self._shell.kill()
        self._shell.wait()
        os.close(self._master)

    def run(self, command: str, seconds: float = 60.0, until: str = "") -> str:
        """Types a command, and waits for the next prompt; what was printed meanwhile. ``until``: words at which Ctrl-C is pressed."""
        for key in command:
            os.write(self._master, key.encode())
            self._read(KEY_S)
        while select.select([self._master], [], [], 2 * KEY_S)[0]:  # the rest of the echo
            self._read(0.0)
        self._said = ""
        os.write(self._master, b"\r")
        if until:
            self.wait_for(until, seconds)
            self._interrupt(time.monotonic() + seconds)
        self.wait_for(PROMPT, seconds)
        return self._said

    def _interrupt(self, end: float) -> None:
        """Ctrl-C; again if the prompt does not come, as bash may miss one between two commands."""
        while not self._said.endswith(PROMPT) and time.monotonic() < end:
            os.write(self._master, b"\x03")
            again = time.monotonic() + AGAIN_S
            while not self._said.endswith(PROMPT) and time.monotonic() < again:
                self._read(KEY_S)

    def wait_for(self, words: str, seconds: float) -> None:
        """Until what is printed holds ``words``; a prompt is at its end."""
        end = time.monotonic() + seconds
        while not (self._said.endswith(words) if words.endswith(PROMPT) else words in self._said):
            if time.monotonic() > end:
                raise SystemExit(f"the recorded shell did not say {words!r} within {seconds:.0f} s: {self._said[-2000:]}")
            self._read(0.2)

    def _read(self, seconds: float) -> None:
        if select.select([self._master], [], [], seconds)[0]:
            text = os.read(self._master, READ_BYTES).decode("utf-8", "replace")
            self._said += text
            self.events.append((round(time.monotonic() - self._began, 3), text))


def asciicast(events: list[Event], title: str, when: float) -> str:
    """Version 2. Replay it with `asciinema play`."""
    head = {"version": 2, "width": COLUMNS, "height": ROWS, "timestamp": int(when), "idle_time_limit": IDLE_S_MAX, "title": title}
    lines = [json.dumps({**head, "license": LICENCE}), *(json.dumps([at, "o", text], ensure_ascii=False) for at, text in events)]
    return "\n".join(lines) + "\n"


def printed(events: list[Event]) -> str:
    """The lines of the session, as they stood in the end."""
    text = "".join(said for _at, said in events).replace(NEW_LINE, "\n")
    return "\n".join(line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")).strip("\n") + "\n"


def picture(text: str, title: str) -> str:
    """An SVG of the whole session. It loads no font from elsewhere."""
    from rich._export_format import CONSOLE_SVG_FORMAT
    from rich.console import Console
    from rich.text import Text

    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor", legacy_windows=False)
        for line in text.removesuffix(PROMPT.strip() + "\n").splitlines():
            console.print(Text(line, style="bold" if line.startswith(PROMPT) else "", no_wrap=False), soft_wrap=False)
        svg = console.export_svg(title=title, code_format=FONTS.sub("", CONSOLE_SVG_FORMAT), unique_id="session")
    return svg.replace("<svg ", f"<!-- {LICENCE} -->\n<svg ", 1)
