# SPDX-License-Identifier: GPL-3.0-or-later
"""Links by TLS, over real TCP with real certificates: who is let in, who is not and why, rotation, revocation, upgrade."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import ssl
import weakref

import pytest
from plover.links import security, tls
from plover.protocol import wire
from settings import MEMBERS
from test_peers import CLUSTER, Member, closed, free_port, hello, sent, until

from lab.pki import Authority, put

OTHER_CLUSTER = "6f9619ff-0000-4d01-b42d-00cf4fc964ff"
LONG_AGO = datetime.timedelta(hours=-1)


pytestmark = pytest.mark.usefixtures("quick")


def tls_member(name, port, folder, **more):
    return Member(name, port, link_security="tls", tls_folder=str(folder), **more)


@contextlib.asynccontextmanager
async def started(*members):
    unexpected = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unexpected.append(context))
    for member in members:
        await member.links.start()
    try:
        yield
    finally:
        for member in members:
            await member.links.stop()
        await asyncio.sleep(0)
    assert unexpected == []


def pair(tmp_path, first="primary", second="witness", **more):
    """Two members, ``first`` dials; their folders are ``tmp_path / name``."""
    port = free_port()
    return (
        tls_member(first, port, tmp_path / first, **more),
        tls_member(second, port, tmp_path / second, **more),
    )


def plain_pair():
    port = free_port()
    return Member("primary", port), Member("secondary", port)


def encrypted(member):
    return security.describe(member.links)["encrypted"]


# --- links that come up ---


@pytest.mark.parametrize("second", ["witness", "secondary"])
def test_members_of_one_ca_are_linked_encrypted_and_heard(tmp_path, ca, second):
    for name in ("primary", second):
        ca.give(tmp_path / name, name)
    channels = 1 if second == "witness" else 2

    async def run():
        one, other = pair(tmp_path, second=second)
        async with started(other, one):
            await until(lambda: len(one.up) == len(other.up) == channels)
            one.links.send(second, wire.CONTROL, wire.TransferLeadership(4))
            other.links.send("primary", wire.CONTROL, wire.TransferLeadership(5))
            await until(lambda: one.heard and other.heard)
            assert other.heard == [("primary", wire.CONTROL, wire.TransferLeadership(4))]
            assert one.heard == [(second, wire.CONTROL, wire.TransferLeadership(5))]
            assert encrypted(one) == {second: True} and encrypted(other) == {"primary": True}
            said = security.describe(one.links)
            assert said["link_security"] == "tls" and said["tls"]["mode"] == "only" and said["tls"]["warnings"] == []
            assert {name: one["days_left"] for name, one in said["tls"]["certificates"].items()} == {"primary": 824, second: 824}

    asyncio.run(run())


@pytest.mark.parametrize("security", ["tls", "none"])
def test_a_link_that_is_lost_is_freed_at_once(tmp_path, ca, security):
    """Each has buffers of 300 KiB and more. Held by cycles, they would wait for the collector, which counts objects and not bytes."""
    for name in ("primary", "secondary"):
        ca.give(tmp_path / name, name)

    async def run():
        one, other = pair(tmp_path, second="secondary") if security == "tls" else plain_pair()
        async with started(other, one):
            await until(lambda: len(one.up) == len(other.up) == 2)
            before = [weakref.ref(link) for member in (one, other) for link in member.links.links.values()]
            one.links.close("secondary")
            await until(lambda: len(one.up) == len(other.up) == 4)
            await until(lambda: not any(link() for link in before))

    gc.collect()
    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_nothing_of_the_messages_can_be_read_on_the_wire(tmp_path, ca):
    for name in ("primary", "witness"):
        ca.give(tmp_path / name, name)
    seen = bytearray()

    async def spy(reader, writer, port):
        """On the path: passes everything on and keeps a copy."""
        far_reader, far_writer = await asyncio.open_connection(MEMBERS["witness"]["address"], port)

        async def pump(source, sink):
            while data := await source.read(65_536):
                seen.extend(data)
                sink.write(data)

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

    async def run():
        real, tapped = free_port(MEMBERS["witness"]["address"]), free_port()
        witness = tls_member("witness", real, tmp_path / "witness")
        members = {**MEMBERS, "witness": {"address": "127.0.0.4", "kind": "witness"}}
        primary = tls_member("primary", tapped, tmp_path / "primary", members=members)
        server = await asyncio.start_server(lambda r, w: spy(r, w, real), "127.0.0.4", tapped)
        async with started(witness, primary):
            await until(lambda: primary.up and witness.up)
            primary.links.send("witness", wire.CONTROL, wire.Hello(b"very secret memory" * 1000))
            await until(lambda: witness.links.refusals)
        server.close()

    asyncio.run(run())
    assert len(seen) > 18_000 and not any(word in seen for word in (b"secret memory", CLUSTER.encode(), b"PLVR"))


@pytest.mark.parametrize("size", [1, 100, 16_384, 300_000, 1_000_000])
def test_messages_of_all_sizes_arrive_whole_and_in_order(tmp_path, ca, size):
    for name in ("primary", "secondary"):
        ca.give(tmp_path / name, name)

    async def run():
        one, other = pair(tmp_path, second="secondary")
        async with started(other, one):
            await until(lambda: len(one.up) == len(other.up) == 2)
            sent_messages = [wire.FillPages(n, 1, 0, bytes([n]) * size) for n in range(6)]
            for message in sent_messages:
                one.links.send("secondary", wire.DATA, message)
            await until(lambda: len(other.heard) == 6)
            assert [m for _, _, m in other.heard] == sent_messages

    asyncio.run(run())


# --- links that are refused ---


async def refused_for_good(caplog, one, other, words):
    async with started(other, one):
        await until(lambda: words in caplog.text and caplog.text.count("refused: ") >= 3)
        assert (one.up, other.up) == ([], [])


def assert_refused(tmp_path, caplog, words, **more):
    async def run():
        await refused_for_good(caplog, *pair(tmp_path, **more), words)

    asyncio.run(run())


def test_a_certificate_of_another_ca_is_refused_by_both(tmp_path, caplog, ca):
    ca.give(tmp_path / "witness", "witness")
    Authority(CLUSTER).give(tmp_path / "primary", "primary")
    assert_refused(tmp_path, caplog, "its certificate is refused")
    assert "is not from a CA in this host's ca.pem; run the deploy play" in caplog.text


def test_a_client_of_another_ca_is_refused_by_who_accepts(tmp_path, caplog, ca):
    stranger = Authority(CLUSTER)
    ca.give(tmp_path / "witness", "witness")
    stranger.give(tmp_path / "primary", "primary", ca=stranger.pem + ca.pem)
    assert_refused(tmp_path, caplog, "it refuses our certificate or our TLS (unknown ca); its log says why")


@pytest.mark.parametrize(
    "uris, words",
    [
        ([f"plover:{OTHER_CLUSTER}/primary"], "check 'members' and 'cluster_id'"),
        ([f"plover:{CLUSTER}/stranger"], "check 'members' and 'cluster_id'"),
        ([f"plover:{CLUSTER}/witness"], "check 'members' and 'cluster_id'"),
        ([f"plover:{CLUSTER}/secondary"], "Hello of primary with the certificate of secondary"),
        ([f"plover:{CLUSTER}/primary", f"plover:{CLUSTER}/secondary"], "check 'members' and 'cluster_id'"),
        ([], "the certificate of 'nobody'"),
    ],
    ids=["another group", "a stranger", "our own name", "another member", "two names", "no name"],
)
def test_a_certificate_of_somebody_else_is_worth_nothing(tmp_path, caplog, monkeypatch, ca, uris, words):
    """Its holder does not check itself, of course."""
    ca.give(tmp_path / "witness", "witness")
    ca.give(tmp_path / "primary", "primary")
    certificate, key, _ = ca.issue(*uris)
    put(tmp_path / "primary" / "cert.pem", certificate)
    put(tmp_path / "primary" / "key.pem", key)
    monkeypatch.setattr(tls.Folder, "_own", lambda self, *_: tls.Identity(self._member, 1, 4e9))
    assert_refused(tmp_path, caplog, words)


def test_the_witness_cannot_take_a_replicas_name(tmp_path, caplog, monkeypatch, ca):
    """Its certificate is good, and it says in its Hello that it is the primary: to have the data channel, with all memory."""
    ca.give(tmp_path / "secondary", "secondary")
    ca.give(tmp_path / "thief", "witness")
    monkeypatch.setattr(tls.Folder, "_own", lambda self, *_: tls.Identity(self._member, 1, 4e9))

    async def run():
        port = free_port()
        thief = tls_member("primary", port, tmp_path / "thief")
        secondary = tls_member("secondary", port, tmp_path / "secondary")
        await refused_for_good(caplog, thief, secondary, "Hello of primary with the certificate of witness")

    asyncio.run(run())


def test_an_impostor_that_is_dialled_is_refused_too(tmp_path, caplog, monkeypatch, ca):
    ca.give(tmp_path / "primary", "primary")
    ca.give(tmp_path / "witness", "secondary")
    monkeypatch.setattr(tls.Folder, "_own", lambda self, *_: tls.Identity(self._member, 1, 4e9))
    assert_refused(tmp_path, caplog, "link to witness refused: its certificate is of secondary")


def test_an_expired_certificate_is_refused(tmp_path, caplog, monkeypatch, ca):
    ca.give(tmp_path / "witness", "witness")
    ca.give(tmp_path / "primary", "primary", life=LONG_AGO)
    monkeypatch.setattr(tls.Folder, "_own", lambda self, *_: tls.Identity(self._member, 1, 4e9))
    assert_refused(tmp_path, caplog, "refused (certificate has expired): renew it")


def test_a_revoked_certificate_is_refused(tmp_path, caplog, ca):
    ca.give(tmp_path / "witness", "witness")
    serial = ca.give(tmp_path / "primary", "primary")
    put(tmp_path / "witness" / "revoked", f"# lost\n{0xABC:x}\n{serial:X}\n")
    assert_refused(tmp_path, caplog, f"the certificate of primary ({serial:x}) is in")


def test_who_does_not_speak_tls_is_refused_in_mode_only(tmp_path, caplog, ca):
    ca.give(tmp_path / "witness", "witness")

    async def run():
        port = free_port()
        await refused_for_good(caplog, Member("primary", port), tls_member("witness", port, tmp_path / "witness"), "does not speak TLS")

    asyncio.run(run())
    assert "set link_security: tls there, or write 'dial' into" in caplog.text


def test_tls_to_a_member_without_it_is_refused_and_never_falls_back(tmp_path, caplog, ca):
    ca.give(tmp_path / "primary", "primary", mode="dial")

    async def run():
        port = free_port()
        plain = Member("witness", port)
        await refused_for_good(caplog, tls_member("primary", port, tmp_path / "primary"), plain, "it speaks TLS, but here")
        assert plain.heard == []

    asyncio.run(run())
    assert "witness closed the link in the middle of the TLS handshake" in caplog.text and "write 'accept' into" in caplog.text


def test_an_answer_without_tls_is_refused(tmp_path, caplog, ca):
    """On the path, somebody answers in the witness's place."""
    ca.give(tmp_path / "primary", "primary", mode="dial")

    async def run():
        port = free_port(MEMBERS["witness"]["address"])
        server = await asyncio.start_server(lambda _, w: w.write(sent(hello(member="witness"))), MEMBERS["witness"]["address"], port)
        primary = tls_member("primary", port, tmp_path / "primary")
        async with started(primary):
            await until(lambda: "it answers without TLS" in caplog.text)
            assert primary.up == []
        server.close()

    asyncio.run(run())


