# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of one VM: one flat JSON file, and one table of the allowed values.

All problems are reported at once, each with the setting's name and a remedy.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, one_line
from . import boot, budget, disks, nics, panics, spoof, together, topology
from .disks import Disk
from .nics import Nic

CONFIG_DIR = Path("/etc/plover")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}\Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Setting(NamedTuple):
    """One row of the table. ``low``/``high`` limit integers; ``choices`` or ``pattern`` limit strings.
    A ``default`` of None: derived from the budget, see :mod:`budget`."""

    kind: type[Any]
    default: Any
    help: str
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None

    def in_range(self, value: int) -> bool:
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)


AGREED, SYNCVM = "agreed", "syncvm"  # output_release
REQUIRED = object()

SETTINGS: dict[str, Setting] = {
    "name": Setting(str, REQUIRED, "VM name: lower-case letters, digits and dashes", pattern=_NAME),
    "cluster_id": Setting(str, REQUIRED, "UUID of this VM's group, equal on all three hosts", pattern=_UUID),
    "member": Setting(str, REQUIRED, "this host's name in 'members'"),
    "members": Setting(dict, REQUIRED, "two replicas and one witness: name -> {address, kind}"),
    "preferred_leader": Setting(str, REQUIRED, "the replica that boots the VM the first time"),
    "port": Setting(int, 7420, "TCP port of the replication links", 1024, 65535),
    "transport": Setting(
        str, "tcp", "tcp: the log goes by messages; rdma: the leader writes it into the other members' memory", choices=("tcp", "rdma")
    ),
    "rdma_device": Setting(
        str,
        "",
        "RDMA device, from the list of 'ploverctl rdma check'; empty: the one with this member's address",
        pattern=re.compile(r"[A-Za-z0-9_-]{0,63}\Z"),
    ),
    "rdma_port": Setting(int, 0, "port of the RDMA device; 0: chosen with the device", 0, 255),
    "rdma_gid_index": Setting(int, -1, "index of the GID (in RoCE an address); -1: the GID of this member's address", -1, 255),
    "rdma_mtu": Setting(int, 0, "largest RDMA packet in bytes (256 to 4096); 0: the port's MTU", 0, 4096),
    "rdma_timeout": Setting(int, 14, "the card waits 4.096 us * 2^this for an answer, then sends again", 8, 22),
    "rdma_retry": Setting(int, 6, "number of times that the card sends again before the connection fails", 0, 6),
    "rdma_ring_mib": Setting(int, 8, "size of each ring of memory that another member writes into; equal everywhere", 8, 1024),
    "guest_memory_mib": Setting(int, 256, "guest RAM in MiB", 32, 1 << 20),
    "guest_vcpus": Setting(int, 1, "virtual CPUs", 1, 255),
    "guest_topology": Setting(
        str, "", "sockets x cores x threads of the CPUs, such as 1x4x2; empty: as the machine type has it", pattern=topology.PATTERN
    ),
    "guest_machine": Setting(
        str, "pc", "machine type (QEMU's COLO loop supports 'pc' types only)", pattern=re.compile(r"pc(-i440fx-[0-9.]+)?\Z")
    ),
    "guest_cpu": Setting(str, "qemu64", "CPU model, equal on both replicas", pattern=re.compile(r"[\w.,=+-]{1,1000}\Z")),
    "guest_accel": Setting(str, "tcg", "accelerator", choices=("tcg", "kvm")),
    "guest_mac": Setting(str, REQUIRED, "MAC of the VM's first network card", pattern=nics.MAC),
    "guest_nic": Setting(str, "virtio-net-pci", "network card model", choices=nics.MODELS),
    "guest_mtu": Setting(
        int, 0, "MTU that the card tells the guest (virtio), in bytes; 0: it tells none, and a guest takes 1500", 0, nics.MTU_MAX
    ),
    "further_nics": Setting(
        list, [], "network cards beside the first, each {mac, bridge, tap, model, mtu, addresses, spoof_check, networks, vlans, serves}"
    ),
    "guest_console_kib": Setting(int, 1024, "limit of the serial console's log in KiB, and of the older part kept beside it", 16, 1 << 20),
    "guest_kernel": Setting(str, "", "path of the guest's kernel on the replicas; empty: the VM boots from its disk or CD by SeaBIOS"),
    "guest_initrd": Setting(str, "", "path of the guest's initramfs, or empty"),
    "guest_cmdline": Setting(str, "", "kernel command line, for guest_kernel"),
    "guest_boot": Setting(
        str, boot.DISK, "what SeaBIOS tries first: disk (the first disk, then the CD) or cdrom (the other way round)", choices=boot.ORDERS
    ),
    "guest_cdrom": Setting(str, "", "path of an ISO image on the replicas, which the VM has as a CD; or empty", pattern=boot.PATH),
    "guest_seed": Setting(str, "", "path of the cloud-init seed on the replicas, a small read-only disk; or empty", pattern=boot.PATH),
    "guest_rng": Setting(bool, False, "true: the guest has a virtio-rng, a source of random numbers from its host"),
    "on_poweroff": Setting(
        str, panics.OFF, "a guest that powers itself off: off (so is the VM) or restart (it boots again)", choices=panics.ON_POWEROFF
    ),
    "on_crash": Setting(
        str,
        panics.IGNORE,
        "a guest that panics: ignore (nobody is told), keep (status and events tell it, nothing is done), restart (the VM is reset) or "
        "stop (the VM is off); all but ignore give the guest a pvpanic device",
        choices=panics.ON_CRASH,
    ),
    "guest_addresses": Setting(list, [], "the VM's IPv4 addresses, announced after a failover"),
    "guest_spoof_check": Setting(
        str,
        spoof.AUTO,
        "what the VM's frames are checked for: strict (its MAC and its addresses), mac, or off; auto: strict if its addresses are "
        "known, else mac",
        choices=spoof.CHECKS,
    ),
    "guest_networks": Setting(
        list, [], "further IPv4 and IPv6 addresses or networks that the VM may send from, e.g. 2001:db8::/64; not announced"
    ),
    "guest_vlans": Setting(list, [], "VLANs that the VM may send tagged frames in; by default none"),
    "guest_serves": Setting(list, [], "what the VM may be for its network: dhcp (a server), router (IPv6 router advertisements)"),
    "disks": Setting(list, [], "the VM's disks, each {path, format, cache, serial, bus}; each image has the same length on both replicas"),
    "disk_port": Setting(
        int, 7421, "not used between replicas of this version; beside an earlier version: TCP port of the disks' copy (NBD)", 1024, 65535
    ),
    "disk_overlay_dir": Setting(str, "", "folder of the secondary's overlays, best on a tmpfs of its own; empty: shm_dir"),
    "disk_overlay_mib": Setting(int, 256, "size of that folder; disk writes that fill half of it force a syncvm", 8, 1 << 20),
    "disk_copy_mib_per_s": Setting(int, 0, "limit of the copy to a new secondary; 0 = no limit", 0, 1 << 20),
    "secret_file": Setting(
        str, "", "file with the members' secrets, one per line; the first is used to prove; empty: /etc/plover/NAME.secret"
    ),
    "link_security": Setting(
        str,
        "none",
        "tls: links between members are encrypted, and each member proves who it is by a certificate; none: they are readable by "
        "whoever reaches the replication network",
        choices=("tls", "none"),
    ),
    "tls_folder": Setting(str, "", "folder of this member's key and certificate, for link_security tls; empty: /etc/plover/NAME/tls"),
    "rdma_trusted_network": Setting(
        bool,
        False,
        "true: nobody but the members can reach the RDMA network; transport rdma with link_security tls needs it, as RDMA is not encrypted",
    ),
    "network_bridge": Setting(str, "br0", "bridge of the VM's TAP", pattern=nics.INTERFACE),
    "network_tap": Setting(str, "plover0", "name of the VM's TAP", pattern=nics.INTERFACE),
    "network_ifup": Setting(str, "/etc/qemu-ifup", "script that brings the TAP up"),
    "network_ifdown": Setting(str, "/etc/qemu-ifdown", "script that takes the TAP down"),
    "qemu_binary": Setting(str, "/usr/bin/qemu-system-x86_64", "the distribution's QEMU"),
    "qemu_user": Setting(
        str,
        "",
        "user that QEMU runs as; empty: a user of this VM alone, plover-NAME; root: QEMU keeps all rights, and so does who escapes "
        "from the VM",
        pattern=re.compile(r"([a-z_][a-z0-9_-]{0,31})?\Z"),
    ),
    "qemu_apparmor": Setting(
        str,
        "auto",
        "AppArmor profile of QEMU: auto (if this host has AppArmor), on (QEMU does not start without it) or off",
        choices=("auto", "on", "off"),
    ),
    "qemu_supervisor": Setting(str, "systemd", "who runs QEMU: its own systemd unit, or the daemon (tests)", choices=("systemd", "child")),
    "run_dir": Setting(str, "/run/plover", "parent of the sockets' folder"),
    "state_dir": Setting(str, "/var/lib/plover", "parent of the durable state's folder"),
    "log_dir": Setting(str, "/var/log/plover", "parent of the folder with the serial console's log"),
    "shm_dir": Setting(str, "/dev/shm/plover", "tmpfs folder of the guest RAM file"),
    "failover_budget_ms": Setting(
        int, 1000, "time from the leader's death until the VM serves on the secondary; the time-outs below follow from it", 300, 60_000
    ),
    "detection_ms": Setting(int, None, "silence after which the leader counts as lost", 20, 60_000),
    "heartbeat_ms": Setting(int, None, "interval of the leader's heartbeats", 2, 10_000),
    "election_ms": Setting(int, None, "duration of one attempt at an election; the next begins after it", 20, 90_000),
    "peer_timeout_ms": Setting(int, None, "silence after which the leader drops the secondary", 40, 60_000),
    "fence_watchdog": Setting(
        str,
        "off",
        "the host's watchdog, which resets a hung host while its VM may speak: required, automatic (used where there is one) or off",
        choices=("off", "automatic", "required"),
    ),
    "fence_watchdog_device": Setting(str, "/dev/watchdog0", "the watchdog's device", pattern=re.compile(r"/dev/[\w./-]{1,100}\Z")),
    "fence_watchdog_timeout_s": Setting(int, 15, "the watchdog's time-out, whole seconds", 2, 600),
    "fence_policy": Setting(
        str,
        "off",
        "the external agent after a failover: required (the VM serves only after its success), automatic (tried once; the VM serves "
        "even if it fails) or off",
        choices=("off", "automatic", "required"),
    ),
    "fence_command": Setting(list, [], "the external agent's command line, as a list; {host} and {address} stand for the old leader's"),
    "fence_input_file": Setting(
        str, "", "file that the external agent reads on its standard input, for passwords; empty: /etc/plover/NAME.fence, if it exists"
    ),
    "fence_timeout_ms": Setting(int, None, "longest run of the external agent", 0, 600_000),
    "on_event_command": Setting(
        list, [], "command that is told of each event, as a list of words: JSON on its standard input (docs/operations.md); empty: none"
    ),
    "on_event_url": Setting(str, "", "http:// or https:// URL that each event is sent to, as JSON in a POST request; empty: none"),
    "on_event_timeout_s": Setting(int, 10, "longest run of that command, and longest wait for an answer to that request", 1, 60),
    "syncvm_dirty_tracking": Setting(
        str,
        "auto",
        "how written pages are found; auto: uffd-wp where the kernel has it, else soft-dirty, else scan",
        choices=("auto", "uffd-wp", "soft-dirty", "scan"),
    ),
    "syncvm_mode": Setting(
        str,
        "hashed",
        "hashed: both VMs run, and only differing pages are sent; checkpoint (for comparison): the "
        "secondary's VM stands still, and all written pages are sent every syncvm_interval_ms_max",
        choices=("hashed", "checkpoint"),
    ),
    "syncvm_hash_threads": Setting(int, 0, "hash threads; 0 = as many as the host has cores", 0, 1024),
    "output_release": Setting(
        str,
        AGREED,
        "when output leaves: agreed (both VMs have said the same, or a syncvm covers it) or syncvm (a syncvm covers it)",
        choices=(AGREED, SYNCVM),
    ),
    "output_comparison": Setting(
        str, "native", "what compares the output of both VMs: native (C, fast) or python (the reference)", choices=("native", "python")
    ),
    "latency_ms_target": Setting(int, 50, "target for the delay of a busy VM's output; a lower value means more syncvms", 1, 10_000),
    "syncvm_interval_ms_max": Setting(int, 1000, "longest time between syncvms without output", 10, 60_000),
    "syncvm_idle_interval_ms_max": Setting(
        int, 10_000, "longest time between syncvms of a VM that gets no input, sends nothing and writes little", 10, 60_000
    ),
    "syncvm_drain_ms_max": Setting(int, 20, "longest wait of the secondary for an idle VM at a syncvm", 0, 10_000),
    "scrub_interval_s": Setting(
        int, 300, "time in which syncvms compare all memory once, some with each, written or not; 0 = never", 0, 86_400
    ),
    "syncvm_timeout_ms": Setting(int, None, "a syncvm that takes longer drops the secondary", 100, 120_000),
    "join_timeout_ms": Setting(int, 60_000, "a step of re-protection that takes longer is given up", 1000, 3_600_000),
    "guard_bytes_max": Setting(int, 16 << 20, "limit of held output; more is dropped, as on a full wire", 1 << 16, 1 << 30),
    "log_bytes_max": Setting(int, 4 << 20, "limit of the input log since the last syncvm; a full log pauses input", 1 << 16, 6 << 20),
}


