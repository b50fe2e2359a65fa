# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of disk faults, and what each may cost.

Which image: the leader's own, the secondary's while it is copied or replicated, or the one that is merged into after a
failover. What: a write or a flush; EIO or ENOSPC; the first or a later one; once or for ever. In each line of the table each
of these has its turn with each of the others; all 64 together would take ten minutes.
"""

from __future__ import annotations

import errno
import itertools
from typing import NamedTuple

from faulty_disk import FLUSH, KINDS, WRITE

OWN, COPIED, REPLICATED, MERGED = "own", "copied", "replicated", "merged"
LATER = 3


class Case(NamedTuple):
    image: str
    kind: str
    error: str
    number: int
    for_ever: bool

    @property
    def errno(self) -> int:
        return getattr(errno, self.error)

    def __str__(self) -> str:
        return f"{self.image}-{self.kind}-{self.error}-{self.number}-{'for-ever' if self.for_ever else 'once'}"


def _table() -> list[Case]:
    out = []
    for image, kind, for_ever in itertools.product((OWN, COPIED, REPLICATED, MERGED), KINDS, (False, True)):
        number = len(out)
        error = ("EIO", "ENOSPC")[(number + number // 4) % 2]
        out.append(Case(image, kind, error, (1, LATER)[(number // 2 + number) % 2], for_ever))
    return out


CASES = _table()
SAMPLE = [Case(OWN, WRITE, "EIO", 1, False), Case(REPLICATED, FLUSH, "EIO", 1, False)]
