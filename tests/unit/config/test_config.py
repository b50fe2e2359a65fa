# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings: each row of the table, the rules between them, bad files, and the checker an operator runs."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plover.config import __main__ as checker
from plover.config.budget import DERIVED, derive
from plover.config.settings import REQUIRED, SETTINGS, Config
from plover.errors import ConfigError
from plover.host.settings_file import FILE_BYTES_MAX, load
from settings import MEMBERS
from settings import settings as good_settings

from lab.paths import ROOT

NUMBERS = [key for key, row in SETTINGS.items() if row.kind is int]
VALUES = {str: "text", int: 7, dict: {}, list: [], bool: True}
each_setting = pytest.mark.parametrize("key", SETTINGS)
each_number = pytest.mark.parametrize("key", NUMBERS)
# A value no pattern or list of choices allows, and one that each allows beside its default.
FORBIDDEN = {
    "on_poweroff": ["", "Off", "restart\n", "reboot", "destroy"],
    "on_crash": ["", "destroy", "preserve", "coredump-restart", "Keep"],
    "name": ["", "Demo", "a" * 32, "../x", "a/b", "a b", "-a", "demo\n", "d\u00e9mo", "a\0"],
    "cluster_id": [
        "",
        "demo",
        "6f9619ff8b864d01b42d00cf4fc964ff",
        "6F9619FF-8B86-4D01-B42D-00CF4FC964FF",
        "6f9619ff-8b86-4d01-b42d-00cf4fc964ff\n",
    ],
    "guest_machine": ["", "q35", "microvm", "pc,accel=kvm", "pc-i440fx-", "pc-q35-7.2", "pc\n"],
    "guest_topology": ["2", "0x1x1", "1x1", "1x1x1,maxcpus=8", "axbxc", "1x1x1\n"],
    "guest_cpu": ["", "qemu64 -monitor stdio", "a" * 1001, "host\n", "max;reboot"],
    "output_release": ["", "always", "Agreed"],
    "output_comparison": ["", "c", "Native"],
    "guest_accel": ["", "hvf", "KVM"],
    "guest_boot": ["", "cd", "Disk", "network"],
    "guest_cdrom": ["cd.iso", "/a,b", "/a\n", "/" + "a" * 401],
    "guest_seed": ["seed", "/a,b", "/a\n", "/" + "a" * 401],
    "guest_mac": ["", "52:54:00:70:6c", "52-54-00-70-6c-01", "52:54:00:70:6C:01", "52:54:00:70:6c:01:02", "52:54:00:70:6c:01\n"],
    "guest_nic": ["", "rtl8139"],
    "guest_spoof_check": ["", "on", "STRICT"],
    "network_bridge": ["", "a" * 16, "br 0", "br0;reboot", "br/0", "br0\n"],
    "network_tap": ["", "a" * 16, "tap 0", "tap0\n"],
    "transport": ["", "RDMA", "udp"],
    "link_security": ["", "TLS", "ssl"],
    "rdma_device": ["mlx5/0", "rxe 0", "a" * 64, "rxe0\n"],
    "qemu_supervisor": ["", "cron"],
    "syncvm_dirty_tracking": ["", "kvm", "UFFD-WP"],
    "syncvm_mode": ["", "remus", "Hashed"],
    "fence_watchdog": ["", "on", "OFF"],
    "fence_policy": ["", "on"],
    "qemu_user": ["Root", "9x", "a b", "a" * 33, "nobody\n", "no;body"],
    "qemu_apparmor": ["", "yes", "ON", "enforce"],
    "fence_watchdog_device": ["", "watchdog0", "/tmp/watchdog", "/dev/", "/dev/x y", "/dev/watchdog0\n"],
}
ALLOWED = {
    "name": ["a", "0", "my-vm-2", "a" * 31],
    "guest_machine": ["pc", "pc-i440fx-7.2"],
    "guest_accel": ["tcg", "kvm"],
    "guest_cdrom": ["", "/srv/a b/cd-1.iso"],
    "guest_seed": ["", "/var/lib/plover/images/demo/seed"],
    "guest_topology": ["", "1x1x1"],
    "guest_cpu": ["max", "qemu64,+kvmclock", "host,-x2apic,model_id=a.b"],
    "guest_nic": ["virtio-net-pci", "e1000"],
    "guest_spoof_check": ["auto", "mac", "off"],
    "network_bridge": ["br-lan_0.1", "b" * 15],
    "network_tap": ["t"],
    "qemu_apparmor": ["auto", "on", "off"],
    "qemu_supervisor": ["systemd", "child"],
    "link_security": ["none", "tls"],
    "syncvm_mode": ["hashed", "checkpoint"],
    "syncvm_dirty_tracking": ["auto", "uffd-wp", "soft-dirty", "scan"],
    "fence_watchdog": ["off", "automatic", "required"],
    "fence_policy": ["off"],
    "fence_watchdog_device": ["/dev/watchdog", "/dev/watchdog1"],
}


