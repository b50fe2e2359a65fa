# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon's replies as text for the operator."""

from __future__ import annotations

import time

from ..host import history
from .reply import Reply

DROPPED = {
    "output_bytes": "bytes of output",
    "unsent_bytes": "bytes of output when it ceased to lead",
    "output_frames": "frames of output",
    "input_frames": "frames of input that came before it was down",
    "input_bytes": "bytes of input",
}


def status_text(reply: Reply) -> str:
    because = f": {reply['reason']}" if reply["reason"] else ""
    lines = [
        f"{reply['name']}: {reply['service']}",
        f"  {reply['member']} is {reply['role']}: {reply['sentence']}",
        f"  view {reply['view']}, leader {reply['leader'] or 'none'}, in sync: {', '.join(reply['in_sync']) or 'nobody'}, "
        f"log index {reply['log_index']}",
        f"  {reply['service']} for {history.duration(reply['since'])}{because}",
    ]
    lines += _guest_lines(reply.get("guest") or {})
    if set(reply.get("fencing", {}).values()) - {"always", "off"}:
        lines.append("  fencing: " + "; ".join(f"{level}: {text}" for level, text in reply["fencing"].items()))
    dropped = [f"{count} {DROPPED[what]}" for what, count in reply.get("dropped", {}).items() if count and what in DROPPED]
    if dropped:
        lines.append(f"  dropped, as on a full wire: {', '.join(dropped)}")
    lines += [
        f"  {member} spoke of a view that nobody else knows, and was not believed ({said['count']} times, the last was view {said['view']})"
        for member, said in reply.get("doubted", {}).items()
    ]
    lines += _output_lines(reply)
    lines += _filter_lines(reply.get("filter") or {})
    lines += _hooks_lines(reply.get("hooks") or {})
    lines += [f"  {disk['path']} must not be booted: it is {disk['mark']}" for disk in reply.get("disks", []) if disk["torn"]]
    if reply.get("rdma"):
        lines.append(_rdma_line(reply["rdma"]))
    if reply.get("apparmor"):
        lines.append(f"  QEMU is confined by AppArmor: {reply['apparmor']}")
    if reply.get("dirty_tracking_problem"):
        lines.append(f"  dirty tracking: {reply['dirty_tracking']}, as {reply['dirty_tracking_problem']}")
    lines += [f"  {line}" for line in _security_lines(reply)]
    last = reply.get("last_syncvm")
    if last:
        lines.append(
            f"  {reply['syncvms']} syncvms; the last: pause {last['pause_ms']} ms, {last['dirty_pages']} dirty pages, "
            f"{last['divergent_pages']} divergent ({last['same_page_percent']} % same), {last['bytes']} bytes"
        )
    lines += _scrub_lines(reply.get("scrub") or {})
    if reply.get("clock_lag_ms"):
        lines.append(
            f"  the guest's clock, if nothing corrects it: {reply['clock_lag_percent']:.2g} % slow over the last minute, "
            f"{reply['clock_lag_ms']:.0f} ms behind in all"
        )
    return "\n".join(lines)


def _guest_lines(found: Reply) -> list[str]:
    """Of a leader whose guest has panicked."""
    if found.get("panicked_s") is None:
        return []
    since = history.stamp(time.time() - found["panicked_s"])
    return [f"  the guest has panicked since {since} ({history.duration(found['panicked_s'])} ago); {found['follows']}"]


def _scrub_lines(found: Reply) -> list[str]:
    if not found.get("pages") and not found.get("untracked_pages"):
        return []
    took = f", the last took {found['round_s']:.0f} s" if found["round_s"] is not None else ""
    return [
        f"  scrub: {found['rounds']} rounds over all memory{took}; {found['untracked_pages']} pages had differed without a reported write"
    ]


def _output_lines(reply: Reply) -> list[str]:
    """Of a leader whose output may leave by agreement."""
    found = reply.get("output")
    if not found or reply.get("output_release") != "agreed":
        return []
    differ = ", ".join(f"{what} {count}" for what, count in found["differences"].items()) or "none"
    return [
        f"  output: {found['agreed_frames']} frames left as both VMs had sent them, {found['waited_frames']} waited for a syncvm; "
        f"differences: {differ}"
    ]


def _filter_lines(found: Reply) -> list[str]:
    """Only what an operator should know: it is off, in trouble, or has dropped something."""
    out = ["  the VM's frames are not filtered: guest_spoof_check is off"] if found.get("check") == "off" else []
    if found.get("dropped"):
        dropped = ", ".join(f"{reason} {count}" for reason, count in found["dropped"].items())
        out.append(f"  frames dropped that the VM may not send (guest_spoof_check: {found['check']}): {dropped}")
    return out + ([f"  the filter of the VM's frames: {found['error']}"] if found.get("error") else [])


def _hooks_lines(found: Reply) -> list[str]:
    """Only if an event was not told."""
    if not found.get("failed") and not found.get("dropped"):
        return []
    last = f"; the last time: {found['last_error']}" if found["last_error"] else ""
    return [f"  hooks: {found['told']} events told, {found['failed']} given up, {found['dropped']} dropped{last}"]


def _security_lines(reply: Reply) -> list[str]:
    """Nothing if all links are encrypted, and will be for a while. An older daemon says nothing of it."""
    security, said = reply.get("link_security", "tls"), reply.get("tls", {})
    out = []
    if security == "none":
        out.append("links are not encrypted: link_security is none")
    elif security == "mixed":
        plain = sorted(member for member, encrypted in reply["encrypted"].items() if not encrypted)
        out.append(f"links to {', '.join(plain)} are not encrypted yet: tls_folder's mode is {said.get('mode') or 'unknown'}")
    if said.get("problem"):
        out.append(f"no new links: {said['problem']}")
    return out + list(said.get("warnings", []))


def _rdma_line(rdma: Reply) -> str:
    whom = [f"{what} {', '.join(rdma[key])}" for what, key in (("writes to", "writes_to"), ("written by", "written_by")) if rdma[key]]
    return f"  RDMA: {rdma['device']} port {rdma['port']}, " + ("; ".join(whom) or "no ring yet: messages by TCP")


def news_text(reply: Reply) -> str:
    """One line of ``status --watch``."""
    return f"{time.strftime('%H:%M:%S')} {reply['name']}: {reply['service']}; {reply['member']} is {reply['role']}: {reply['sentence']}"


def audit_text(reply: Reply) -> str:
    lines = [
        f"{reply['pages']} pages compared on both hosts after syncvm {reply['number']}: "
        f"{reply['mismatching']} differ; {reply['untracked']} had differed without a reported write"
    ]
    if "disk_blocks" in reply:
        lines.append(
            f"{reply['disk_blocks']} disk blocks compared: {reply['disk_blocks_mismatching']} differ; clients waited "
            f"{reply['pause_ms']:.0f} ms"
        )
    return "\n".join(lines)


def price_text(deed: str, reply: Reply) -> str:
    return "\n".join([f"The price of {deed}:", *(f" - {text}" for text in reply["price"]), "Add --yes to pay it."])