class Config:
    """Validated settings: attributes named as in :data:`SETTINGS`, immutable by convention."""

    name: str
    member: str
    members: dict[str, dict[str, str]]
    guest_memory_mib: int
    syncvm_mode: str
    run_dir: str
    state_dir: str
    shm_dir: str

    def __init__(self, values: dict[str, Any]) -> None:
        problems = _problems(values)
        if problems:
            raise ConfigError("\n".join(problems))
        self._written, self.values = values, _complete(values)
        self.__dict__.update(self.values)  # found without __getattr__: each frame asks for some

    def __getattr__(self, key: str) -> Any:
        raise AttributeError(key)

    def but(self, **changed: Any) -> Config:
        """The same with other values. Raises ConfigError."""
        return Config({**self._written, **changed})

    @property
    def budget(self) -> budget.Budget:
        return budget.split(self.values)

    @property
    def guest_pages(self) -> int:
        return self.guest_memory_mib * 256

    @property
    def run_path(self) -> Path:
        return Path(self.run_dir) / self.name

    @property
    def state_path(self) -> Path:
        return Path(self.state_dir) / self.name

    @property
    def log_path(self) -> Path:
        return Path(self.log_dir) / self.name

    @property
    def ram_path(self) -> Path:
        return Path(self.shm_dir) / f"{self.name}.ram"

    @property
    def checkpoints(self) -> bool:
        return self.syncvm_mode == "checkpoint"

    @property
    def disk_list(self) -> tuple[Disk, ...]:
        return disks.parse(self.disks)

    @cached_property
    def nics(self) -> tuple[Nic, ...]:
        """The VM's network cards."""
        return nics.parse(self.values)

    @property
    def overlay_path(self) -> Path:
        return Path(self.disk_overlay_dir or self.shm_dir) / f"{self.name}.disks"

    @property
    def secret_path(self) -> Path:
        return Path(self.secret_file or CONFIG_DIR / f"{self.name}.secret")

    @property
    def fence_input_path(self) -> Path:
        return Path(self.fence_input_file or CONFIG_DIR / f"{self.name}.fence")

    @property
    def tls_path(self) -> Path:
        return Path(self.tls_folder or CONFIG_DIR / self.name / "tls")

    @property
    def kind(self) -> str:
        return self.members[self.member]["kind"]

    @property
    def witness(self) -> str:
        return next(m for m, v in self.members.items() if v["kind"] == "witness")

    @property
    def replicas(self) -> tuple[str, ...]:
        return tuple(sorted(m for m, v in self.members.items() if v["kind"] == "replica"))

    @classmethod
    def parse(cls, text: bytes, where: str | Path) -> Config:
        """The settings of a file ``where``, whose contents are ``text``. Raises ConfigError with every problem found."""
        try:
            values = json.loads(text.decode("utf-8"))
            json.dumps(values, ensure_ascii=False).encode("utf-8")  # half a character, like \ud800, is no text and no path
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where}: is not JSON ({error}); run the deploy play to write it anew") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: must be one JSON object of settings")
        try:
            return cls(values)
        except ConfigError as error:
            raise ConfigError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from None


