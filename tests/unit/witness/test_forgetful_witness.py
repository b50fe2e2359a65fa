# SPDX-License-Identifier: GPL-3.0-or-later
"""A real witness daemon with an empty state folder. The two replicas are played here, over the daemons' own links."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager

from plover.config.settings import Config
from plover.links.peers import PeerLinks
from plover.protocol import wire
from ports import free_port
from settings import MEMBERS, settings

from lab.paths import ROOT

STALE = wire.VoteRequest(view=6, pre=False, transfer=False, record_view=1, record_version=1, record_in_sync=3, last_view=0, last_index=0)
QUIET_S = 0.6  # several detection times: a witness that remembers nothing worth it would have voted long ago


class Played:
    """A replica's links; what the witness says to it."""

    def __init__(self, name: str, port: int) -> None:
        self.heard: list[wire.Message] = []
        self.links = PeerLinks(
            Config(settings(name, port=port)),
            lambda member, channel, m: self.heard.append(m),
            lambda *up: None,
            lambda *down: None,
            lambda: None,
        )

    def say(self, message: wire.Message) -> None:
        self.links.send("witness", wire.CONTROL, message)

    def all(self, kind: type) -> list:
        return [m for m in self.heard if isinstance(m, kind)]


async def until(condition) -> None:
    """The daemon is a process that has to start first."""
    end = asyncio.get_running_loop().time() + 20
    while not condition():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.01)


@asynccontextmanager
async def group(tmp_path, mark: bool):
    """(primary, secondary), linked to the witness."""
    port = free_port(MEMBERS["witness"]["address"])
    own = settings("witness", port=port, run_dir=str(tmp_path / "run"), state_dir=str(tmp_path / "state"))
    (tmp_path / "witness.json").write_text(json.dumps(own))
    (tmp_path / "state" / "demo").mkdir(parents=True)
    if mark:
        (tmp_path / "state" / "demo" / "first-boot").touch()
    daemon = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "plover.witness",
        str(tmp_path / "witness.json"),
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins" / "module_utils")},
    )
    primary, secondary = Played("primary", port), Played("secondary", port)
    try:
        for one in (primary, secondary):
            await one.links.start()
        await until(lambda: all(("witness", 0) in one.links.links for one in (primary, secondary)))
        yield primary, secondary
    finally:
        daemon.kill()
        await daemon.wait()
        for one in (primary, secondary):
            await one.links.stop()


def test_an_empty_state_folder_gives_no_vote_until_both_others_and_the_leader_have_spoken(tmp_path):
    async def run():
        async with group(tmp_path, mark=False) as (primary, secondary):
            for _ in range(10):
                secondary.say(STALE)
                await asyncio.sleep(QUIET_S / 10)
            assert [m for m in secondary.all(wire.VoteReply) if m.granted] == []
            await until(lambda: primary.all(wire.VoteRequest))
            asked = primary.all(wire.VoteRequest)[0]
            assert (asked.view, asked.pre) == (0, True)
            assert not (tmp_path / "state/demo/state.json").exists()
            for one in (primary, secondary):
                one.say(wire.VoteReply(7, True, False, False, 0, 0))
            # As a leader does, again and again.
            await until(lambda: primary.say(wire.Heartbeat(7, 1, 0, 7, 2, 1)) or primary.all(wire.HeartbeatAck))
            assert primary.all(wire.HeartbeatAck)[0] == wire.HeartbeatAck(7, 1, 0, 7, 2)
            assert '"view": 7' in (tmp_path / "state/demo/state.json").read_text()
            secondary.say(STALE)
            await until(lambda: secondary.all(wire.VoteReply))
            assert [(m.granted, m.view) for m in secondary.all(wire.VoteReply)] == [(False, 7)]

    asyncio.run(run())


def test_a_new_one_that_the_play_marked_votes_at_once_and_is_new_only_once(tmp_path):
    async def run():
        async with group(tmp_path, mark=True) as (primary, secondary):
            assert not (tmp_path / "state/demo/first-boot").exists()
            await asyncio.sleep(0.3)  # it has just started: for so long it may have heard a leader
            secondary.say(wire.VoteRequest(1, False, False, 0, 0, 0, 0, 0))
            await until(lambda: secondary.all(wire.VoteReply))
            assert [(m.granted, m.view) for m in secondary.all(wire.VoteReply)] == [(True, 1)]
            assert primary.all(wire.VoteRequest) == []

    asyncio.run(run())
