# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl support-bundle``: one file for whoever is to understand a problem of this host."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from ..config.struck_out import Secrets
from ..errors import PloverError
from ..host.console import complain, say
from . import vms
from .bundle_parts import Host, Part, parts
from .figures import size


class Packed(NamedTuple):
    name: str
    bytes: int
    error: str


def bundle(folder: Path, name: str | None, out: str | None, hours: float, as_json: bool) -> int:
    host = Host(folder, vms.found(folder, name), hours)
    stem = f"plover-support-{os.uname().nodename}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    path = Path(out or f"{stem}.tar.gz")
    try:
        packed = _write(path, stem, host)
    except OSError as error:
        return _failed(f"--out: {path}: {error.strerror or error}; name another file", as_json)
    _tell(path, packed, as_json)
    return 0


def _failed(error: str, as_json: bool) -> int:
    if as_json:
        say(json.dumps({"ok": False, "error": error}))
    else:
        complain(f"ploverctl: {error}")
    return 1


def _tell(path: Path, packed: list[Packed], as_json: bool) -> None:
    if as_json:
        rows: list[dict[str, Any]] = [one._asdict() for one in packed]
        return say(json.dumps({"ok": True, "path": str(path.absolute()), "parts": rows}))
    say(f"{path.absolute()}: {size(path.stat().st_size)}, without secrets. In it:")
    for one in packed:
        say(f"  {one.name:<40}  {size(one.bytes):>10}" + (f"  {one.error}" if one.error else ""))


def _write(path: Path, stem: str, host: Host) -> list[Packed]:
    """A file for root alone, that was not there before. Raises OSError, and then leaves none."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    whole = False
    try:
        with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
            secrets = host.secrets()
            packed = [_pack(tar, stem, part, secrets) for part in parts(host, secrets)]
        whole = True
        return packed
    finally:
        if not whole:
            path.unlink(missing_ok=True)


def _pack(tar: tarfile.TarFile, stem: str, part: Part, secrets: Secrets) -> Packed:
    """A part that fails is a file with the error."""
    error = ""
    try:
        text = part.make()
    except (OSError, PloverError) as wrong:
        error = secrets.text(f"not here: {wrong}")
        text = f"{error}\n"
    data = (text if part.struck_out else secrets.text(text)).encode("utf-8", "backslashreplace")
    info = tarfile.TarInfo(f"{stem}/{part.name}")
    info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
    tar.addfile(info, io.BytesIO(data))
    return Packed(part.name, len(data), error)
