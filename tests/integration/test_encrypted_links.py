# SPDX-License-Identifier: GPL-3.0-or-later
"""Links by TLS under a running VM: certificates are changed, one is revoked, and a group without TLS changes over to it."""

from __future__ import annotations

import time

from harness import ADDRESSES, connect, in_netns, sh
from test_main_job import lost, write

from lab.pki import put

PORT = 7420
LOOKS_S = 5.0  # the daemons look at their links every 2 s


def all_encrypted(group) -> bool:
    return all(group.status(m).get("link_security") == "tls" and len(group.status(m)["encrypted"]) == 2 for m in ADDRESSES)


def wait_encrypted(group, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not all_encrypted(group):
        assert time.monotonic() < end, group.story()
        time.sleep(0.1)


def serial_of(group, member: str) -> str:
    """Of the certificate by which ``member``'s links to the primary live."""
    return group.status("primary")["tls"]["certificates"][member]["serial"]


def serve(group, client, acked: dict[str, str], name: str) -> None:
    """For a while, protected all the time."""
    end = time.monotonic() + LOOKS_S
    while time.monotonic() < end:
        write(client, acked, f"{name}{len(acked)}", "x")
        assert group.status("primary")["service"] == "protected", group.story()


def connections() -> set[tuple[str, str]]:
    """Of the daemons with each other: both ends of each, as the kernel writes them."""
    rows = [row.split() for row in sh(*in_netns("cat", "/proc/net/tcp")).splitlines()]
    return {(here, there) for _, here, there, state, *_ in rows if state == "01" and here.endswith(f":{PORT:04X}")}


def test_links_without_a_word_stay_up_and_those_that_were_cut_come_back(group):
    """All is well, so the secondary and the witness have nothing to tell each other."""
    client, acked = connect(), {}
    wait_encrypted(group)
    before = connections()
    serve(group, client, acked, "quiet")
    assert before and connections() == before
    sh(*in_netns("ip", "link", "set", "lo", "down"))
    time.sleep(3)
    sh(*in_netns("ip", "link", "set", "lo", "up"))
    group.settled()
    assert "witness did not answer for 2 s" in group.log("secondary")
    client = connect()
    write(client, acked, "after the cut", "x")
    assert lost(client, acked) == []


def test_new_certificates_cost_no_link_and_a_revoked_one_costs_its_own(group):
    client, acked = connect(), {}
    wait_encrypted(group)
    old = {m: serial_of(group, m) for m in ADDRESSES}
    for member in ADDRESSES:
        group.authority.give(group.tls_folder(member), member)
    serve(group, client, acked, "renewed")
    assert all(serial_of(group, m) != serial for m, serial in old.items())
    for member in ADDRESSES:
        put(group.tls_folder(member) / "revoked", "".join(f"{serial}\n" for serial in old.values()))
    serve(group, client, acked, "old ones revoked")
    assert not any("closed: its" in group.log(m) or "lost before its end" in group.log(m) for m in ADDRESSES), group.story()
    serial = serial_of(group, "secondary")
    for member in ("primary", "witness"):
        put(group.tls_folder(member) / "revoked", f"{serial}\n")
    for member in ("primary", "witness"):
        group.wait_for_log(member, f"link to secondary closed: its certificate ({serial}) is in")
    write(client, acked, "revoked", "x")
    group.authority.give(group.tls_folder("secondary"), "secondary")
    group.wait("primary", service="protected", linked=["secondary", "witness"])
    assert serial_of(group, "secondary") != serial and lost(client, acked) == []


def test_a_group_changes_over_to_tls_while_its_vm_serves(new_group):
    group = new_group()
    group.common["link_security"] = "none"
    for member in ADDRESSES:
        group.write_settings(member)
    group.start()
    group.wait("primary", service="protected")
    client, acked = connect(), {}
    for member in ADDRESSES:
        put(group.tls_folder(member) / "mode", "accept")
    for member in ("witness", "secondary"):
        write(client, acked, f"before {member}", "x")
        group.power_off(member)
        group.write_settings(member, link_security="tls")
        group.start(member)
        group.wait("primary", service="protected", linked=["secondary", "witness"])
    assert group.ctl("primary", "switchover")["ok"]
    group.wait("secondary", role="leader", service="protected")
    group.power_off("primary")
    group.write_settings("primary", link_security="tls")
    group.start("primary")
    group.wait("secondary", service="protected", linked=["primary", "witness"])
    for mode in ("dial", "only"):
        for member in ADDRESSES:
            put(group.tls_folder(member) / "mode", mode)
        write(client, acked, mode, "x")
    wait_encrypted(group)
    group.wait("secondary", service="protected")
    assert lost(client, acked) == []