def context(**changes):
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    for key, value in changes.items():
        setattr(found, key, value)
    return found


async def knock(port, found):
    """What the witness answers to who dials with this context: nothing."""
    try:
        reader, writer = await asyncio.open_connection(MEMBERS["witness"]["address"], port, ssl=found, server_hostname="")
        writer.write(sent(hello()))
        answer = await closed(reader)
        writer.close()
    except (ssl.SSLError, ConnectionError):
        return b""
    return answer


def test_older_tls_and_no_certificate_are_refused(tmp_path, caplog, ca):
    ca.give(tmp_path / "witness", "witness")

    async def run():
        port = free_port(MEMBERS["witness"]["address"])
        witness = tls_member("witness", port, tmp_path / "witness")
        async with started(witness):
            assert await knock(port, context(maximum_version=ssl.TLSVersion.TLSv1_2)) == b""
            await until(lambda: "no valid TLS 1.3 (unsupported protocol)" in caplog.text)
            assert await knock(port, context()) == b""
            await until(lambda: "shows no certificate; only members may connect" in caplog.text)
            assert witness.up == []

    asyncio.run(run())


@pytest.mark.parametrize("nonsense", [b"\x16", b"\x16" * 5000, b"\x16\x03\x01\x40\x00" + bytes(20_000), bytes(100)])
def test_nonsense_and_silence_instead_of_tls_end_in_time(tmp_path, monkeypatch, ca, nonsense):
    monkeypatch.setattr("plover.links.link.HELLO_TIMEOUT_S", 0.2)
    ca.give(tmp_path / "witness", "witness")

    async def run():
        port = free_port(MEMBERS["witness"]["address"])
        witness = tls_member("witness", port, tmp_path / "witness")
        async with started(witness):
            reader, writer = await asyncio.open_connection(MEMBERS["witness"]["address"], port)
            writer.write(nonsense)
            assert b"PLVR" not in await closed(reader)
            writer.close()
            await until(lambda: not witness.links.door._waiting)
            assert witness.up == []

    asyncio.run(run())


def test_a_stranger_in_the_handshake_takes_no_more_than_its_place(tmp_path, ca):
    """The door's limits count before any TLS."""
    ca.give(tmp_path / "witness", "witness")

    async def run():
        port = free_port(MEMBERS["witness"]["address"])
        witness = tls_member("witness", port, tmp_path / "witness")
        async with started(witness):
            for _ in range(60):
                _, writer = await asyncio.open_connection(MEMBERS["witness"]["address"], port, local_addr=("127.77.7.7", 0))
                writer.write(b"\x16\x03\x01")
            await until(lambda: witness.links.door.turned_away == 60 - 16)

    asyncio.run(run())