def problems(**changes):
    """What is wrong with the good settings after ``changes`` (``...`` removes a setting)."""
    values = {k: v for k, v in {**copy.deepcopy(good_settings("primary")), **changes}.items() if v is not ...}
    try:
        Config(values)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def member_problems(name, **changes):
    members = copy.deepcopy(MEMBERS)
    members[name] = {k: v for k, v in {**members[name], **changes}.items() if v is not ...}
    return problems(members=members)


# --- row by row ---


def test_the_good_settings_of_these_tests_are_good():
    assert problems() == []


@each_setting
def test_a_missing_setting_has_its_default_or_is_asked_for_by_name(key):
    row = SETTINGS[key]
    found = problems(**{key: ...})
    if row.default is REQUIRED:
        assert found == [f"{key}: is required ({row.help})"]
    elif key == "guest_kernel":  # or a disk, or a CD: test_boot_settings.py
        assert len(found) == 1 and found[0].startswith("guest_kernel: is missing")
    else:
        assert found == []
        values = {k: v for k, v in good_settings("primary").items() if k != key}
        expected = derive(Config(values).values | dict.fromkeys(DERIVED))[key] if row.default is None else row.default
        assert getattr(Config(values), key) == expected


def test_every_default_is_allowed_by_its_own_row():
    defaults = {key: row.default for key, row in SETTINGS.items() if row.default not in (REQUIRED, None)}
    assert problems(**{**defaults, "guest_kernel": "/k"}) == []


@each_setting
def test_a_value_of_another_type_is_refused_with_both_types(key):
    row = SETTINGS[key]
    wrong = [*(value for kind, value in VALUES.items() if kind is not row.kind), None, 1.5, float("nan")]
    for value in wrong:
        (problem,) = problems(**{key: value})
        assert problem == f"{key}: must be of type {row.kind.__name__}, not {type(value).__name__} ({row.help})"


@each_number
def test_a_number_out_of_range_is_refused_with_the_range(key):
    row = SETTINGS[key]
    for value in (row.low - 1, row.high + 1, -1 if row.low > -1 else row.low - 1, 10**30, -(10**30)):
        (problem,) = problems(**{key: value})
        assert problem == f"{key}: {value} is out of range; choose {row.low} to {row.high} ({row.help})"


@each_number
def test_both_ends_of_a_range_are_in_it(key):
    for value in (SETTINGS[key].low, SETTINGS[key].high):
        assert [p for p in problems(**{key: value}) if f"{key}: {value} is out of range" in p] == []


@pytest.mark.parametrize("key, value", [(k, v) for k, many in FORBIDDEN.items() for v in many])
def test_a_text_that_does_not_fit_is_refused_with_what_fits(key, value):
    row = SETTINGS[key]
    (problem,) = problems(**{key: value})
    assert problem.startswith(f"{key}: {value!r} is not ") and row.help in problem
    assert all(choice in problem for choice in row.choices)


@pytest.mark.parametrize("key", [key for key, row in SETTINGS.items() if row.kind is str and key not in FORBIDDEN])
@pytest.mark.parametrize("character", ["\0", "\n", "\x1b", "\x7f"])
def test_a_control_character_is_refused_in_each_text(key, character):
    """No file has such a name, and no command line, unit or launch file has room for it."""
    (problem,) = problems(**{key: f"/a{character}b"})
    assert problem.startswith(f"{key}: character 3 is a control character; remove it") and character not in problem


@pytest.mark.parametrize("key, value", [(k, v) for k, many in ALLOWED.items() for v in many])
def test_a_text_that_fits_is_kept(key, value):
    assert getattr(Config(good_settings("primary", **{key: value})), key) == value


