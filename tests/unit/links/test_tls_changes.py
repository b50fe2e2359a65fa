# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes while links are up: certificates and CAs are rotated, revoked, expire; a group changes over to TLS."""

from __future__ import annotations

import asyncio

import pytest
from plover.links import security, tls
from plover.links.link import Link
from plover.protocol import wire
from settings import MEMBERS
from test_peers import CLUSTER, Member, free_port, until
from test_tls import encrypted, pair, started, tls_member

from lab.pki import DAY, Authority, put

pytestmark = pytest.mark.usefixtures("quick")


async def flowing(one, other, name):
    """Messages in both directions until cancelled."""
    n = 0
    while True:
        n += 1
        one.links.send(name, wire.CONTROL, wire.TransferLeadership(n))
        other.links.send("primary", wire.CONTROL, wire.TransferLeadership(n))
        await asyncio.sleep(0.002)


def test_certificates_and_the_ca_are_rotated_while_messages_flow_and_no_link_is_lost(tmp_path, ca):
    new = Authority(CLUSTER)
    both = ca.pem + new.pem
    names = ("primary", "secondary")
    for name in names:
        ca.give(tmp_path / name, name)

    async def run():
        one, other = pair(tmp_path, second="secondary")
        async with started(other, one):
            await until(lambda: len(one.up) == len(other.up) == 2)
            flow = asyncio.create_task(flowing(one, other, "secondary"))
            for step in (
                lambda name: put(tmp_path / name / "ca.pem", both),
                lambda name: new.give(tmp_path / name, name, ca=both),
                lambda name: put(tmp_path / name / "ca.pem", new.pem),
            ):
                for name in names:
                    step(name)
                    await asyncio.sleep(0.15)  # the watch looks
                    assert (one.down, other.down) == ([], [])
                    third = Link(one.links, ("secondary", wire.CONTROL))  # a new link, as after a loss
                    address = MEMBERS["secondary"]["address"]
                    await asyncio.get_running_loop().create_connection(lambda: third, address, one.links.config.port)  # noqa: B023
                    await third.settled
                    assert third.greeted
                    one.down.clear()
                    other.down.clear()
            flow.cancel()
            views = [m.view for _, channel, m in other.heard if channel == wire.CONTROL]
            assert views == sorted(set(views)) and len(views) > 100
            assert one.links.links["secondary", wire.DATA].greeted

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


def test_a_link_without_tls_ends_when_only_tls_is_accepted_and_comes_back_with_it(tmp_path, caplog, ca):
    for name in ("primary", "witness"):
        ca.give(tmp_path / name, name, mode="accept")

    async def run():
        one, other = pair(tmp_path)
        async with started(other, one):
            await until(lambda: one.up and other.up)
            assert encrypted(one) == {"witness": False}
            for name in ("primary", "witness"):
                put(tmp_path / name / "mode", "dial")
            await asyncio.sleep(0.15)
            put(tmp_path / "witness" / "mode", "only")
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
