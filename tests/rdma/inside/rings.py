# SPDX-License-Identifier: GPL-3.0-or-later
"""Our library, both ends in one guest: a ring over a real connection, many times round its end; a write after the permission
was taken away; a wrong key; the follower's counters. Prints what it saw, as JSON.
"""

import json
import mmap
import time

from plover.rdma import library as rdma
from plover.rdma.devices import choose
from plover.rdma.library import REMOTE_READ, REMOTE_WRITE, Card, Memory, Patience, RingReader
from plover.rdma.verbs import ports

RING, BYTES = 7, 1 << 16
PATIENCE = Patience(timeout=16, retry=2)
seen = {}
chosen = choose(ports(), open("/proc/cmdline").read().split("plover.ip=")[1].split()[0])
seen["why"] = chosen.why
card = Card(chosen.device, chosen.port, chosen.gid_index)
theirs, mine = mmap.mmap(-1, BYTES + 4096), mmap.mmap(-1, BYTES + 4096)
region = card.region(theirs, REMOTE_WRITE | REMOTE_READ)
own = card.region(mine)


def pair():
    leader, follower = card.connection(64), card.connection(64)
    leader.connect(follower.address, 0, PATIENCE)
    follower.connect(leader.address, REMOTE_WRITE | REMOTE_READ, PATIENCE)
    return leader, follower


def done(connection):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if found := connection.poll(1_000_000):
            return found
    return []


leader, follower = pair()
reader = RingReader(theirs, BYTES, RING)
place = Memory(region.memory.address, BYTES, region.memory.rkey)
head = tail = BYTES
got = []
for n in range(300):
    frame = b"%d " % n + bytes(n * 7 % 3000)
    while (new := leader.frame(own, place, RING, tail, head, frame, n + 1)) is None:
        done(leader)
        while (one := reader.next()) is not None:
            got.append(one)
        tail = reader.position
    head = new
    if n % 5 == 0:
        while (one := reader.next()) is not None:
            got.append(one)
        tail = reader.position
while len(got) < 300 and done(leader):
    while (one := reader.next()) is not None:
        got.append(one)
seen["in_order"] = [int(one.split(b" ")[0]) for one in got] == list(range(300))
seen["rounds"] = (head - BYTES) // BYTES

theirs[BYTES : BYTES + 8] = b"counters"
leader.read(own, BYTES, 8, place.address + BYTES, place.rkey, 1)
done(leader)
seen["read"] = mine[BYTES : BYTES + 8].decode()

before = theirs[:]
follower.revoke()
began = time.monotonic()
leader.frame(own, place, RING, tail, head, b"too late", 9)
seen["late_write"] = rdma.status_name(done(leader)[0].status)
seen["late_write_s"] = round(time.monotonic() - began, 2)
seen["landed_late"] = theirs[:] != before
seen["states"] = [leader.state, follower.state]
leader.close(), follower.close()

leader, follower = pair()
leader.frame(own, place._replace(rkey=place.rkey ^ 0xFF00), RING, tail, head, b"wrong key", 9)
seen["bad_rkey"] = rdma.status_name(done(leader)[0].status)
seen["landed_wrong"] = theirs[:] != before
print(json.dumps(seen))