def test_every_row_with_a_pattern_or_choices_is_tried_above():
    limited = {key for key, row in SETTINGS.items() if row.pattern or row.choices}
    assert limited == set(FORBIDDEN)
    assert all(row.low is not None and row.low <= row.high for key, row in SETTINGS.items() if key in NUMBERS)


@given(st.text(max_size=20).filter(lambda key: key not in SETTINGS and "\n" not in key and key.isprintable()))
def test_an_unknown_setting_is_refused_by_name(key):
    assert problems(**{key: None}) == [f"{key}: unknown setting; remove it (known: see 'python3 -m plover.config --help')"]


def test_all_problems_are_told_at_once():
    found = problems(port="x", guest_vcpus=0, colour="red", guest_mac=...)
    assert sorted(p.split(":")[0] for p in found) == ["colour", "guest_mac", "guest_vcpus", "port"]


def test_a_setting_that_does_not_exist_is_no_attribute():
    with pytest.raises(AttributeError, match="colour"):
        _ = Config(good_settings("primary")).colour


# --- the rules between settings ---


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"detection_ms": 59, "heartbeat_ms": 20}, "detection_ms: 59 must be at least 3 x heartbeat_ms (20)"),
        ({"heartbeat_ms": 34}, "detection_ms: 100 must be at least 3 x heartbeat_ms (34)"),
        ({"peer_timeout_ms": 99}, "peer_timeout_ms: 99 must not be shorter than detection_ms (100)"),
        ({"guest_mac": "53:54:00:70:6c:01"}, "guest_mac: 53:54:00:70:6c:01 is a multicast address; choose"),
        ({"guest_mtu": 67}, "guest_mtu: 67 must be 0, or 68 to 65521 with guest_nic virtio-net-pci"),
        ({"guest_mtu": 9000, "guest_nic": "e1000"}, "guest_mtu: 9000 must be 0, or 68 to 65521 with guest_nic virtio-net-pci"),
        ({"guest_addresses": ["10.0.0.1", "10.0.0.2/24"]}, "guest_addresses: '10.0.0.2/24' is not an IPv4 address"),
        ({"guest_addresses": ["fe80::1"]}, "guest_addresses: 'fe80::1' is not an IPv4 address"),
        ({"guest_addresses": [None]}, "guest_addresses: None is not an IPv4 address"),
        ({"guest_addresses": [7]}, "guest_addresses: 7 is not an IPv4 address"),
        ({"member": "nobody"}, "member: 'nobody' is not among members ['primary', 'secondary', 'witness']"),
        ({"preferred_leader": "witness"}, "preferred_leader: 'witness' must be one of the two replicas"),
        ({"preferred_leader": "nobody"}, "preferred_leader: 'nobody' must be one of the two replicas"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_do_not_go_together_are_refused(changes, words):
    (problem,) = problems(**changes)
    assert problem.startswith(words)


@pytest.mark.parametrize(
    "changes", [{"detection_ms": 60, "heartbeat_ms": 20}, {"peer_timeout_ms": 100}, {"guest_addresses": ["10.0.0.1", "192.0.2.7"]}]
)
def test_settings_that_just_go_together_are_accepted(changes):
    assert problems(**changes) == []


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"address": "host1"}, "members.secondary.address: 'host1' is not an IPv4 address"),
        ({"address": "10.0.0.256"}, "members.secondary.address: '10.0.0.256' is not an IPv4"),
        ({"address": 17}, "members.secondary.address: 17 is not"),
        ({"address": ["10.0.0.1"]}, "members.secondary.address: ['10.0.0.1'] is not"),
        ({"address": "127.0.0.1"}, "members: two members share an address; the witness must be neither replica"),
        ({"address": ...}, "members.secondary: must have exactly 'address' and 'kind'"),
        ({"kind": ...}, "members.secondary: must have exactly 'address' and 'kind'"),
        ({"colour": "red"}, "members.secondary: must have exactly 'address' and 'kind'"),
        ({"kind": "leader"}, "members.secondary.kind: 'leader' must be 'replica' or 'witness'"),
        ({"kind": ["replica"]}, "members.secondary.kind: ['replica'] must be"),
        ({"kind": "witness"}, "members: need two replicas and one witness, found ['replica', 'witness', 'witness']"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_member_that_is_not_right_is_refused(changes, words):
    (problem,) = member_problems("secondary", **changes)
    assert problem.startswith(words)


@pytest.mark.parametrize("name", ["", "a" * 65, "a\nb", "\0"], ids=["empty", "long", "two-lines", "nul"])
def test_a_member_without_a_name_is_refused(name):
    problem = problems(members={**{k: v for k, v in MEMBERS.items() if k != "secondary"}, name: MEMBERS["secondary"]})[0]
    assert problem.startswith("members: ") and "is no name; use 1 to 64 printable characters" in problem


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"primary": MEMBERS["primary"]},
        {**MEMBERS, "fourth": {"address": "127.0.0.4", "kind": "replica"}},
        {**MEMBERS, "fourth": {"address": "127.0.0.4", "kind": "witness"}},
        {**MEMBERS, "witness": None},
        {**MEMBERS, "witness": []},
        {**MEMBERS, "witness": "127.0.0.3"},
    ],
    ids=["none", "one", "three-replicas", "two-witnesses", "null", "list", "text"],
)
def test_other_members_than_two_replicas_and_a_witness_are_refused(members):
    assert problems(members=members)[0].startswith("members")


