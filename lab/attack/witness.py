# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness's host is in other hands: they have its address, its settings, its secret and its certificate."""

from __future__ import annotations

import ast
import json
import re
import time

from plover.protocol import wire

from ..chaos import members
from ..hosts import netns_name
from . import speak
from .outcome import Attack, Outcome, held, register, won
from .scene import NotPossible, Scene

ATTACKS: dict[str, Attack] = {}
attack = register(ATTACKS, "witness")
LIE_S = 0.5
DEPOSE_S, DEPOSED_S = 6.0, 3.0
JOIN_S, ASK_EVERY_S = 20.0, 1.0
PAGES = (wire.FillPages, wire.StagePages, wire.StageBlocks, wire.FillState, wire.StageEnd)


def _kit(scene: Scene) -> speak.Kit:
    return speak.kit_of(scene.config(scene.witness), lambda path: scene.file(scene.witness, path))


def _speak(scene: Scene, host: str, kit: speak.Kit, channel: int) -> speak.Voice:
    """Raises OSError."""
    address = kit.config.members[host]["address"]
    return speak.Voice(scene.connect(netns_name(scene.witness), address, kit.config.port), kit, channel)


@attack()
def lies(scene: Scene) -> Outcome:
    """Tells each replica, one connection each, every lie that once ended a replica, its VM or its group. Success is harm only: a
    failover, a daemon or a QEMU that ends, a group that is not protected any more."""
    kit, told = _kit(scene), 0
    for host in members.REPLICAS:
        for lie in speak.lies(scene.before.view):
            try:
                with _speak(scene, host, kit, wire.CONTROL) as voice:
                    voice.greet(host)
                    voice.say(lie)
                    told += not voice.closed
                    voice.hear(LIE_S)
            except OSError:
                continue
    if not told:
        raise NotPossible("no replica listens to the witness")
    return held(f"{told} lies did nothing")


@attack()
def deposes_the_leader(scene: Scene) -> Outcome:
    """Tells both replicas for seconds that there is a later view, as if it had voted in it, in every way in which a voter may say so.
    Succeeds if the leader gives up, or the secondary leaves its view, so that clients wait for a failover."""
    kit, end = _kit(scene), time.monotonic() + DEPOSE_S
    while time.monotonic() < end:
        for host in members.REPLICAS:  # the true witness takes its place back in between
            try:
                with _speak(scene, host, kit, wire.CONTROL) as voice:
                    voice.greet(host)
                    for _turn in range(5):
                        voice.say(*speak.later_views(scene.before.view))
                        voice.hear(LIE_S / 10)
            except OSError:
                continue
    if members.wait(lambda seen: any(s.get("view", 0) > scene.before.view for s in seen.values()), DEPOSED_S):
        return won("the witness alone deposed the leader")
    doubted = {host: seen.get("doubted", {}).get("witness", {}).get("count", 0) for host, seen in members.statuses().items()}
    if not doubted[scene.leader]:
        raise NotPossible("the leader does not listen to the witness")
    return held("the leader leads on; words that were not believed: " + ", ".join(f"{host} {n}" for host, n in doubted.items() if n))


@attack()
def speaks_as_a_replica(scene: Scene) -> Outcome:
    """Says Hello to each replica in the other one's name, with the witness's secret and certificate. Succeeds if it is let in."""
    said = []
    for host, other in ((scene.leader, scene.secondary), (scene.secondary, scene.leader)):
        kit = _kit(scene)
        for way in speak.ways(kit._replace(config=speak.as_member(kit.config, other))):
            for channel in (wire.CONTROL, wire.DATA):
                try:
                    with _speak(scene, host, way, channel) as voice:
                        voice.greet(host)
                        if voice.is_let_in():
                            return won(f"{host} takes the witness for {other}")
                        said.append(f"{host} closes the link")
                except OSError as error:
                    said.append(f"{host}: {error}")
    return held("; ".join(sorted(set(said))))


@attack()
def reads_guest_memory(scene: Scene) -> Outcome:
    """Takes the secondary's place at the leader and asks for an initial sync. Succeeds if it gets pages of the guest's memory. A copy
    that is thrown away, or a group that is not protected any more, is harm."""
    scene.keep_memory_mark()
    kit = _kit(scene)
    for way in speak.ways(kit._replace(config=speak.as_member(kit.config, scene.secondary))):
        try:
            with _speak(scene, scene.leader, way, wire.CONTROL) as control, _speak(scene, scene.leader, way, wire.DATA) as data:
                control.greet(scene.leader)
                data.greet(scene.leader)
                if pages := _steal(scene, control, data):
                    return won(pages)
        except OSError:
            continue
    return held(f"{scene.leader} sends it no page")


def _steal(scene: Scene, control: speak.Voice, data: speak.Voice) -> str:
    """What came, until there is enough; empty if nothing did. The leader says itself which facts a joiner must state."""
    facts: dict[str, object] = {"began": 1.0, "checks": True}
    end, asked, got, mark = time.monotonic() + JOIN_S, 0.0, 0, False
    while time.monotonic() < end and not control.closed and not mark:
        if time.monotonic() - asked > ASK_EVERY_S:
            asked = time.monotonic()
            control.say(wire.JoinRequest(scene.before.view, json.dumps(facts).encode()))
        for message in [*control.hear(0.1), *data.hear(0.1)]:
            if isinstance(message, wire.Heartbeat):
                control.say(wire.HeartbeatAck(message.view, message.seq, 0, message.record_view, message.record_version))
            elif isinstance(message, wire.JoinRefused):
                facts.update(_facts(message.payload.decode(errors="replace")))
            elif isinstance(message, PAGES):
                got += len(message.payload)
                mark = mark or scene.loot["memory"][:40] in message.payload
    return f"got {got >> 10} KiB of guest memory" + (", the secret in it" if mark else "") if got else ""


def _facts(refusal: str) -> dict[str, object]:
    """What a joiner should have said, out of the leader's own words."""
    out = {}
    for name, value in re.findall(r"(\w+) is [^;]*? there and ([^;]*?) here; make them equal", refusal):
        try:
            out[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            continue
    return out
