# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that a daemon reads: settings, durable state, process note, history. What is damaged is refused or skipped, never believed."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator

from plover.config.settings import Config
from plover.config.timing import Timing
from plover.consensus.durable import Durable, Record
from plover.errors import ConfigError, DurableStateError
from plover.host import history
from plover.host.process_note import NOTE_BYTES, HolderNote
from plover.host.settings_file import load
from plover.host.store import Files, Store

from ..target import Target, promise
from . import group

NOW = 1_800_000_000.0


# ---- settings -----------------------------------------------------------------------------------------------------
def settings(data: bytes) -> None:
    path = group.FOLDER / "demo.json"
    path.write_bytes(data)
    config = load(path)
    Timing.of(config)
    for where in [value for value in config.values.values() if isinstance(value, str)]:
        promise(b"\0" not in os.fsencode(where), "a path that no file can have")
    promise(config.witness and len(config.replicas) == 2 and config.kind and config.disk_list is not None, "no group of three")
    promise(Config(json.loads(json.dumps(config.values))).values == config.values, "settings that do not give themselves again")


def _settings() -> Iterator[tuple[str, bytes]]:
    yield "least", json.dumps(group.settings("primary")).encode()
    disk = {"path": "/images/a.img", "format": "qcow2", "cache": "none", "serial": "A1", "bus": "ide"}
    more = {"disks": [disk], "guest_addresses": ["192.0.2.50"], "fence_policy": "required", "fence_command": ["/fence", "{host}"]}
    yield "more", json.dumps(group.settings("secondary", **more, failover_budget_ms=3000, qemu_user="root")).encode()
    nic = {"mac": "52:54:00:70:6c:02", "bridge": "br1", "tap": "t1", "model": "e1000", "addresses": ["192.0.2.51"], "vlans": [7]}
    nics = [nic, {"mac": "52:54:00:70:6c:03", "bridge": "br0", "tap": "t2", "mtu": 9000, "networks": ["2001:db8::/64"], "serves": ["dhcp"]}]
    yield "nics", json.dumps(group.settings("primary", further_nics=nics)).encode()
    yield "witness", json.dumps(group.settings("witness", transport="rdma", rdma_device="rxe0")).encode()


# ---- state.json ---------------------------------------------------------------------------------------------------
class _Kept(Files):
    """The folder of a member with one file: what was written to it."""

    def __init__(self, data: bytes) -> None:
        self.data = {"state.json": data, "member": b"primary\n"}

    def make_folder(self, path: object) -> None: ...

    def read(self, path: object) -> str:
        try:
            return self.data[path.name].decode("utf-8")
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    def write(self, path: object, text: str) -> None:
        self.data[path.name] = text.encode("utf-8")

    def reserve(self, path: object, size: int) -> None: ...

    def sync(self, path: object) -> None: ...

    def replace(self, source: object, target: object) -> None:
        self.data[target.name] = self.data.pop(source.name)

    def exists(self, path: object) -> bool:
        return path.name in self.data

    def remove(self, path: object) -> None:
        self.data.pop(path.name, None)

    def sign(self, path: object) -> bool:
        return True

    def is_signed(self, path: object) -> bool:
        return True


def state(data: bytes) -> None:
    """The second line is the checksum of the first one; without one it is added, so that what it covers is looked at, too."""
    if b"\n" not in data:
        data += b"\n%08x\n" % zlib.crc32(data)
    kept = _Kept(data)
    store = Store(group.FOLDER, kept, "primary")
    found = store.begin()
    promise(found is not None, "a file that is there and counts for nothing")
    promise(Store(group.FOLDER, kept, "primary").load() == found, "a state that does not give itself again")


def _state() -> Iterator[tuple[str, bytes]]:
    for name, durable in (("new", Durable()), ("led", Durable(7, "primary", Record(7, 3, frozenset({"primary", "secondary"}))))):
        kept = _Kept(b"")
        Store(group.FOLDER, kept).save(durable)
        yield name, kept.data["state.json"]
        yield f"{name}-body", kept.data["state.json"].split(b"\n")[0]


def owner(data: bytes) -> None:
    """The folder's owner, and an empty folder."""
    kept = _Kept(b"")
    del kept.data["state.json"]
    kept.data["member"] = data
    promise(Store(group.FOLDER, kept, "primary").begin() is None, "a state from nothing")


def _owner() -> Iterator[tuple[str, bytes]]:
    yield "ours", b"primary\n"
    yield "theirs", b"secondary\n"


# ---- holder.json --------------------------------------------------------------------------------------------------
_folder = group.FOLDER / "note"
_folder.mkdir(exist_ok=True)


def holder(data: bytes) -> None:
    """A note of any content names no process but ours, and only in the form that we write."""
    path = _folder / "holder.json"
    path.write_bytes(data)
    if HolderNote(_folder).alive(os.getpid()):
        promise(json.loads(data)["pid"] == os.getpid(), "another process taken for the noted one")
    HolderNote(_folder).write(os.getpid())
    promise(HolderNote(_folder).alive(os.getpid()), "a note that cannot be written any more")


def _holder() -> Iterator[tuple[str, bytes]]:
    HolderNote(_folder).write(os.getpid())
    yield "some", json.dumps({"pid": 1, "start": "12345"}).ljust(NOTE_BYTES - 1).encode() + b"\n"
    yield "none", json.dumps({"pid": 0, "start": ""}).encode()
    yield "zero", b"0"


# ---- history.jsonl ------------------------------------------------------------------------------------------------
def past(data: bytes) -> None:
    (group.FOLDER / "history.jsonl").write_bytes(data)
    entries, damaged = history.read(group.FOLDER)
    promise(len(entries) + damaged == len(list(filter(None, data.split(b"\n")))), "lines that are neither shown nor counted")
    for line in history.table(history.with_durations(entries, NOW)):
        promise(len(line) < 3 * history.LINE_BYTES_MAX, "an endless line")
        promise(line.isprintable(), f"a line that a terminal would obey: {line!r:.200}")


def _past() -> Iterator[tuple[str, bytes]]:
    def line(kind: str, **facts: object) -> bytes:
        return json.dumps({"at": history.stamp(NOW - 60), "kind": kind, "why": "because", **facts}).encode()

    yield (
        "day",
        b"\n".join(
            (
                line("start"),
                line("view", view=1, leader="primary", cause="elected"),
                line("serving", view=1, outage_ms=120.5),
                line("mode", mode="protected", before="degraded", before_s=3.5),
                line("view", view=2, leader="secondary", cause="switchover"),
                line("mode", mode="degraded", before="protected", before_s=61),
            )
        )
        + b"\n",
    )
    yield "one", line("view", view=2, leader="secondary", cause="found leading")
    yield "cut", line("start")[:-5]


DURABLE = (DurableStateError,)
TARGETS = [
    Target("settings", settings, (ConfigError,), _settings, is_json=True, lines=True),
    Target("state", state, DURABLE, _state, is_json=True),
    Target("state_owner", owner, DURABLE, _owner),
    Target("holder", holder, (), _holder, is_json=True),
    Target("history", past, (), _past, is_json=True),
]