def test_the_derived_values_follow_from_the_settings():
    config = Config(good_settings("witness", run_dir="/run/p", state_dir="/var/p", shm_dir="/dev/shm/p"))
    assert (config.kind, config.witness, config.replicas) == ("witness", "witness", ("primary", "secondary"))
    assert (str(config.run_path), str(config.state_path), str(config.ram_path)) == ("/run/p/demo", "/var/p/demo", "/dev/shm/p/demo.ram")
    assert config.guest_pages * 4096 == 256 << 20


# --- the file, as the operator checks it ---


@pytest.fixture
def check(capsys):
    """The checker in this process: exit status, output, errors."""
    return lambda *arguments: (checker.main([str(word) for word in arguments]), *capsys.readouterr())


def test_the_checker_accepts_a_good_file_in_silence(tmp_path, check):
    (tmp_path / "demo.json").write_text(json.dumps(good_settings("primary")))
    assert check(tmp_path / "demo.json") == (0, "", "")


def test_the_checker_tells_every_problem_with_the_file(tmp_path):
    path = tmp_path / "demo.json"
    path.write_text(json.dumps({**good_settings("primary", port=80), "colour": "red"}))
    words = [sys.executable, "-m", "plover.config", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins/module_utils")}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"{path}: colour: unknown setting; remove it (known: see 'python3 -m plover.config --help')",
        f"{path}: port: 80 is out of range; choose 1024 to 65535 (TCP port of the replication links)",
    ]


def test_the_checker_lists_all_settings(check):
    status, out, errors = check("--help")
    assert (status, errors) == (0, "")
    for key, row in SETTINGS.items():
        assert f"\n  {key}: {row.help} (" in out
    for arguments in ((), ("one", "two")):
        status, out, errors = check(*arguments)
        assert status == 2 and "usage: python3 -m plover.config FILE" in out + errors


BAD_FILES = {
    "empty": (b"", "is not JSON"),
    "cut": (b'{"name": "demo"', "is not JSON"),
    "yaml": (b"name: demo\n", "is not JSON"),
    "not utf-8": (b'{"name": "d\xe9mo"}', "is not JSON"),
    "utf-16": ('{"name": "demo"}'.encode("utf-16"), "is not JSON"),
    "byte order mark": (b'\xef\xbb\xbf{"name": "demo"}', "is not JSON"),
    "zeros": (bytes(100), "is not JSON"),
    "endless nesting": (b"[" * 100_000, "is not JSON"),
    "endless number": (b'{"port": ' + b"9" * 5000 + b"}", "is not JSON"),
    "list": (b"[]", "must be one JSON object"),
    "null": (b"null", "must be one JSON object"),
    "text": (b'"name"', "must be one JSON object"),
    "too big": (b" " * FILE_BYTES_MAX + json.dumps(good_settings("primary")).encode(), f"over {FILE_BYTES_MAX} bytes"),
}


@pytest.mark.parametrize("content, words", BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_settings_file_is_refused_by_its_name(tmp_path, content, words):
    path = tmp_path / "demo.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_file_that_cannot_be_read_is_refused_with_the_remedy(tmp_path, check):
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "missing.json", tmp_path, tmp_path / "loop", tmp_path / "missing.json" / "x"):
        with pytest.raises(ConfigError, match="cannot be read .*run the deploy play"):
            load(path)
    assert check(tmp_path / "missing.json")[0] == 2