def _problems(values: dict[str, Any]) -> list[str]:
    strange = [one_line(key) for key in values if key not in SETTINGS]
    out = [f"{key}: unknown setting; remove it (known: see 'python3 -m plover.config --help')" for key in strange]
    for key, row in SETTINGS.items():
        if key in values:
            out += _check_value(key, row, values[key])
        elif row.default is REQUIRED:
            out.append(f"{key}: is required ({row.help})")
    return out or together.problems(_complete(values))


def _complete(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` with the defaults and the time-outs derived from the budget."""
    out = {key: values.get(key, row.default) for key, row in SETTINGS.items()}
    return {**out, **budget.derive(out)}


def _check_value(key: str, row: Setting, value: Any) -> list[str]:
    if not isinstance(value, row.kind) or (isinstance(value, bool) and row.kind is not bool):
        return [f"{key}: must be of type {row.kind.__name__}, not {type(value).__name__} ({row.help})"]
    if row.kind is int and not row.in_range(value):
        return [f"{key}: {value} is out of range; choose {row.low} to {row.high} ({row.help})"]
    if row.choices and value not in row.choices:
        return [f"{key}: {value!r} is not one of {', '.join(row.choices)} ({row.help})"]
    if row.pattern and not row.pattern.match(value):
        return [f"{key}: {value!r} is not valid ({row.help})"]
    control = row.kind is str and _CONTROL.search(value)  # none belongs into a path, a command line or a line of a unit
    if control:  # the value is not shown: a URL may hold a password
        return [f"{key}: character {control.start() + 1} is a control character; remove it ({row.help})"]
    return []


def check_value(key: str, value: Any) -> list[str]:
    """Problems of one setting's value by itself."""
    return _check_value(key, SETTINGS[key], value)
