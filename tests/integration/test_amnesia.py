# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness forgets that the leader went on without the secondary; then the leader is gone. Time must not go back.

It forgets with an empty state folder, or with one that came back from a backup made before.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time

import pytest
from harness import ADDRESSES, connect, in_netns, sh

SILENCE_S = 4.0  # a link that was cut for so long is made anew, and what waited in it is lost


def cut(member: str) -> None:
    """Nothing of the members passes to and from ``member``."""
    address = ADDRESSES[member]
    for words in (
        "add table ip cut",
        "add chain ip cut in { type filter hook input priority 0 ; }",
        *(
            f"add rule ip cut in ip {end} {address} ip {other_end} != {address} drop"
            for end, other_end in (("saddr", "daddr"), ("daddr", "saddr"))
        ),
    ):
        sh(*in_netns("nft", *words.split()))


def heal() -> None:
    sh(*in_netns("nft", "delete", "table", "ip", "cut"))


def forget(group, member: str) -> None:
    """Its host was installed anew."""
    group.power_off(member)
    shutil.rmtree(group.folder / member / "state")


def put_back(group, member: str, backup) -> None:
    forget(group, member)
    subprocess.run(["cp", "-a", str(backup), str(group.folder / member / "state")], check=True)


@pytest.mark.parametrize("how", ["emptied", "put back"])
def test_a_lost_state_folder_elects_no_stale_replica_and_is_filled_by_who_was_forced(group, tmp_path, how):
    state = group.folder / "witness" / "state"
    subprocess.run(["cp", "-a", str(state), str(tmp_path / "backup")], check=True)
    client = connect()
    assert client.ask("SET", "a", "old") == b"+OK"
    cut("secondary")
    group.wait("primary", service="degraded")
    assert client.ask("SET", "a", "new") == b"+OK"  # the witness has stored that the primary alone has it
    time.sleep(SILENCE_S)
    if how == "emptied":
        forget(group, "witness")
    else:
        put_back(group, "witness", tmp_path / "backup")
    group.power_off("primary")
    group.start("witness")
    heal()
    time.sleep(5.0)  # many elections long
    status = group.status("secondary")
    assert (status["role"], status["in_sync"]) == ("candidate", ["primary", "secondary"]), "it knows no better, so it asks"
    said = group.wait("witness", leader=None, service="down")["sentence"]
    assert "has forgotten what it promised" in said and "primary" in said
    assert not (state / "demo/state.json").exists() or how == "put back"
    # The primary is gone for good: the VM is lost, and only an operator may go on from the old state.
    assert group.ctl("secondary", "failover-force")["view"] >= 1_000_000
    group.wait("witness", leader="secondary", forced=False)
    group.wait("secondary", forced=False, service="degraded")
    assert json.loads((state / "demo/state.json").read_text().splitlines()[0])["view"] >= 1_000_000
    group.start("primary")
    group.wait("secondary", service="protected")


def test_a_replica_that_was_installed_anew_is_filled_and_counts_again(group):
    forget(group, "secondary")
    group.wait("primary", service="degraded")
    group.start("secondary")
    group.wait("primary", service="protected")
    client = connect()
    assert client.ask("SET", "a", "1") == b"+OK"
    group.power_off("primary")
    assert client.ask("GET", "a") == b"1"
    group.wait("secondary", service="degraded", role="leader")
