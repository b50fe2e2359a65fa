# SPDX-License-Identifier: GPL-3.0-or-later
"""Real verbs, in a guest: what pyverbs alone does, and what our library does."""

from __future__ import annotations

import json

from .conftest import ENV

RESET, RTS, ERR = 0, 3, 6
REM_ACCESS, FLUSHED = 10, 5


def test_a_queue_pairs_life(inside):
    seen = json.loads(inside("primary", "lifecycle.py"))
    assert seen["states"] == [RESET, RTS, ERR, RESET]
    assert seen["write"] == 0 and seen["landed"] == "as the leader wrote it"
    assert seen["bad_rkey"] == REM_ACCESS and seen["after_error"] == FLUSHED


def test_pages_go_through_a_pipe_and_fit_their_digest(guests):
    """Between two guests, six times what a ring holds, both ways at once."""
    words = ("python3", "/plover/tests/rdma/inside/pipe.py")
    left, right = guests["primary"], guests["secondary"]
    pid = right.spawn(*words, "right", right.ip, left.ip, log="/shared/pipe.txt", **ENV)
    sent = json.loads(left.run(*words, "left", left.ip, right.ip, timeout_s=90, **ENV)["out"])
    right.ask({"wait": pid, "timeout": 30}, 40)
    got = json.loads((right.shared / "pipe.txt").read_text().splitlines()[-1])
    assert got == {"whole": True, "bytes": 4096 * 1500 + 32, "broken": []}
    assert sent == {"whole": True, "bytes": 32 * 1500, "broken": []}


def test_a_ring_and_what_must_not_land_in_it(inside):
    seen = json.loads(inside("primary", "rings.py"))
    assert seen["in_order"] and seen["rounds"] >= 3
    assert seen["read"] == "counters"
    assert seen["late_write"] == "transport retry counter exceeded" and not seen["landed_late"], seen
    assert seen["states"] == [ERR, RESET]
    assert seen["bad_rkey"] == "remote access error" and not seen["landed_wrong"]
    assert "is our address" in seen["why"]


def test_the_check_says_what_it_would_take_and_that_it_works(guests):
    words = ("python3", "-m", "plover.ctl", "rdma", "check", "-o", "json")
    good = json.loads(guests["primary"].run(*words, "--address", guests["primary"].ip, **ENV)["out"])
    assert good["ok"] and good["chosen"]["device"] == "rxe0" and good["loopback_us"]["rounds"] == 200, good
    bad = guests["primary"].run(*words, "--address", "10.9.9.9", check=False, **ENV)
    assert bad["rc"] == 1 and "rdma_gid_index: no GID of rxe0 port 1 stands for this member's 10.9.9.9" in bad["out"]


def test_without_a_device_rdma_is_refused_with_the_remedy(guests):
    guest = guests["witness"]
    guest.run("rdma", "link", "delete", "rxe0")
    try:
        words = ("python3", "-m", "plover.ctl", "rdma", "check", "--address", guest.ip)
        out = guest.run(*words, check=False, **ENV)
        assert out["rc"] == 1 and "no RDMA device; role 'ofed' makes one" in out["out"] and "transport: tcp" in out["out"]
    finally:
        guest.run("rdma", "link", "add", "rxe0", "type", "rxe", "netdev", "eth0")
