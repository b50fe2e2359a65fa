# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics of this host's VMs, for Prometheus. docs/monitoring.md lists them.

Labels have few values: the VM, a member's name, and words of a fixed list. What a daemon does not tell is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ..core import event_log
from ..core.status import DEGRADED, DOWN, OFF, PROTECTED
from . import seen as look
from .client_library import COUNTER, GAUGE, Family, Kind, histogram, info, render
from .seen import ROLES, Seen

CAUSES = (
    event_log.FIRST_BOOT, event_log.COLD_START, event_log.FAILOVER, event_log.SWITCHOVER,
    event_log.FORCED, event_log.RE_ELECTED, event_log.HANDED_OVER, event_log.FOUND,
)  # fmt: skip
Values = Iterable[tuple[tuple[str, ...], "float | None"]]  # labels after the VM, value


class Row(NamedTuple):
    """One metric: ``values`` of one VM. The name of a counter has no ``_total`` here; it gets that."""

    name: str
    help: str
    values: Callable[[Seen], Values]
    kind: Kind = GAUGE
    labels: tuple[str, ...] = ()
    always: bool = False  # for daemons that do not answer, too


def _one(*keys: str, times: float = 1) -> Callable[[Seen], Values]:
    """The number below ``keys`` of the status."""

    def values(seen: Seen) -> Values:
        found = seen.number(*keys)
        return [((), None if found is None else found * times)]

    return values


def _each(*keys: str) -> Callable[[Seen], Values]:
    """Each number of the object below ``keys``, with its name as the label."""
    return lambda seen: [((name,), value) for name, value in look.numbers(look.at(seen.reply, *keys)).items()]


def _word(key: str, words: tuple[str, ...]) -> Callable[[Seen], Values]:
    """1 for the word that is the value of ``key``, 0 for the others."""
    return lambda seen: [((word,), float(seen.reply.get(key) == word)) for word in words]


def _members(key: str) -> Callable[[Seen], Values]:
    """1 for each member that is in the list ``key``, 0 for the others. The members are those of the group, as far as they are told."""

    def values(seen: Seen) -> Values:
        listed = set(look.texts(seen.reply.get(key)))
        return [((member,), float(member in listed)) for member in look.texts(seen.reply.get("members"))]

    return values


def _linked(seen: Seen) -> Values:
    """Of the other members: nobody has a link to itself."""
    return [(labels, value) for labels, value in _members("linked")(seen) if labels[0] != seen.reply.get("member")]


def _views(seen: Seen) -> Values:
    """All causes, from 0 on: Prometheus does not see an increase of a series that begins with 1."""
    found = look.numbers(look.at(seen.reply, "views"))
    return [((cause,), found.get(cause, 0.0)) for cause in CAUSES] if "views" in seen.reply else []


def _expiry(seen: Seen) -> Values:
    found = look.at(seen.reply, "tls", "certificates")
    shown = list(found.items())[: look.ITEMS_MAX] if isinstance(found, dict) else []
    return [((look.text(member),), look.number(look.at(each, "not_after"))) for member, each in shown]


def _refused(seen: Seen) -> Values:
    found = look.at(seen.reply, "refused")
    shown = list(found.items())[: look.ITEMS_MAX] if isinstance(found, dict) else []
    return [((look.text(member),), look.number(look.at(each, "count"))) for member, each in shown]


def _dropped(unit: str) -> Callable[[Seen], Values]:
    def values(seen: Seen) -> Values:
        found = look.numbers(look.at(seen.reply, "dropped"))
        return [((name.removesuffix(f"_{unit}"),), value) for name, value in found.items() if name.endswith(f"_{unit}")]

    return values


def _encrypted(seen: Seen) -> Values:
    return [((), float(seen.reply["link_security"] == "tls"))] if "link_security" in seen.reply else []


def _fill_active(seen: Seen) -> Values:
    return [((), float(isinstance(seen.reply["fill"], dict)))] if "fill" in seen.reply else []


