# SPDX-License-Identifier: GPL-3.0-or-later
"""The form that QEMU's answers must have, as far as Plover reads them. Pure.

A QEMU of another version, or one that its guest has taken over, may answer in another form. Each answer is checked here once, so
nobody who reads it meets a missing key or another type.
"""

from __future__ import annotations

from typing import Any

from ..errors import QemuError

SHOWN = 100  # characters of an answer in an error's text

# Command -> the form of its answer: a type; [form]: a list of such; {key: form}: an object with at least these keys. A key that ends
# with "?" may be missing.
FORMS: dict[str, Any] = {
    "human-monitor-command": str,
    "query-block-exports": list,
    "query-block-jobs": [{"device": str, "status": str, "offset": int, "len": int}],
    "query-blockstats": [{"stats": {"wr_bytes": int, "wr_operations": int}}],
    "query-colo-status": {"mode": str},
    "query-jobs": [{"id": str, "status": str, "current-progress": int, "error?": str}],
    "query-migrate": {"status?": str},
    "query-named-block-nodes": [
        {"node-name": str, "image": {"virtual-size": int}, "dirty-bitmaps?": [{"name?": str, "count": int}]},
    ],
    "query-status": {"running": bool, "status": str},
    "query-version": {"qemu": {}},
    "query-xen-replication-status": {"error": bool, "desc?": str},
    "qom-get": str,  # the one property that is asked for
    "query-yank": [{"type": str}],
    "x-debug-query-block-graph": {
        "nodes": [{"id": int, "name": str}],
        "edges": [{"parent": int, "child": int, "name": str}],
    },
}


def check(command: str, answer: Any) -> None:
    """Raises QemuError unless ``answer`` has the form that the table gives for ``command``."""
    form = FORMS.get(command)
    if form is not None and not _fits(form, answer):
        raise QemuError(f"QMP {command}: QEMU's answer is not understood: {ascii(answer)[:SHOWN]}")


def _fits(form: Any, answer: Any) -> bool:
    if isinstance(form, list):
        return isinstance(answer, list) and all(_fits(form[0], each) for each in answer)
    if isinstance(form, dict):
        return isinstance(answer, dict) and all(_has(answer, key, part) for key, part in form.items())
    return isinstance(answer, form) and (form is bool or not isinstance(answer, bool))


def _has(answer: dict[str, Any], key: str, form: Any) -> bool:
    name = key.removesuffix("?")
    return _fits(form, answer[name]) if name in answer else name != key
