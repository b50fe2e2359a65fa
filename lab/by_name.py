# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's arguments with names in place of the launcher's descriptors: for a test or benchmark that starts a QEMU by itself, as root."""

from __future__ import annotations

import re
from collections.abc import Iterator

from plover.config.settings import Config
from plover.disks.images import SETS
from plover.qemu.launch_file import CONSOLE_SET, NET, QMP, descriptors

DROPPED = ("-add-fd", "-sandbox")  # with their values: such a QEMU may run scripts


def by_name(config: Config, words: list[str]) -> list[str]:
    return list(_named(config, words))


def _named(config: Config, words: list[str]) -> Iterator[str]:
    rows = {number: path for number, (_kind, path) in descriptors(config).items()}
    console = next(path for kind, path in descriptors(config).values() if kind == "console")

    def of_set(match: re.Match[str]) -> str:
        number = int(match[1])
        return console if number == CONSOLE_SET else config.disk_list[number - SETS].path

    rest = iter(words)
    for word in rest:
        if word in DROPPED:
            next(rest)
            continue
        word = re.sub(r"/dev/fdset/(\d+)", of_set, word)
        word = re.sub(r"/proc/self/fd/(\d+)", lambda match: rows[int(match[1])], word)
        word = word.replace(f"addr.type=fd,addr.str={NET}", f"addr.type=unix,addr.path={rows[NET]}")
        yield word.replace(f"id=qmp,fd={QMP},", f"id=qmp,path={rows[QMP]},")
