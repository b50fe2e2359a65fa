# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes while links are up: certificates and CAs are rotated, revoked, expire; a group changes over to TLS."""

from __future__ import annotations

import asyncio

import pytest
from plover.links import security, succession, tls
from plover.links.link import Link
from plover.protocol import wire
from settings import MEMBERS
from test_peers import CLUSTER, Member, free_port, until
from test_tls import encrypted, pair, started, tls_member

from lab.pki import DAY, Authority, put

pytestmark = pytest.mark.usefixtures("quick")


class Flow:
    """Messages in both directions on both channels between primary and secondary, numbered."""

    def __init__(self, one, other):
        self.ends, self.count = ((one, "secondary"), (other, "primary")), 0
        self.task = asyncio.create_task(self._send())

    async def _send(self):
        while True:
            for member, peer in self.ends:
                member.links.send(peer, wire.CONTROL, wire.TransferLeadership(self.count))
                member.links.send(peer, wire.DATA, wire.FillPages(self.count, 0, 0, b"x" * (self.count % 7 * 30_000)))
            self.count += 1
            await asyncio.sleep(0.002)

    async def more(self):
        before = self.count
        await until(lambda: self.count > before + 5)

    async def check_whole(self):
        """Nothing was lost, nothing overtook."""
        self.task.cancel()
        for member, _ in self.ends:
            for channel in (wire.CONTROL, wire.DATA):
                seen = [m.view for _, at, m in member.heard if at == channel]
                await until(lambda: sum(at == channel for _, at, _ in member.heard) == self.count)  # noqa: B023
                seen = [m.view for _, at, m in member.heard if at == channel]
                assert seen == list(range(self.count))
            assert member.down == [] and len(member.up) == 2


def all_links(*members):
    return [link for member in members for link in member.links.links.values()]


def test_certificates_and_the_ca_are_rotated_while_messages_flow_and_no_link_is_lost(tmp_path, ca):
    new = Authority(CLUSTER)
    both = ca.pem + new.pem
    names = ("primary", "secondary")
    old = {name: ca.give(tmp_path / name, name) for name in names}

    async def run():
        one, other = pair(tmp_path, second="secondary")
        async with started(other, one):
            await until(lambda: len(one.up) == len(other.up) == 2)
            flow, firsts = Flow(one, other), all_links(one, other)
            for name in names:
                put(tmp_path / name / "ca.pem", both)
            for name in names:  # first the dialler's, then the acceptor's
                serial = new.give(tmp_path / name, name, ca=both)
                peer = other if name == "primary" else one
                await until(lambda: all(link.secure.peer.serial == serial for link in all_links(peer)))  # noqa: B023
                await flow.more()
            for name in names:
                put(tmp_path / name / "ca.pem", new.pem)
                put(tmp_path / name / "revoked", "".join(f"{serial:x}\n" for serial in old.values()))
                await asyncio.sleep(0.15)  # the watch looks
                await flow.more()
            await flow.check_whole()
            await until(lambda: all(link.transport.is_closing() for link in firsts))
            assert not set(firsts) & set(all_links(one, other))

    asyncio.run(run())


def test_links_go_over_to_tls_while_messages_flow_and_none_is_lost(tmp_path, ca):
    names = ("primary", "secondary")
    for name in names:
        ca.give(tmp_path / name, name, mode="accept")

    async def run():
        one, other = pair(tmp_path, second="secondary")
        async with started(other, one):
            await until(lambda: len(one.up) == len(other.up) == 2)
            flow = Flow(one, other)
            await flow.more()
            for mode in ("dial", "only"):
                for name in names:
                    put(tmp_path / name / "mode", mode)
                await until(lambda: encrypted(one) == {"secondary": True} and encrypted(other) == {"primary": True})
                await flow.more()
            await asyncio.sleep(0.15)
            await flow.check_whole()

    asyncio.run(run())


def test_a_link_that_breaks_while_another_takes_its_place_counts_as_lost(tmp_path, ca, monkeypatch):
    """Its last messages may be missing, so the new one must not go on as if nothing had happened."""
    for name in ("primary", "secondary"):
        ca.give(tmp_path / name, name)
    monkeypatch.setattr(Link, "finish", lambda self: None)  # no end mark comes
    monkeypatch.setattr(succession, "S_MAX", 0.3)

    async def run():
        one, other = pair(tmp_path, second="secondary")
        async with started(other, one):
            await until(lambda: len(one.up) == len(other.up) == 2)
            ca.give(tmp_path / "primary", "primary")
            await until(lambda: ("secondary", wire.DATA) in one.down and ("primary", wire.DATA) in other.down)
            await until(lambda: len(all_links(one, other)) == 4)

    asyncio.run(run())


