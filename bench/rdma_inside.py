# SPDX-License-Identifier: GPL-3.0-or-later
"""In the leader's guest: commits as the daemon makes them, from Python, to `rdma_bench serve` (native/bench/rdma_bench.c) in
the follower's. Arguments: DEVICE GID PORT HOST PAYLOAD COUNT. Prints JSON.
"""

import json
import mmap
import socket
import struct
import sys
import time

from plover.rdma.library import ADDRESS_BYTES, REMOTE_READ, REMOTE_WRITE, Card, Memory, Patience

RING, PAGE, ID, COMMIT = 8 << 20, 4096, 7, 1
PATIENCE_S = 20
HELLO = struct.Struct(f"=IIQQQ{ADDRESS_BYTES}s")
VERDICT = struct.Struct("=QQ")


def done(connection, wanted):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for one in connection.poll(1_000_000):
            if one.status:
                sys.exit(f"a request failed with status {one.status}")
            if one.number == wanted:
                return
    sys.exit("no completion")


device, gid, port, host, payload, count = sys.argv[1:]
payload, count = int(payload), int(count)
warm = count // 10
card = Card(device, 1, int(gid))
buffer = mmap.mmap(-1, RING + PAGE)
own = card.region(buffer, REMOTE_WRITE | REMOTE_READ)
connection = card.connection(512)
sock = socket.create_connection((host, int(port)), 10)
sock.sendall(HELLO.pack(COMMIT, own.raw.rkey, count + warm, payload, own.raw.address, connection.address))
_, rkey, _, _, address, peer = HELLO.unpack(sock.recv(HELLO.size, socket.MSG_WAITALL))
place = Memory(address, RING, rkey)
connection.connect(peer, REMOTE_WRITE | REMOTE_READ, Patience(timeout=16, retry=6))
head = tail = RING
times = []
for n in range(count + warm):
    data = struct.pack("=Q", n) + bytes(payload - 8)
    if head - tail > RING // 2:
        connection.read(own, RING, 8, place.address + RING, rkey, 1 << 63)
        done(connection, 1 << 63)
        tail = struct.unpack_from("=Q", buffer, RING)[0]
    began = time.perf_counter_ns()
    new = connection.frame(own, place, ID, tail, head, data, n + 1)
    if new is None:
        sys.exit("no room")
    head = new
    done(connection, n + 1)
    times.append((time.perf_counter_ns() - began) / 1e3)
sock.sendall(b"\0")
sock.settimeout(PATIENCE_S)
read, _ = VERDICT.unpack(sock.recv(VERDICT.size, socket.MSG_WAITALL))
if read != count + warm:
    sys.exit(f"the follower has read {read} of {count + warm}")
times = sorted(times[warm:])
print(json.dumps({"p50_us": times[count // 2], "p99_us": times[count * 99 // 100], "count": count}))
