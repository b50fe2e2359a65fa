# SPDX-License-Identifier: GPL-3.0-or-later
"""left|right OWN-ADDRESS PEER-ADDRESS: one end of a data channel's pipe between two guests. The left end sends pages, much
more than a ring holds, and their digest last; the right one sends a little back all the while. Prints what came, as JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys

from plover.rdma.devices import choose
from plover.rdma.library import Card, Patience
from plover.rdma.stream import RdmaPipe
from plover.rdma.verbs import ports

RING, PAGES, PORT = 1 << 20, 1500, 7700
PATIENCE = Patience(timeout=16, retry=3)


async def exchange(side: str, peer: str, mine: bytes) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    if side == "right":
        made = asyncio.get_running_loop().create_future()
        await asyncio.start_server(lambda *ends: made.set_result(ends), "0.0.0.0", PORT)
        reader, writer = await made
    else:
        while True:
            try:
                reader, writer = await asyncio.open_connection(peer, PORT)
                break
            except OSError:
                await asyncio.sleep(0.1)
    writer.write(mine)
    return await reader.readexactly(len(mine)), reader, writer


async def main(side: str, own: str, peer: str) -> None:
    chosen, done, broken, got = choose(ports(), own), asyncio.Event(), [], bytearray()
    card = Card(chosen.device, chosen.port, chosen.gid_index)
    wanted = 32 * PAGES if side == "left" else 4096 * PAGES + 32

    def on_broken(why: str) -> None:
        broken.append(why)
        done.set()

    def on_data(data: bytes) -> None:
        got.extend(data)
        if len(got) >= wanted:
            done.set()

    pipe = RdmaPipe(card, 1, RING, PATIENCE, on_data, lambda: None, on_broken, 4 << 20, 64 << 20)
    address, reader, writer = await exchange(side, peer, pipe.address)
    pipe.connect(address)
    writer.write(b"ready")
    await reader.readexactly(5)
    digest = hashlib.sha256()
    for n in range(PAGES):
        if side == "left":
            page = hashlib.sha256(b"%d" % n).digest() * 128
            digest.update(page)
            pipe.send([page])
        else:
            pipe.send([b"%-32d" % n])
        if n % 16 == 0:
            await asyncio.sleep(0)
    if side == "left":
        pipe.send([digest.digest()])
    await asyncio.wait_for(done.wait(), 50)
    writer.write(b"done")
    await reader.readexactly(4)
    whole = (
        hashlib.sha256(got[:-32]).digest() == got[-32:] if side == "right" else bytes(got) == b"".join(b"%-32d" % n for n in range(PAGES))
    )
    pipe.close()
    print(json.dumps({"whole": whole, "bytes": len(got), "broken": broken}))


asyncio.run(main(*sys.argv[1:]))