def test_a_certificate_that_is_revoked_costs_its_holder_the_link_at_once(tmp_path, caplog, ca):
    ca.give(tmp_path / "witness", "witness")
    serial = ca.give(tmp_path / "primary", "primary")

    async def run():
        one, other = pair(tmp_path)
        async with started(other, one):
            await until(lambda: one.up and other.up)
            put(tmp_path / "witness" / "revoked", f"{serial:x}\n")
            await until(lambda: other.down)
            await until(lambda: caplog.text.count(f"the certificate of primary ({serial:x}) is in") >= 2)
            assert len(other.up) == 1
            ca.give(tmp_path / "primary", "primary")
            await until(lambda: len(other.up) == 2)

    asyncio.run(run())
    assert f"link to primary closed: its certificate ({serial:x}) is in" in caplog.text


def test_a_certificate_that_expires_costs_the_link_and_status_warns_before(tmp_path, caplog, monkeypatch, ca):
    ca.give(tmp_path / "witness", "witness")
    ca.give(tmp_path / "primary", "primary", life=20 * DAY)

    async def run():
        one, other = pair(tmp_path)
        async with started(other, one):
            await until(lambda: one.up and other.up)
            for member in (one, other):
                warnings = security.describe(member.links)["tls"]["warnings"]
                assert warnings == ["the certificate of primary ends in 19 days; renew it with the deploy play"]
            now = tls.wall()
            monkeypatch.setattr(tls, "wall", lambda: now + 21 * 86_400)
            await until(lambda: other.down)
            await until(lambda: "expired" in security.describe(one.links)["tls"]["problem"])

    asyncio.run(run())
    assert "link to primary closed: its certificate has expired; renew it with the deploy play" in caplog.text


def test_files_that_break_cost_no_link_that_is_up_and_are_told_once(tmp_path, caplog, ca):
    for name in ("primary", "witness"):
        ca.give(tmp_path / name, name)

    async def run():
        one, other = pair(tmp_path)
        async with started(other, one):
            await until(lambda: one.up and other.up)
            put(tmp_path / "primary" / "cert.pem", "nonsense")
            await until(lambda: one.links.watch.problem)
            await asyncio.sleep(0.2)
            assert (one.down, other.down) == ([], [])
            assert "are no certificate and its key" in security.describe(one.links)["tls"]["problem"]

    asyncio.run(run())
    assert caplog.text.count("no new links: ") == 1


# --- from the secret alone to TLS ---


def redial(member, name):
    member.links.close(name)


def test_a_group_changes_over_in_three_rounds_and_every_new_link_succeeds(tmp_path, ca):
    """From members of an old version to TLS only; each step on one member at a time, and all links dialled anew after each."""
    names = ("primary", "witness")

    async def run():
        port, loop = free_port(), asyncio.get_running_loop()
        members = {name: Member(name, port) for name in names}
        for name in reversed(names):
            await members[name].links.start()

        async def linked(expected):
            ups = len(members["primary"].up)
            redial(members["primary"], "witness")
            await until(lambda: len(members["primary"].up) > ups and ("witness", 0) in members["primary"].links.links)
            assert encrypted(members["primary"]) == {"witness": expected}
            del loop_errors[:]

        loop_errors = []
        loop.set_exception_handler(lambda _, context: loop_errors.append(context))
        await until(lambda: members["primary"].up)
        for name in names:  # a new version, with its certificate
            await members[name].links.stop()
            ca.give(tmp_path / name, name, mode="accept")
            members[name] = tls_member(name, port, tmp_path / name)
            await members[name].links.start()
            await until(lambda: ("witness", 0) in members["primary"].links.links)
            await linked(False)
        assert security.describe(members["primary"].links)["link_security"] == "mixed"
        for mode, outcomes in (("dial", (True, True)), ("only", (True, True))):
            for name, expected in zip(names, outcomes):
                put(tmp_path / name / "mode", mode)
                await linked(expected)
        assert security.describe(members["witness"].links)["link_security"] == "tls"
        for member in members.values():
            await member.links.stop()

    asyncio.run(run())


def test_a_link_without_tls_ends_where_only_tls_is_accepted_and_comes_back_with_it(tmp_path, caplog, ca):
    """Its dialler was not told to go over."""
    for name in ("primary", "witness"):
        ca.give(tmp_path / name, name, mode="accept")

    async def run():
        one, other = pair(tmp_path)
        async with started(other, one):
            await until(lambda: one.up and other.up)
            assert encrypted(one) == {"witness": False}
            put(tmp_path / "witness" / "mode", "only")
            await until(lambda: other.down and "it does not speak TLS, and here only TLS is accepted" in caplog.text)
            put(tmp_path / "primary" / "mode", "dial")
            await until(lambda: encrypted(one) == {"witness": True} and encrypted(other) == {"primary": True})

    asyncio.run(run())
    assert "is 'only' now; it comes back with TLS" in caplog.text


def test_link_security_none_is_told_once_and_shown(caplog):
    async def run():
        member = Member("witness", free_port(MEMBERS["witness"]["address"]))
        async with started(member):
            return security.describe(member.links)

    assert asyncio.run(run()) == {"link_security": "none", "encrypted": {}}
    assert caplog.text.count("link_security is none: whoever reaches the replication network") == 1
