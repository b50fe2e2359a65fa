# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirt domain as an entry of plover_vms: each file of domains/ with its whole expected text. ``REWRITE=1`` writes them anew: read
the diff."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
import yaml
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout import inventory as layout
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout.known import VM_REQUIRED
from plover.errors import ConfigError
from plover.libvirt import tree
from plover.libvirt.entry import imported
from plover.libvirt.notes import Wishes
from plover.libvirt.text import data_of, yaml_of

from tests.prechecks.inventory import HERE, good, vms

DOMAINS = Path(__file__).parent / "domains"
LICENCE = "# SPDX-License-Identifier: GPL-3.0-or-later\n"
SEATS = Wishes(primary="primary", secondary="secondary", witness="witness")
ALL = SEATS._replace(machine="pc", bridge="br0")
# expected text -> (domain, what the operator says)
CASES = {
    **{path.stem: (path.stem, Wishes()) for path in sorted(DOMAINS.glob("*.xml"))},
    "debian-bridge-seats": ("debian-bridge", SEATS),
    "q35-as-pc": ("q35-default-network", ALL),
    "several-cards-on-a-bridge": ("several-cards", ALL),
    "old-handwritten-named": ("old-handwritten", ALL._replace(name="mail")),
    "openstack-on-a-bridge": ("openstack", ALL),
}
# No other file may claim that nothing stands in the way.
WHOLE = {"debian-bridge", "debian-bridge-seats", "q35-as-pc", "ubuntu-cloud-image", "centos7", "direct-kernel", "ovirt"}


def domain(name):
    return (DOMAINS / f"{name}.xml").read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_the_whole_text(case):
    name, wishes = CASES[case]
    path, text = DOMAINS / f"{case}.txt", LICENCE + yaml_of(imported(domain(name), wishes)) + "\n"
    if os.environ.get("REWRITE"):
        path.write_text(text)
    assert text == path.read_text()


