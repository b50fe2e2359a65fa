# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl import``: a libvirt domain as an entry of plover_vms, on standard output (docs/import.md)."""

from __future__ import annotations

import json
import sys

from ..core.status import DOWN, EXIT
from ..errors import ConfigError
from ..host.console import complain, say
from ..libvirt.entry import imported
from ..libvirt.notes import Wishes
from ..libvirt.text import data_of, yaml_of
from ..libvirt.tree import BYTES_MAX

STDIN = "-"


def import_domain(file: str, wishes: Wishes, as_json: bool) -> int:
    try:
        found = imported(_contents(file), wishes)
    except ConfigError as error:
        if not as_json:
            raise
        say(json.dumps({"ok": False, "error": str(error)}))
        return EXIT[DOWN]
    say(json.dumps(data_of(found)) if as_json else yaml_of(found))
    if found.in_the_way and not as_json:
        complain("ploverctl: what stands in the way of a VM that works as before is listed above the entry")
    return 1 if found.in_the_way else 0


def _contents(file: str) -> bytes:
    """At most one byte more than a domain may have."""
    try:
        if file == STDIN:
            return sys.stdin.buffer.read(BYTES_MAX + 1)
        with open(file, "rb") as opened:
            return opened.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; name a file with the output of 'virsh dumpxml NAME'") from error
