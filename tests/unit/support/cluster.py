# SPDX-License-Identifier: GPL-3.0-or-later
"""Three members of the real core in one process: simulated clock, network, QEMU and guest memory.

A "guest" is a list of page contents; feeding it a frame writes a page and sends the frame back as output.
What its QEMU would do late (save, load, stop) answers on the next step, so that faults can come between.
"""
from __future__ import annotations

import random
from array import array
from collections import defaultdict, deque

from plover.config.settings import Config
from plover.config.timing import Timing
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable
from plover.consensus.effects import Persist, Send
from plover.core import router
from plover.core.director import Director
from plover.core.disk_marks import LIVE, Mark
from plover.native import zstd
from plover.ports import effects as act
from plover.protocol import codec, wire
from plover.protocol.frames import split

PAGES = 640
MEMBERS = {"primary": {"address": "127.0.0.1", "kind": "replica"},
           "secondary": {"address": "127.0.0.2", "kind": "replica"},
           "witness": {"address": "127.0.0.3", "kind": "witness"}}


def settings(member: str, **more) -> dict:
    return {"name": "demo", "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "member": member, "members": MEMBERS,
            "preferred_leader": "primary", "guest_kernel": "/k", "guest_mac": "52:54:00:70:6c:01", **more}


class FakeMemory:
    """The Memory port over a list of small values; a page on the wire is its value, padded."""

    compress, decompress = staticmethod(zstd.compress), staticmethod(zstd.decompress)

    def __init__(self) -> None:
        self.pages = PAGES
        self.ram = [0] * PAGES
        self.dirty: set[int] = set()

    def guest_write(self, page: int, value: int) -> None:
        self.ram[page] = value
        self.dirty.add(page)

    def fetch_dirty(self, vm_runs: bool = False) -> bytearray:
        out = bytearray(PAGES // 8)
        for page in self.dirty:
            out[page // 8] |= 1 << page % 8
        self.dirty = set()
        return out

    def put_back(self, bitmap: bytes) -> None:
        self.dirty |= set(self.pages_of(bitmap))

    def union(self, a: bytearray, b: bytes) -> array:
        for i, value in enumerate(b):
            a[i] |= value
        return self.pages_of(a)

    def pages_of(self, bitmap: bytes) -> array:
        return array("I", (p for p in range(PAGES) if bitmap[p // 8] >> p % 8 & 1))

    def nonzero(self, index: array) -> array:
        return array("I", (p for p in index if self.ram[p]))

    def hash(self, index: array) -> array:
        return array("Q", (self.ram[p] for p in index))

    def compare(self, a: array, b: array, index: array | None = None) -> array:
        return array("I", (p for x, y, p in zip(a, b, range(len(a)) if index is None else index) if x != y))

    def gather(self, index: array) -> bytes:
        return b"".join(self.ram[p].to_bytes(8, "big").ljust(4096, b"\0") for p in index)

    lend = gather

    def hashes_of(self, pages: bytes) -> array:
        return array("Q", (int.from_bytes(pages[at:at + 8], "big") for at in range(0, len(pages), 4096)))

    def bits_of(self, bitmap: bytes, bits: int) -> array:
        return array("I", (n for n in range(bits) if bitmap[n // 8] >> n % 8 & 1))

    def bitmap_of(self, index: array, bits: int) -> bytearray:
        return bytearray(sum(1 << n for n in index).to_bytes((bits + 63) // 64 * 8, "little"))

    def hash_blocks(self, index: array) -> array:
        return array("H", (hash(block) & 0xffff for block in self._blocks(index)))

    def block_masks(self, index: array, theirs: array) -> array:
        differ = [mine != other for mine, other in zip(self.hash_blocks(index), theirs)]
        return array("Q", (sum(differ[64 * n + k] << k for k in range(64)) for n in range(len(index))))

    def count_blocks(self, masks: array) -> int:
        return sum(map(int.bit_count, masks))

    def gather_blocks(self, index: array, masks: array) -> bytes:
        blocks = self._blocks(index)
        return b"".join(blocks[64 * n + k] for n, mask in enumerate(masks) for k in range(64) if mask >> k & 1)

    def patched(self, index: array, masks: array, blocks: bytes) -> tuple[bytes, array]:
        pages, data = self._blocks(index), bytes(blocks)
        for n, mask in enumerate(masks):
            for k in range(64):
                if mask >> k & 1:
                    pages[64 * n + k], data = data[:64], data[64:]
        return b"".join(pages), array("Q", (int.from_bytes(pages[n], "big") >> 448 for n in range(0, len(pages), 64)))

    def _blocks(self, index: array) -> list[bytes]:
        data = self.gather(index)
        return [data[at:at + 64] for at in range(0, len(data), 64)]

    def apply(self, index: array, data: bytes) -> None:
        for n, page in enumerate(index):
            self.ram[page] = int.from_bytes(bytes(data[4096 * n:4096 * n + 8]), "big")

    def digest(self, data: bytes) -> int:
        return hash(bytes(data)) & (1 << 64) - 1


class Node:
    """A member with its fake QEMU. ``released``: what left the host, in order."""

    def __init__(self, cluster: Cluster, name: str, state: Durable, **more) -> None:
        self.cluster, self.name = cluster, name
        self.config = Config(settings(name, **more))
        self.state = state
        self.alive = True
        self.memory = FakeMemory()
        self.released: list[bytes] = []
        self.disk_hashes = bytes(range(64))
        self.hash_disks_s = 0.0
        self.merges = True  # its disks, by themselves, after a failover
        self.done: list[str] = []  # names of actions
        self.running = self.qemu = False
        self.answers: deque = deque()
        self.hashed_at: float | None = None  # when its disks' hashes are there
        self.hashed_tag: act.Tag = ()
        self.reports: list[str] = []
        self.history: list[act.Happened] = []
        self.fenced: list[str] = []  # whom the agent was run against
        self.fence_error: str | None = None
        now = cluster.now
        if self.config.kind == "witness":
            kinds = {m: v["kind"] for m, v in MEMBERS.items()}
            self.core, self.consensus = None, Consensus(name, kinds, state, Timing(0.1, 0.02), now)
        else:
            self.core = Director(self.config, state, self.memory, now)
            self.consensus = self.core.consensus

    def take(self) -> list:
        return self.core.take() if self.core else self.consensus.take()

    def pump(self) -> None:
        while self.alive and (actions := self.take()):
            for action in actions:
                self.do(action)

    def do(self, action) -> None:
        later = self.answers.append
        self.done.append(type(action).__name__)
        if isinstance(action, Persist):
            self.state = action.state
        elif isinstance(action, Send):
            self.cluster.post(self.name, action.to, action.message, wire.CONTROL)
        elif isinstance(action, act.SendData):
            other = "secondary" if self.name == "primary" else "primary"
            self.cluster.post(self.name, other, action.message, wire.DATA)
        elif isinstance(action, act.Inject) and self.qemu:
            for frame in split(action.payload):
                value = int.from_bytes(frame[:8], "big")
                self.memory.guest_write(value % PAGES, value)
                noise = random.Random(f"{self.name}{value}").randrange(1, 1 << 40)
                self.memory.guest_write(PAGES - 1 - value % 7, noise)  # what differs on the two hosts
                later(("output", len(frame).to_bytes(4, "big") + bytes(frame)))
        elif isinstance(action, act.Emit):
            self.released += [bytes(f) for chunk in action.chunks for f in split(chunk)]
        elif isinstance(action, act.StartQemu):
            self.memory.__init__()
            self.qemu, self.running = True, not action.incoming
            if self.running:
                self.core.marks = tuple(Mark(LIVE, self.consensus.view) for _mark in self.core.marks)
            later(("qemu_ready", self.cluster.facts))
        elif isinstance(action, act.KillQemu):
            self.qemu = False
            self.answers.clear()
        elif isinstance(action, act.Yield):
            later(("data_writable",))
        elif isinstance(action, act.Hash):
            later(("hashed", action.tag, self.memory.hash(action.index)))
        elif isinstance(action, act.HashBlocks):
            later(("blocks_hashed", action.tag, self.memory.hash_blocks(action.index)))
        elif isinstance(action, act.Pack):
            later(("packed", action.tag, list(map(zstd.compress, action.payloads))))
        elif isinstance(action, act.HashDisks):
            self.hashed_at, self.hashed_tag = self.cluster.now + self.hash_disks_s, action.tag
        elif isinstance(action, act.SaveDevice):
            later(("device_saved", action.tag, b"device" + str(self.memory.ram[:20]).encode()))
        elif isinstance(action, act.CaptureStream):
            later(("stream_captured", action.tag, b"stream"))
        elif isinstance(action, act.Promote):
            later(("promoted",))
            if self.merges:
                later(("disks_merged",))
        elif type(action) in ANSWERS:
            later((ANSWERS[type(action)], action.tag))
        elif isinstance(action, act.CloseData):
            self.cluster.close_data()
        elif isinstance(action, act.TapUp):
            later(("tap_ready",))
        elif isinstance(action, act.Fence):
            self.fenced.append(action.member)
            later(("fenced", action.tag, self.fence_error))
        elif isinstance(action, act.Happened):
            self.history.append(action)
        elif isinstance(action, act.Report):
            self.reports.append(action.text)


ANSWERS = {act.Drain: "drained", act.StopVm: "vm_stopped", act.ColoStop: "vm_stopped", act.ColoLoad: "colo_loaded",
           act.FeedStream: "colo_ready", act.OpenTracker: "tracker_open", act.FetchDirty: "dirty_fetched",
           act.CopyDisks: "disks_copied", act.AttachDisks: "disks_attached", act.ResetVm: "vm_reset"}


class Cluster:
    def __init__(self, **more) -> None:
        self.now = 100.0
        self.more = more
        self.wire: deque = deque()
        self.facts = {"qemu_version": "7.2.22"}
        self.cut: set[frozenset[str]] = set()
        self.tap = defaultdict(bytes)
        self.nodes: dict[str, Node] = {}
        for name in MEMBERS:
            self.nodes[name] = Node(self, name, Durable(), **more)

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def post(self, src: str, to: str, message: wire.Message, channel: int) -> None:
        # Through the codec: what cannot be encoded or decoded must not pass here either.
        decoded = next(iter(codec.Decoder(1).feed(b"".join(codec.encode(message, 1)))))
        self.wire.append((src, to, decoded, channel))

    def close_data(self) -> None:
        """The connection breaks: what is in it is lost, and both ends hear of it."""
        self.wire = deque(item for item in self.wire if item[3] != wire.DATA)
        for node in self.nodes.values():
            if node.core and node.alive:
                node.answers.append(("data_lost",))

    def step(self, seconds: float = 0.001) -> None:
        """Deliver what is on the wire, let each QEMU answer once, advance the clock."""
        self.now += seconds
        for _ in range(len(self.wire)):
            src, to, message, channel = self.wire.popleft()
            node = self.nodes[to]
            if node.alive and frozenset((src, to)) not in self.cut and self.nodes[src].alive:
                self.deliver(node, src, message, channel)
        for node in self.nodes.values():
            if not node.alive:
                continue
            if node.hashed_at is not None and self.now >= node.hashed_at:
                node.hashed_at = None
                node.answers.append(("disks_hashed", node.hashed_tag, node.disk_hashes))
            for _ in range(len(node.answers)):
                event, *arguments = node.answers.popleft()
                core = node.core.at(self.now)
                core.answer(event, *arguments) if event in router.ANSWERS else getattr(core, event)(*arguments)
                node.pump()
            node.core.at(self.now).tick() if node.core else node.consensus.tick(self.now)
            if node.core and node.core.leading:
                node.core.at(self.now).idle(True)
            node.pump()

    def deliver(self, node: Node, src: str, message: wire.Message, channel: int) -> None:
        if channel == wire.DATA:
            node.core.at(self.now).data(message)
        elif node.core:
            node.core.at(self.now).control(src, message)
        elif not isinstance(message, (wire.JoinRequest, wire.Leave)):
            node.consensus.receive(self.now, src, message)
        node.pump()

    def run_until(self, condition, seconds: float = 10.0) -> None:
        end = self.now + seconds
        while not condition():
            assert self.now < end, [n.core.status() for n in self.nodes.values() if n.core]
            self.step()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.step()

    def kill(self, name: str) -> None:
        """Power loss: no FIN, no goodbye."""
        self.nodes[name].alive = False

    def restart(self, name: str) -> None:
        """Power back on: only the durable state is left."""
        self.nodes[name] = Node(self, name, self.nodes[name].state, **self.more)
        for other in self.nodes.values():
            other.consensus.connected(name)

    def leader(self) -> Node | None:
        return next((n for n in self.nodes.values() if n.alive and n.core and n.core.leading
                     and n.core.leading.serving), None)

    def protected(self) -> bool:
        leader = self.leader()
        return leader is not None and leader.core.status()["service"] == "protected"

    def send(self, value: int) -> bytes:
        """A client's frame to whoever serves."""
        frame = value.to_bytes(8, "big")
        leader = self.leader()
        if leader:
            leader.core.at(self.now).input(len(frame).to_bytes(4, "big") + frame)
            leader.pump()
        return frame


def elect_anew(node: Node) -> None:
    """As after a candidate that could not win: deposed by its view, and elected in the next."""
    core = node.core.at(node.cluster.now)
    core.control("witness", wire.VoteReply(core.consensus.view + 1, False, False, False, 0, 0))
    node.pump()
    assert not core.leading
    core.consensus.votes.ask(node.cluster.now, pre=False, transfer=False)
    node.pump()
