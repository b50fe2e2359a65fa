# SPDX-License-Identifier: GPL-3.0-or-later
"""The handshake: who is let in, over real TCP; and what strangers and nonsense on the port do to the others: nothing."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from plover.config.settings import Config
from plover.config.timing import Timing
from plover.errors import WireError
from plover.links import hello as hellos
from plover.links import link, peers
from plover.links.peers import PeerLinks
from plover.protocol import codec, wire
from ports import free_port
from settings import MEMBERS, settings

CLUSTER = settings("witness")["cluster_id"]
TAG = codec.cluster_tag(CLUSTER)
SOON = 5.0

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
)


OURS = {wire.CONTROL: "witness", wire.DATA: "secondary"}  # whose links are tested


class Member:
    """The links of one member, and all that they told it."""

    def __init__(self, name, port, **more):
        self.heard, self.up, self.down = [], [], []
        self.links = PeerLinks(
            Config(settings(name, port=port, **more)),
            lambda *m: self.heard.append(m),
            lambda *key: self.up.append(key),
            lambda *key: self.down.append(key),
            lambda: None,
        )


@asynccontextmanager
async def listening(channel=wire.CONTROL):
    """The witness, which listens and dials nobody; for the data channel, which it has none of, the secondary. Errors nobody took
    are raised at the end."""
    unexpected = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unexpected.append(context))
    name = OURS[channel]
    member = Member(name, free_port(MEMBERS[name]["address"]))
    await member.links.start()
    try:
        yield member
    finally:
        await member.links.stop()
        await asyncio.sleep(0)
    assert unexpected == []


async def dial(member):
    config = member.links.config
    return await asyncio.open_connection(config.members[config.member]["address"], config.port)


async def until(condition):
    async def wait():
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), SOON)


async def closed(reader):
    """What came until the other side closed."""
    out = b""
    try:
        while chunk := await asyncio.wait_for(reader.read(65_536), SOON):
            out += chunk
    except ConnectionResetError:
        pass
    return out


def hello(**changes):
    data = {"cluster_id": CLUSTER, "member": "primary", "channel": wire.CONTROL, "version": "0", **changes}
    return wire.Hello(json.dumps({k: v for k, v in data.items() if v is not ...}).encode())


TIMING = {"detection_ms": 1000, "heartbeat_ms": 200, "election_ms": 1500}


def sent(message, tag=TAG):
    return b"".join(codec.encode(message, tag))


def check(message, dialled=None, member="witness"):
    return hellos.check(Config(settings(member)), message, dialled)[:3]


# --- the Hello itself ---


@pytest.mark.parametrize(
    "ours, member, channel",
    [
        ("witness", "primary", 0),
        ("witness", "secondary", 0),
        ("secondary", "primary", 1),
        ("primary", "secondary", 1),
        ("secondary", "primary", 3),
        ("primary", "secondary", 3),
    ],
)
def test_a_hello_of_another_member_is_accepted(ours, member, channel):
    assert check(hello(member=member, channel=channel), member=ours) == (member, channel, None)
    assert check(hello(member=member, channel=channel), (member, channel), ours) == (member, channel, None)


@pytest.mark.parametrize("channel, name", [(wire.DATA, "the data channel"), (wire.DISKS, "the disks' channel")])
@pytest.mark.parametrize("ours, member", [("primary", "witness"), ("secondary", "witness"), ("witness", "primary")])
def test_the_witness_has_a_control_channel_only(ours, member, channel, name):
    with pytest.raises(WireError, match=f"for {name}, which is between the replicas"):
        check(hello(member=member, channel=channel), member=ours)


@pytest.mark.parametrize(
    "said, channels", [({}, {0, 1}), ({"channels": None}, {0, 1}), ({"channels": []}, set()), ({"channels": [0, 3, 99]}, {0, 3, 99})]
)
def test_a_member_tells_its_channels_and_an_earlier_version_had_two(said, channels):
    assert hellos.check(Config(settings("witness")), hello(**said), None).channels == channels


ALL_CHANNELS = {wire.CONTROL, wire.DATA, wire.DISKS, wire.DISKS_KEYED}


@pytest.mark.parametrize("knows", [None, 7, {}, [], ["later"], ["off", "later", 7, None], ["x"] * 100_000])
def test_what_another_version_knows_is_known_as_far_as_we_know_it(knows):
    message = wire.Hello(json.dumps({"cluster_id": CLUSTER, "member": "primary", "channel": 0, "knows": knows}).encode())
    told = hellos.check(Config(settings("witness")), message, None)
    assert told.knows == ({"off"} if isinstance(knows, list) and "off" in knows else set())


def test_our_own_hello_is_accepted_by_every_other_member():
    primary = Config(settings("primary"))
    for other in ("secondary", "witness"):
        found = hellos.check(Config(settings(other)), hellos.of(primary, wire.CONTROL, "ab"), None)
        assert found == ("primary", wire.CONTROL, Timing.of(primary), "ab", ALL_CHANNELS, False, {"off"})
    witness = hellos.check(primary, hellos.of(Config(settings("witness")), wire.CONTROL), None)
    assert witness.channels == {wire.CONTROL}


@pytest.mark.parametrize(
    "message, words",
    [
        (hello(cluster_id="6f9619ff-0000-4d01-b42d-00cf4fc964ff"), "check 'cluster_id'"),
        (hello(cluster_id=None), "check 'cluster_id'"),
        (hello(cluster_id=...), "malformed Hello"),
        (hello(member="stranger"), "'stranger', who is no other member; check 'members'"),
        (hello(member="witness"), "'witness', who is no other member"),
        (hello(member=...), "malformed Hello"),
        (hello(member=["primary"]), "malformed Hello: 'member' must be a string"),
        (hello(member={"primary": 1}), "malformed Hello: 'member' must be a string"),
        (hello(channel=2), "for channel 2"),
        (hello(channel=-1), "for channel -1"),
        (hello(channel="0"), "'channel' a number"),
        (hello(channel=[0]), "'channel' a number"),
        (hello(channel=...), "malformed Hello"),
        (hello(channels=3), "'channels' must be a list"),
        (hello(channels=list(range(17))), "'channels' must be a list of at most 16"),
        (hello(channels=[[0]]), "'channels' must be a list"),
        (hello(channels=[True]), "'channels' must be a list"),
        (hello(**{**TIMING, "heartbeat_ms": 0}), "'heartbeat_ms' must be a whole number from 2 to 10000"),
        (hello(**{**TIMING, "heartbeat_ms": 10**400}), "'heartbeat_ms' must be a whole number"),
        (hello(**{**TIMING, "detection_ms": 60_001}), "'detection_ms' must be a whole number from 20 to 60000"),
        (hello(**{**TIMING, "detection_ms": 1e3}), "'detection_ms' must be a whole number"),
        (hello(**{**TIMING, "election_ms": True}), "'election_ms' must be a whole number"),
        (hello(**{**TIMING, "election_ms": ...}), "'election_ms' must be a whole number"),
        (wire.Hello(b""), "malformed Hello"),
        (wire.Hello(b"{"), "malformed Hello"),
        (wire.Hello(b"[]"), "malformed Hello"),
        (wire.Hello(b"null"), "malformed Hello"),
        (wire.Hello(b"7"), "malformed Hello"),
        (wire.Hello(b"\xff\xfe\xff"), "malformed Hello"),
        (wire.Hello(b"[" * 100_000), "malformed Hello"),
        (wire.Hello(b'{"member":' * 50_000), "malformed Hello"),
        (wire.Hello(b'{"channel": ' + b"9" * 5000 + b"}"), "malformed Hello"),
    ],
    ids=lambda value: value.payload[:60].decode("latin-1") if isinstance(value, wire.Hello) else "",
)
def test_another_hello_is_refused_with_what_to_check(message, words):
    with pytest.raises(WireError, match=words):
        check(message)


@pytest.mark.parametrize("message", [hello(member="secondary"), hello(channel=wire.DATA)], ids=["member", "channel"])
def test_the_answer_to_our_dial_must_come_from_whom_we_dialled(message):
    with pytest.raises(WireError, match="expected"):
        check(message, ("primary", wire.CONTROL))


@given(
    json_values
    | st.fixed_dictionaries(
        {
            "cluster_id": st.just(CLUSTER) | json_values,
            "member": st.sampled_from(["primary", "witness"]) | json_values,
            "channel": st.sampled_from([0, 1]) | json_values,
        },
        optional={key: st.just(value) | json_values for key, value in {**TIMING, "channels": [0, 1, 3]}.items()},
    )
)
@example({"cluster_id": CLUSTER, "member": "primary", "channel": True})
@example({"cluster_id": CLUSTER, "member": "primary", "channel": 1.0})
def test_any_json_as_hello_is_a_member_and_a_channel_or_refused(data):
    try:
        member, channel, timing = check(wire.Hello(json.dumps(data).encode()))
    except WireError:
        return
    assert member in ("primary", "secondary") and channel in (wire.CONTROL, wire.DATA) and type(channel) is int
    assert timing is None or (0.02 <= timing.detection <= 60 and 0.002 <= timing.heartbeat <= 10)


# --- over TCP ---


@pytest.mark.parametrize("channel", [wire.CONTROL, wire.DATA])
def test_a_member_that_greets_is_greeted_back_and_heard(channel):
    async def run():
        async with listening(channel) as member:
            reader, writer = await dial(member)
            writer.write(sent(hello(channel=channel)) + sent(wire.TransferLeadership(5)))
            await until(lambda: member.heard)
            assert member.up == [("primary", channel, None)]
            assert member.heard == [("primary", channel, wire.TransferLeadership(5))]
            (back,) = codec.Decoder(TAG).feed(await reader.read(1000))
            assert json.loads(back.payload)["member"] == OURS[channel]
            writer.close()
            await until(lambda: member.down == [("primary", channel)])

    asyncio.run(run())


NONSENSE = {
    "a browser": b"GET / HTTP/1.1\r\nHost: plover\r\n\r\n",
    "zeros": bytes(100),
    "no hello first": sent(wire.TransferLeadership(1)),
    "another cluster's tag": sent(hello(), TAG ^ 1),
    "another version": codec.HEADER.pack(codec.MAGIC, codec.VERSION + 1, wire.Hello.TYPE, 0, TAG, 0),
    "an endless hello": codec.HEADER.pack(codec.MAGIC, codec.VERSION, wire.Hello.TYPE, 0, TAG, 2**32 - 1),
    "a stranger": sent(hello(member="stranger")),
    "our own name": sent(hello(member="witness")),
    "a name that is a list": sent(hello(member=["primary"])),
    "brackets": sent(wire.Hello(b"[" * 100_000)),
    "an unknown channel": sent(hello(channel=9)),
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_closed_and_harms_nobody(nonsense):
    async def run():
        async with listening() as member:
            _, good = await dial(member)
            good.write(sent(hello()))
            await until(lambda: member.up)
            reader, writer = await dial(member)
            writer.write(nonsense + sent(wire.TransferLeadership(66)))
            assert await closed(reader) == b""
            good.write(sent(wire.TransferLeadership(5)))
            await until(lambda: member.heard)
            assert member.heard == [("primary", wire.CONTROL, wire.TransferLeadership(5))]
            assert (len(member.up), member.down) == (1, [])
            good.close()
            writer.close()

    asyncio.run(run())


def test_nonsense_of_a_member_closes_its_connection_and_it_may_come_back():
    async def run():
        async with listening() as member:
            for times in (1, 2):
                reader, writer = await dial(member)
                writer.write(sent(hello()) + sent(wire.TransferLeadership(times)) + b"nonsense of 16 b")
                await closed(reader)
                await until(lambda: len(member.down) == times)  # noqa: B023 (awaited in this very turn)
                writer.close()
            assert [m.view for _, _, m in member.heard] == [1, 2]
            assert member.links.links == {}

    asyncio.run(run())


@pytest.mark.parametrize("channel", [wire.CONTROL, wire.DATA])
def test_a_second_hello_closes_the_connection_and_goes_no_further(channel):
    async def run():
        async with listening(channel) as member:
            reader, writer = await dial(member)
            writer.write(sent(hello(channel=channel)) + sent(hello(channel=channel)))
            await closed(reader)
            await until(lambda: member.down == [("primary", channel)])
            assert member.heard == []
            writer.close()

    asyncio.run(run())


def test_who_connects_and_says_nothing_is_closed(monkeypatch):
    monkeypatch.setattr(link, "HELLO_TIMEOUT_S", 0.05)

    async def run():
        async with listening() as member:
            silent, _ = await dial(member)
            half, writer = await dial(member)
            writer.write(sent(hello())[:20])
            assert await closed(silent) == await closed(half) == b""
            assert member.up == []

    asyncio.run(run())


@pytest.mark.parametrize(("budget_ms", "again"), [(5_000, True), (50_000, False)])
def test_a_slow_host_is_dialled_again_later_where_the_group_was_given_more_time(monkeypatch, budget_ms, again):
    """A second connection takes the place of the first, whose TLS handshake it would break off again and again."""
    monkeypatch.setattr(peers, "DIAL_TIMEOUT_S", 0.2)

    async def run():
        accepted = []
        witness = MEMBERS["witness"]["address"]
        server = await asyncio.start_server(lambda reader, writer: accepted.append(writer), witness, port := free_port(witness))
        primary = Member("primary", port, failover_budget_ms=budget_ms)
        await primary.links.start()
        await until(lambda: accepted)
        await asyncio.sleep(0.4)
        seen = len(accepted)
        await primary.links.stop()
        server.close()
        return seen

    assert (asyncio.run(run()) > 1) == again


def test_members_tell_each_other_their_timing_and_say_so_if_it_differs(caplog):
    async def run():
        async with listening() as witness:
            primary = Member("primary", witness.links.config.port, failover_budget_ms=5000)
            await primary.links.start()
            await until(lambda: primary.up and witness.up)
            await primary.links.stop()
        return primary.up, witness.up

    told = asyncio.run(run())
    assert told == ([("witness", wire.CONTROL, Timing(0.1, 0.02, 0.15))], [("primary", wire.CONTROL, Timing(0.5, 0.1, 0.75))])
    assert (
        "primary goes by other time-outs (detection_ms 500, heartbeat_ms 100, election_ms 750; here detection_ms 100, "
        "heartbeat_ms 20, election_ms 150)"
    ) in caplog.text


def test_a_new_connection_of_a_member_replaces_its_old_one():
    async def run():
        async with listening() as member:
            old, writer = await dial(member)
            writer.write(sent(hello()))
            await until(lambda: member.up)
            _, new = await dial(member)
            new.write(sent(hello()))
            await closed(old)
            new.write(sent(wire.TransferLeadership(7)))
            await until(lambda: member.heard)
            assert (len(member.up), len(member.down), len(member.links.links)) == (2, 1, 1)
            new.close()

    asyncio.run(run())


def test_a_connection_that_the_other_end_forgot_is_noticed_though_nobody_sends():
    """As after a cut in which one end gave the connection up: no FIN, no RST, only keepalives find out."""
    tcp_repair = 19  # linux/tcp.h: closed in this mode, a socket leaves without a word

    async def run():
        async with listening(wire.DATA) as member:
            _, writer = await dial(member)
            writer.write(sent(hello(channel=wire.DATA)))
            await until(lambda: member.up)
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, tcp_repair, 1)
            writer.transport.abort()
            await until(lambda: member.down)
            assert member.down == [("primary", wire.DATA)]

    asyncio.run(run())