def test_there_are_many_domains_and_each_expected_text_is_of_one():
    assert len(list(DOMAINS.glob("*.xml"))) >= 15
    assert {path.stem for path in DOMAINS.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_the_text_is_the_entry(case):
    """Read by YAML's own parser, it gives the same values."""
    name, wishes = CASES[case]
    found = imported(domain(name), wishes)
    assert yaml.safe_load(yaml_of(found)) == [found.vm]
    assert all(len(line) <= 120 for line in yaml_of(found).splitlines() if line.startswith("#"))
    assert json.loads(json.dumps(data_of(found)))["vm"] == found.vm


@pytest.mark.parametrize("case", CASES)
def test_what_stands_in_the_way_is_said(case):
    name, wishes = CASES[case]
    assert (not imported(domain(name), wishes).in_the_way) == (case in WHOLE)


def problems(vm):
    """What the collection's precheck says of an inventory with this VM."""
    inventory = copy.deepcopy(good())
    vms(inventory)[:] = [vm]
    group = inventory["plover"]
    hosts = {
        host: {**group["vars"], **child.get("vars", {}), **values}
        for child in group["children"].values()
        for host, values in child["hosts"].items()
    }
    groups = {name: list(child["hosts"]) for name, child in group["children"].items()}
    return layout.problems([vm], hosts, {**groups, "plover": list(hosts), "all": list(hosts)}, lambda path: b"MZ..")


@pytest.mark.parametrize("case", sorted(WHOLE))
def test_an_entry_that_nothing_stands_in_the_way_of_passes_the_precheck(case):
    name, wishes = CASES[case]
    vm = imported(domain(name), wishes._replace(**SEATS._asdict() | {k: v for k, v in wishes._asdict().items() if v})).vm
    if "kernel" in VM_REQUIRED:
        vm.setdefault("kernel", HERE)
    vm.setdefault("mac", "52:54:00:70:6c:01")
    assert problems(vm) == []


@pytest.mark.parametrize("case", sorted(set(CASES) - WHOLE))
def test_what_an_entry_lacks_is_all_that_the_precheck_refuses(case):
    """A value that is there is one that plover_vms takes."""
    name, wishes = CASES[case]
    vm = imported(domain(name), wishes).vm
    assert [text for text in problems(vm) if ": is missing; every VM needs it" not in text and ".kernel: is missing, and" not in text] == []


# ---- hostile and broken files ------------------------------------------------------------------------------------------
BOMB = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><domain><name>&c;</name></domain>'
FILES = {
    "an entity that grows": (BOMB, "declares a document type"),
    "an entity of a file": (b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/shadow">]><domain><name>&b;</name></domain>', "document type"),
    "a document type by itself": (b"<!DOCTYPE domain><domain type='kvm'/>", "document type"),
    "an entity that nobody declared": (b"<domain><name>&b;</name></domain>", "is no XML (undefined entity"),
    "nothing": (b"", "is no XML (no element found"),
    "a page": (b"<html><body/></html>", "describes a html, not a domain"),
    "a snapshot": (b"<domainsnapshot/>", "describes a domainsnapshot"),
    "libvirt's own file of a running VM": (b"<domstatus state='running'/>", "describes a domstatus"),
    "half a file": (b"<domain type='kvm'><name>web</name>", "is no XML (no element found"),
    "two roots": (b"<domain/><domain/>", "is no XML (junk after document element"),
    "no text": (bytes(range(256)), "is no XML"),
    "an encoding that nobody knows": (b"<?xml version='1.0' encoding='x-none'?><domain/>", "is no XML"),
    "too many bytes": (b"<domain>" + b" " * tree.BYTES_MAX + b"</domain>", "over 1048576 bytes"),
    "too deep": (b"<domain>" + b"<a>" * 100 + b"</a>" * 100 + b"</domain>", "over 64 within one another"),
    "too many elements": (b"<domain>" + b"<a/>" * 30_000 + b"</domain>", "over 20000 elements"),
    "a name that a terminal would obey": (b"<\xc2\x9b31m/>", "is no XML"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_hostile_or_broken_file_gets_one_line(what):
    data, why = FILES[what]
    with pytest.raises(ConfigError) as refused:
        imported(data)
    said = str(refused.value)
    assert why in said and said.isprintable() and len(said) < 300 and "virsh dumpxml" in said


def test_words_of_the_file_are_shown_plainly_and_shortened():
    data = "<domain type='kvm'><name>\u202ea\n\x85b" + "x" * 500 + "</name><os><type>hvm</type></os></domain>"
    for _what, why in imported(data.encode()).in_the_way:
        assert why.isprintable() and len(why) < 400


def test_notes_are_bounded():
    disks = "".join(f"<disk type='file'><source file='/a{n}'/><target dev='sd{n}' bus='b{n}'/></disk>" for n in range(3000))
    found = imported(f"<domain type='kvm'><devices>{disks}</devices></domain>".encode())
    assert len(found.in_the_way) <= 210 and ("more", "not listed: there are over 200 such elements") in found.in_the_way


@pytest.mark.parametrize(
    ("wish", "said"),
    [({"name": "Web"}, "name: 'Web'"), ({"bridge": "b" * 16}, "bridge: 'bbbb"), ({"machine": "q35"}, "machine: 'q35'")],
)
def test_what_the_operator_writes_wrong_is_refused(wish, said):
    with pytest.raises(ConfigError, match=said):
        imported(domain("debian-bridge"), Wishes(**wish))


@pytest.mark.parametrize(
    ("unit", "number", "mib"),
    [
        ("", 262144, 256),
        (" unit='KiB'", 262145, 257),
        (" unit='k'", 262144, 256),
        (" unit='b'", 268435456, 256),
        (" unit='bytes'", 268435456, 256),
        (" unit='KB'", 262144, 250),
        (" unit='M'", 256, 256),
        (" unit='MB'", 1000, 954),
        (" unit='G'", 1, 1024),
        (" unit='GB'", 1, 954),
        (" unit='tib'", 1, 1048576),
        (" unit='PiB'", 1, None),
        (" unit='furlong'", 256, None),
        (" unit='GiB'", "1.5", None),
        (" unit='GiB'", "-1", None),
        (" unit='b'", 1, None),
    ],
)
def test_units_of_memory(unit, number, mib):
    text = f"<domain type='kvm'><memory{unit}>{number}</memory></domain>"
    found = imported(text.encode())
    assert found.vm.get("memory_mib") == mib
    assert any(what == "memory" for what, _why in found.in_the_way) == (mib is None)
