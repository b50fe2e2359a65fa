# SPDX-License-Identifier: GPL-3.0-or-later
"""The secondary's staging buffer: a syncvm's data stays beside guest memory until all is here and verified (invariant 4). Sans-I/O.

A page that comes as blocks is patched in a copy, and the copy's hash must be the leader's. It may not be, as two blocks that
differ can have the same hash. Or the device state may come as a difference to one that we do not hold. In both cases the
leader must send it whole, once.
"""

from __future__ import annotations

from array import array

from ..consensus.log import NUMBER
from ..errors import WireError
from ..ports import effects
from ..protocol import pages as pg
from ..protocol import wire
from ..protocol.packing import unpack_blocks, unpack_state
from . import block_deltas as deltas


def chain_digest(memory: effects.Memory, digest: int, data: bytes) -> int:
    """The digest of everything staged so far, ``digest``, extended by ``data``."""
    return memory.digest(NUMBER.pack(digest) + NUMBER.pack(memory.digest(data)))


class Staging:
    def __init__(self, index: array[int], memory: effects.Memory, base: bytes) -> None:
        """``index``: the pages that may come. ``base``: the device state of the last syncvm; empty: none."""
        self._index, self._memory, self._base = index, memory, base
        self.staged: list[tuple[array[int], effects.Buffer]] = []
        self.pages = self.digest = 0
        self.wrong = array("I")  # pages whose hash was not the leader's when patched: they must come whole
        self.device = b""
        self._divergent: array[int] | None = None  # the pages that come as blocks, if any do
        self._patched = 0  # how many of these came
        self._asked_again = False

    def on_divergent(self, m: wire.Divergent) -> array[int]:
        """The pages whose blocks the leader wants to compare."""
        if self._divergent is not None or self.pages:
            raise WireError(f"blocks of syncvm {m.number} asked for twice, or after its pages")
        self._divergent = deltas.chosen(m.payload, self._index, self._memory)
        return self._divergent

    def on_blocks(self, m: wire.StageBlocks) -> None:
        index = array("I") if self._divergent is None else self._divergent[self._patched : self._patched + m.count]
        if len(index) != m.count or self._asked_again:
            raise WireError(f"blocks of {m.count} pages that were not asked for")
        payload = unpack_blocks(self._memory, m.payload, m.count * deltas.page_bytes_max())
        masks, hashes, blocks = deltas.unpack(m.count, payload, self._memory)
        data, found = self._memory.patched(index, masks, blocks)
        self._patched += m.count
        wrong = self._memory.compare(found, hashes, index)
        if wrong:
            index, data = deltas.without(wrong, index, data)
            self.wrong.extend(wrong)
        self._keep(index, data, payload)

    def on_pages(self, m: wire.StagePages) -> None:
        index, data = pg.unpack(m.count, m.payload, self._memory.pages)
        if self.pages + m.count > len(self._index):
            raise WireError(f"{self.pages + m.count} pages staged, only {len(self._index)} are dirty")
        if self._divergent is not None:
            come = set(index)
            if not (self._asked_again and come <= set(self.wrong)):
                raise WireError(f"pages of syncvm {m.number} that were not asked for")
            self.wrong = array("I", (page for page in self.wrong if page not in come))
        self._keep(index, data, pg.digest_of(index, self._memory.hashes_of(data)))

    def _keep(self, index: array[int], data: effects.Buffer, digested: bytes) -> None:
        self.pages += len(index)
        self.digest = chain_digest(self._memory, self.digest, digested)
        self.staged.append((index, data))

    def on_end(self, m: wire.StageEnd) -> bool:
        """True if everything is here and verified. If not, the wrong parts must come whole, then ``m`` again."""
        if m.pages != self.pages + len(self.wrong):
            raise WireError(f"{m.pages} pages announced, {self.pages} staged and {len(self.wrong)} wrong ones came")
        if self.wrong or not self.makes(m):
            if self._asked_again:
                raise WireError(f"syncvm {m.number}: the parts asked for whole did not come")
            self._asked_again = True
            return False
        state = unpack_state(self._memory, m.payload, m.size, self._base if m.base else b"")
        if m.digest != chain_digest(self._memory, self.digest, state):
            raise WireError(f"syncvm {m.number}: staged {self.pages} pages do not fit the leader's digest")
        self.device = state
        return True

    def makes(self, m: wire.StageEnd) -> bool:
        """True if we can make the device state: it comes whole, or we hold the one that it is a difference to."""
        return not m.base or (bool(self._base) and m.base == self._memory.digest(self._base))

    def apply(self) -> None:
        for index, data in self.staged:
            self._memory.apply(index, data)
        self.staged = []
