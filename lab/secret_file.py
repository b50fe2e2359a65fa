# SPDX-License-Identifier: GPL-3.0-or-later
"""The secret of a VM's members, for tests and benchmarks that run no play: no member starts without one."""

from __future__ import annotations

from pathlib import Path

SECRET = "5ecret-of-a-test-" * 3


def secret_file(folder: Path, text: str = SECRET) -> str:
    """The path of the file in ``folder``, which is made if need be, for the setting ``secret_file``; all members of a group may
    share it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "members.secret"
    path.touch(mode=0o600)
    path.write_text(f"{text}\n")
    return str(path)
