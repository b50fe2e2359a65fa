# SPDX-License-Identifier: GPL-3.0-or-later
"""Strangers at the port: they cost little, and never a member its place."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import AsyncExitStack

import pytest
from plover.links.door import MEMBER_WAITING_MAX, STRANGERS_PER_S, STRANGERS_WAITING_MAX, Door
from plover.links.link import GREETING_READ_BYTES_MAX
from plover.protocol import wire
from settings import MEMBERS
from test_peers import closed, hello, listening, sent, until

STRANGER, PRIMARY = "127.77.7.7", MEMBERS["primary"]["address"]


@pytest.fixture
def door():
    return Door(frozenset({"10.0.0.1", "10.0.0.2"}), 0.0)


def test_strangers_never_take_a_members_place(door):
    assert [door.enter(0.0, f"10.9.9.{n}") for n in range(30)].count(True) == STRANGERS_WAITING_MAX
    assert [door.enter(0.0, "10.0.0.1") for _ in range(30)].count(True) == MEMBER_WAITING_MAX
    assert door.enter(0.0, "10.0.0.2")
    assert door.turned_away == 30 - STRANGERS_WAITING_MAX + 30 - MEMBER_WAITING_MAX


def test_addresses_that_are_turned_away_leave_nothing_behind(door):
    for n in range(10_000):
        door.enter(0.0, f"10.{n >> 8}.{n & 255}.9")
    assert door.turned_away == 10_000 - STRANGERS_WAITING_MAX and len(door._waiting) == STRANGERS_WAITING_MAX


def test_a_place_is_free_again_once_its_connection_has_gone(door):
    for _ in range(MEMBER_WAITING_MAX):
        assert door.enter(0.0, "10.0.0.1")
    door.leave("10.0.0.1")
    assert door.enter(0.0, "10.0.0.1") and not door.enter(0.0, "10.0.0.1")


def test_strangers_that_leave_at_once_come_no_faster_than_the_limit(door):
    seconds, let_in = 10, 0
    for n in range(100 * seconds):
        if door.enter(n / 100, "10.9.9.9"):
            let_in += 1
            door.leave("10.9.9.9")
    assert STRANGERS_PER_S * seconds <= let_in <= STRANGERS_PER_S * (seconds + 1)


@pytest.mark.parametrize("seed", range(20))
def test_the_books_are_right_whoever_comes_and_goes(seed):
    door, rng, inside = Door(frozenset({"10.0.0.1"}), 0.0), random.Random(seed), []
    for n in range(300):
        address = rng.choice(("10.0.0.1", "10.9.9.1", "10.9.9.2"))
        if inside and rng.random() < 0.4:
            door.leave(inside.pop(rng.randrange(len(inside))))
        elif door.enter(n / 10, address):
            inside.append(address)
    assert inside.count("10.0.0.1") <= MEMBER_WAITING_MAX and len(inside) - inside.count("10.0.0.1") <= STRANGERS_WAITING_MAX
    for address in inside:
        door.leave(address)
    assert all(door.enter(1e6, "10.9.9.9") for _ in range(STRANGERS_WAITING_MAX))


def test_a_member_is_let_in_while_strangers_hold_all_places(caplog):
    async def run():
        async with AsyncExitStack() as stack:
            member = await stack.enter_async_context(listening())
            address = MEMBERS["witness"]["address"], member.links.config.port

            async def dial(source):
                return await asyncio.open_connection(*address, local_addr=(source, 0))

            strangers = [await dial(STRANGER) for _ in range(60)]
            await until(lambda: member.links.door.turned_away == 60 - STRANGERS_WAITING_MAX)
            reader, writer = await dial(PRIMARY)
            writer.write(sent(hello()) + sent(wire.TransferLeadership(5)))
            await until(lambda: member.heard)
            assert [key[0] for key in member.up] == ["primary"]
            assert sum(link is not None for link in member.links.links.values()) == 1
            writer.close()
            for _reader, theirs in strangers:
                theirs.close()

    asyncio.run(run())
    assert caplog.text.count("too many connections") == 1, "one line, whatever comes"


def test_a_connection_costs_little_before_it_is_let_in():
    async def run():
        async with listening() as member:
            seen = []
            enter = member.links.enter
            member.links.enter = lambda address: seen.append(address) or enter(address)
            reader, writer = await asyncio.open_connection(
                MEMBERS["witness"]["address"], member.links.config.port, local_addr=(STRANGER, 0)
            )
            writer.write(b"GET / HTTP/1.1\r\n\r\n" * 100)
            assert await closed(reader) == b"" and seen == [STRANGER]
            writer.close()

    asyncio.run(run())
    assert GREETING_READ_BYTES_MAX <= 4096


def test_what_a_member_says_that_makes_no_sense_is_counted_with_the_reason():
    async def run():
        async with listening() as member:
            reader, writer = await asyncio.open_connection(MEMBERS["witness"]["address"], member.links.config.port)
            writer.write(sent(hello()) + b"\xff" * 64)
            back = await closed(reader)
            assert json.loads(back[back.index(b"{") :])["member"] == "witness"
            (member_name, (count, why)) = next(iter(member.links.refusals.items()))
            assert (member_name, count) == ("primary", 1) and why
            writer.close()

    asyncio.run(run())