ROWS = (
    Row("plover_up", "1 if the VM's daemon on this host answers", lambda seen: [((), float(seen.answers))], always=True),
    Row("plover_service_state", "1 for the service's state as this member sees it: protected, degraded, down or off",
        lambda seen: [((state,), float(seen.service == state)) for state in (PROTECTED, DEGRADED, DOWN, OFF)], labels=("state",)),
    Row("plover_service_state_age_seconds", "How long the state has lasted", _one("since")),
    Row("plover_role", "1 for this member's role", _word("role", ROLES), labels=("role",)),
    Row("plover_view", "Number of the view", _one("view")),
    Row("plover_member_in_sync", "1 for each member that holds the VM's state, as far as this one knows", _members("in_sync"),
        labels=("member",)),
    Row("plover_member_linked", "1 for each other member that this one has a link to", _linked, labels=("member",)),
    Row("plover_views", "Views that began, by cause, as this member saw it", _views, COUNTER, ("cause",)),
    Row("plover_syncvms", "Syncvms that this member led", _one("totals", "syncvms"), COUNTER),
    Row("plover_syncvm_age_seconds", "Time since the last syncvm that this member led", _one("counters", "last_syncvm_age_s")),
    Row("plover_syncvm_dirty_pages", "Pages that either VM had written", _one("totals", "dirty_pages"), COUNTER),
    Row("plover_syncvm_divergent_pages", "Pages that differed between the two VMs", _one("totals", "divergent_pages"), COUNTER),
    Row("plover_syncvm_staged_bytes", "Bytes that syncvms staged on the secondary", _one("totals", "bytes"), COUNTER),
    Row("plover_syncvm_sent_bytes", "Bytes that syncvms sent in both directions, by kind", _each("counters", "sent_bytes"), COUNTER,
        ("kind",)),
    Row("plover_vm_stopped_seconds", "Time that the leader's VM was stopped, from the order to the order to go on",
        _one("counters", "stopped_s"), COUNTER),
    Row("plover_guest_clock_lag_seconds", "How far the VM's clock has fallen behind since this member has the VM, unless the guest "
        "corrects it", _one("clock_lag_ms", times=0.001)),
    Row("plover_output_held_bytes", "Output of the VM that waits here", _one("held", "bytes")),
    Row("plover_output_held_age_seconds", "How long the oldest of it has waited", _one("held", "age_s")),
    Row("plover_output_held_limit_bytes", "Setting guard_bytes_max: more is dropped", _one("limits", "guard_bytes_max")),
    Row("plover_latency_target_seconds", "Setting latency_ms_target", _one("limits", "latency_ms_target", times=0.001)),
    Row("plover_failover_budget_seconds", "Setting failover_budget_ms", _one("budget", "failover_ms", times=0.001)),
    Row("plover_dropped_bytes", "Traffic dropped as on a full wire", _dropped("bytes"), COUNTER, ("what",)),
    Row("plover_dropped_frames", "Frames dropped as on a full wire", _dropped("frames"), COUNTER, ("what",)),
    Row("plover_filtered_frames", "Frames dropped that the VM may not send, by reason", _each("filter", "dropped"), COUNTER, ("reason",)),
    Row("plover_log_bytes", "Bytes in the log since the last syncvm", _one("log_bytes")),
    Row("plover_log_limit_bytes", "Setting log_bytes_max: a full log pauses input", _one("limits", "log_bytes_max")),
    Row("plover_fill_active", "1 while this leader fills a secondary", _fill_active),
    Row("plover_fill_phase_ratio", "Progress of the initial sync's present phase, 0 to 1", _one("fill", "percent", times=0.01)),
    Row("plover_fill_sent_pages", "Pages that the initial sync under way has sent", _one("fill", "pages_sent")),
    Row("plover_fill_disk_bytes", "Bytes of the disks that it has copied", _one("fill", "disk_bytes")),
    Row("plover_fill_disk_size_bytes", "Bytes of the disks that it copies in all", _one("fill", "disk_bytes_total")),
    Row("plover_fill_mismatching_pages", "Pages found different at the end of initial syncs: a fault of the dirty tracking",
        _one("fill_pages_mismatching"), COUNTER),
    Row("plover_scrub_pages", "Pages compared beside those reported as written", _one("scrub", "pages"), COUNTER),
    Row("plover_scrub_rounds", "Rounds of the scrub: each compares all memory once", _one("scrub", "rounds"), COUNTER),
    Row("plover_scrub_round_seconds", "How long the last round took", _one("scrub", "round_s")),
    Row("plover_untracked_pages", "Pages that differed between the hosts though no write was reported: a fault of the dirty tracking",
        _one("scrub", "untracked_pages"), COUNTER),
    Row("plover_overlay_used_bytes", "Space that the disks' overlays take on this host", _one("overlays", "bytes")),
    Row("plover_overlay_limit_bytes", "Setting disk_overlay_mib: the space that they have", _one("overlays", "bytes_max")),
    Row("plover_links_encrypted", "1 if all links of this member are encrypted", _encrypted),
    Row("plover_links_refused", "Links of other members that were refused", _refused, COUNTER, ("member",)),
    Row("plover_connections_turned_away", "Connections of strangers that were turned away", _one("turned_away"), COUNTER),
    Row("plover_certificate_expiry_timestamp_seconds", "When the certificate of a member ends", _expiry, labels=("member",)),
)  # fmt: skip
HISTOGRAMS = (
    ("plover_syncvm_pause_seconds", "How long the leader's VM stood still for a syncvm", "pause"),
    ("plover_syncvm_cycle_seconds", "Time from the end of a syncvm to the end of the next", "cycle"),
)


def families(found: list[Seen]) -> Iterator[Family]:
    yield info("plover_member", "What answers on this host", ("vm", "member", "plover", "qemu"), [_versions(seen) for seen in found])
    for row in ROWS:
        family = row.kind(row.name, row.help, labels=("vm", *row.labels))
        for seen in found:
            if seen.answers or row.always:
                for labels, value in dict(row.values(seen)).items():  # a daemon may name one thing twice
                    if value is not None and (value >= 0 or row.kind is not COUNTER):
                        family.add_metric((seen.name, *labels), value)
        yield family
    for name, text, key in HISTOGRAMS:
        yield histogram(name, text, ((seen.name, look.at(seen.reply, "counters", key)) for seen in found))


def _versions(seen: Seen) -> tuple[str, ...]:
    reply: Any = seen.reply
    said = (look.text(look.at(reply, "versions", key), 80) for key in ("plover", "qemu"))
    return (seen.name, look.text(reply.get("member")), *said)


def text(found: list[Seen], accept: str) -> tuple[str, bytes]:
    """(content type, the metrics) in the format that ``accept``, the request's header, asks for."""
    return render(lambda: families(found), accept)
