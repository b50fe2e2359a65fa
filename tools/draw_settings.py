# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the table of settings (config/settings.py) into docs/settings.md: `python3 tools/draw_settings.py`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "plugins" / "module_utils"))

from _ansible.layout import known  # noqa: E402
from plover.config import budget  # noqa: E402
from plover.config.settings import REQUIRED, SETTINGS, Setting  # noqa: E402

DOCUMENT = ROOT / "docs" / "settings.md"
BEGIN, END = "<!-- settings: drawn by tools/draw_settings.py -->\n", "<!-- end of settings -->\n"
TYPES = {str: "text", int: "whole number", bool: "true or false", list: "list", dict: "mapping"}
UNITS = {
    "mib_per_s": "MiB/s",
    "bytes_max": "bytes",
    "ms": "ms",
    "ms_target": "ms",
    "ms_max": "ms",
    "s": "s",
    "mib": "MiB",
    "kib": "KiB",
}
SECTIONS = {  # title: the settings' first words; the first section that has one takes it
    "The group": ("name", "cluster_id", "member", "members", "preferred_leader", "port"),
    "The guest": ("guest", "further_nics", "on_poweroff", "on_crash"),
    "Disks": ("disks", "disk"),
    "Output and syncvms": ("output", "latency", "syncvm", "scrub", "guard", "log_bytes"),
    "Failover and time-outs": ("failover", "detection", "heartbeat", "election", "peer", "join"),
    "Fencing": ("fence",),
    "Links": ("transport", "link", "tls", "secret", "rdma"),
    "Hooks": ("on_event",),
    "The host": ("network", "qemu", "run", "state", "log", "shm"),
}
# What the roles write if the inventory says nothing, where that is not the runtime's own default.
PLAY_DEFAULTS = {
    "link_security": "`tls`, written by the play; without it `none`",
    "guest_cpu": "`qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt`, written by the play for a new VM; without it `qemu64`",
    "disk_overlay_dir": "`/run/plover-disks`, written by the play; without it empty",
}
DERIVED = budget.derive({key: row.default for key, row in SETTINGS.items()})


def section(key: str) -> str:
    """The first section with a word that ``key`` begins with. A ValueError if there is none."""
    for title, words in SECTIONS.items():
        if any(key == word or key.startswith(f"{word}_") for word in words):
            return title
    raise ValueError(f"{key}: no section of docs/settings.md takes it; add its first word to SECTIONS in tools/draw_settings.py")


def unit(key: str) -> str:
    """The unit that ends a name, the longest first: ``disk_copy_mib_per_s`` is in MiB/s."""
    return next((UNITS[end] for end in sorted(UNITS, key=len, reverse=True) if key.endswith(f"_{end}")), "")


def type_of(key: str, row: Setting) -> str:
    return TYPES[row.kind] + (f", {unit(key)}" if row.kind is int and unit(key) else "")


def default_of(key: str, row: Setting) -> str:
    if key in PLAY_DEFAULTS:
        return PLAY_DEFAULTS[key]
    if row.default is REQUIRED:
        return "required"
    if row.default is None:
        return f"{budget.DERIVED[key]}: {DERIVED[key]}"
    if row.default in ("", []):
        return "empty"
    return f"`{str(row.default).lower() if row.kind is bool else row.default}`"


def allowed(row: Setting) -> str:
    if row.choices:
        return ", ".join(f"`{choice}`" for choice in row.choices)
    if row.kind is int:
        return f"{row.low} to {row.high}"
    return f"`{row.pattern.pattern.removesuffix(chr(92) + 'Z')}`" if row.pattern else ""


def where(key: str) -> str:
    """Where an inventory gives it."""
    if key in known.SETTING_FROM:
        return f"made from {known.SETTING_FROM[key]}"
    names = {setting: name for name, setting in known.SETTING_OF.items()}
    return f"`{names[key]}`" if key in names else f"`settings.{key}`"


def table(title: str) -> str:
    rows = [
        [f"`{key}`", where(key), type_of(key, row), default_of(key, row), allowed(row), row.help]
        for key, row in SETTINGS.items()
        if section(key) == title
    ]
    head = ["Setting", "In `plover_vms`", "Type, unit", "Default", "Allowed", "What for"]
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


def drawing() -> str:
    return BEGIN + "\n" + "\n".join(f"## {title}\n\n{table(title)}\n" for title in SECTIONS) + "\n" + END


def updated(text: str) -> str:
    """The document with its tables updated from the settings."""
    before, rest = text.split(BEGIN)
    return before + drawing() + rest.split(END)[1]


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
