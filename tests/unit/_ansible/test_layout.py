# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a wrong inventory: one line for each error, with the variable and the remedy; never an exception."""

from __future__ import annotations

import re

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.plover.vmft.plugins.filter import plover_seats
from ansible_collections.plover.vmft.plugins.filter.plover_problems import head
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout import inventory as layout
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout import known, variables
from ansible_collections.plover.vmft.plugins.module_utils.plover.config.settings import SETTINGS
from hypothesis import given
from hypothesis import strategies as st

from lab.paths import ROOT
from tests.prechecks import cases
from tests.prechecks.inventory import faulty, good, hosts_of, second, vms


def resolved(inventory):
    """(hosts, groups) as Ansible makes them of an inventory file, for the few things that ours say."""
    groups, hosts = {}, {}

    def walk(name, group, outer):
        values = {**outer, **(group.get("vars") or {})}
        members = [*(group.get("hosts") or {})]
        for host, own in (group.get("hosts") or {}).items():
            hosts[host] = {**values, **(own or {})}
        for child, inner in (group.get("children") or {}).items():
            members += walk(child, inner or {}, values)
        groups[name] = members
        return members

    everywhere = (inventory.get("all") or {}).get("vars") or {}
    for name, group in inventory.items():
        walk(name, group, everywhere)
    for values in hosts.values():
        for key, value in values.items():
            if isinstance(value, str) and "{{" in value:
                values[key] = variables.Unresolved("'no_such_variable' is undefined")
    groups["all"] = list(hosts)
    return hosts, groups


def problems(inventory):
    hosts, groups = resolved(inventory)
    # On hosts that plover_vms does not reach, the play sees that of its first host.
    given = next((values["plover_vms"] for values in hosts.values() if "plover_vms" in values), None)
    return layout.problems(given, hosts, groups, head)


def test_the_shipped_example_is_good():
    assert problems(good()) == []


def test_two_vms_on_the_same_hosts_are_good():
    inventory = good()
    second()(inventory)
    assert problems(inventory) == []


def test_one_witness_host_serves_two_groups_and_is_a_replica_of_a_third():
    inventory = good()
    hosts_of(inventory, "plover_replicas").update(
        {f"r{n}": {"ansible_host": f"192.168.77.{20 + n}", "plover_replication_address": f"192.168.78.{20 + n}"} for n in (1, 2)}
    )
    second(primary="r1", secondary="r2", tap=None)(inventory)
    assert problems(inventory) == []
    hosts_of(inventory, "plover_replicas")["witness"] = {}
    hosts_of(inventory, "plover_witnesses")["r1"] = {"ansible_host": "192.168.77.21", "plover_replication_address": "192.168.78.21"}
    third = {
        "name": "three",
        "cluster_id": "21111111-2222-4333-8444-555555555555",
        "mac": "52:54:00:70:6c:03",
        "port": 7440,
        "addresses": [],
        "tap": "t3",
        "primary": "witness",
        "secondary": "primary",
        "witness": "r1",
    }
    vms(inventory).append({**vms(inventory)[0], **third})
    assert problems(inventory) == []


def test_the_documented_layout_of_two_groups_is_good(tmp_path):
    text = (ROOT / "docs" / "operations.md").read_text()
    (snippet,) = [part.split("```")[0] for part in text.split("```yaml\n")[1:] if "children:" in part.split("```")[0]]
    (tmp_path / "vmlinuz").write_bytes(b"MZ..")
    inventory = yaml.safe_load(snippet.replace("/srv/vmlinuz", str(tmp_path / "vmlinuz")))
    assert problems(inventory) == []
    inventory["plover"]["vars"]["plover_vms"][1]["port"] = 7420
    assert ["w" in line for line in problems(inventory)] == [True], "the one host that they share"


FILTERS = plover_seats.FilterModule().filters()
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["primary", "7420"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
SHOP = {"name": "shop", "primary": "a", "secondary": "b", "witness": "w"}
MAIL = {"name": "mail", "primary": "w", "secondary": "b", "witness": "c"}


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ({}, [SHOP, MAIL]),
        ({"host": "w"}, [SHOP, MAIL]),
        ({"host": "w", "seats": ["witness"]}, [SHOP]),
        ({"host": "w", "seats": ["primary", "secondary"]}, [MAIL]),
        ({"host": "d"}, []),
        ({"hosts": ["a", "b", "w", "d"]}, [SHOP]),
        ({"host": "b", "hosts": ["w", "b", "c"]}, [MAIL]),
        ({"hosts": []}, []),
        ({"host": "c", "hosts": ["a", "b", "w"]}, []),
    ],
)
def test_seats(arguments, chosen):
    assert FILTERS["plover_seats"]([SHOP, MAIL], **arguments) == chosen


def test_seats_show_no_secret_unless_they_are_asked_for():
    vm = {**SHOP, "secret": "hush", "fence_input": "passwd=hush", "settings": {"fence_command": ["/f", "hush"]}}
    assert FILTERS["plover_seats"]([vm], "a") == FILTERS["plover_seats"]([vm]) == [SHOP]
    assert FILTERS["plover_seats"]([vm], "a", whole=True) == [vm]


@given(ANYTHING, ANYTHING, ANYTHING)
def test_seats_of_nonsense_are_a_clear_error_or_none(vms, host, hosts):
    try:
        found = FILTERS["plover_seats"](vms, host, None, hosts)
    except AnsibleFilterError as error:
        assert str(error).startswith("plover.vmft.plover_seats: ")
    else:
        assert all(vm in vms for vm in found)


@pytest.mark.parametrize("case", cases.CASES, ids=cases.TITLES)
def test_one_error_is_one_line_with_the_variable_and_the_remedy(case):
    (line,) = problems(faulty(case))
    assert line.startswith(case.variable)
    assert case.remedy in line and case.wrong in line


def test_all_errors_are_listed_at_once():
    """Those that do not hide each other, in one inventory."""
    apart = [
        case
        for case in cases.CASES
        if case.title
        in (
            "two names of one machine",
            "a variable misspelt",
            "a multicast MAC",
            "no UUID",
            "memory with a unit",
            "a key as setting",
            "the default port twice",
            "a MAC twice",
        )
    ]
    inventory = good()
    for case in apart:
        if "twice" not in case.title:
            case.change(inventory)
    inventory["plover"]["vars"]["plover_vms"][0]["mac"] = "01:00:5e:00:00:01"
    second(port=None, mac="01:00:5e:00:00:01")(inventory)
    found = problems(inventory)
    for case in apart:
        assert [line for line in found if line.startswith(case.variable) and case.remedy in line], case.title


VMS = st.lists(st.dictionaries(st.sampled_from([*known.VM_KEYS, "odd"]), ANYTHING, max_size=8), max_size=3)


@given(VMS | ANYTHING, ANYTHING)
def test_nonsense_gives_sentences_and_never_an_exception(vms, value):
    hosts, groups = resolved(good())
    for name in known.VARIABLES:
        hosts["primary"][name] = value
    found = layout.problems(vms, hosts, groups, head)
    assert all(isinstance(line, str) and line for line in found)


@given(ANYTHING, ANYTHING)
def test_nonsense_in_settings_and_disks_too(one, two):
    inventory = good()
    vms(inventory)[0].update(
        settings={"transport": one, "fence_command": two, "disk_port": one, "disks": two},
        disks=[{"path": one, "source": two, "size_mib": one, "serial": two, "format": one}],
    )
    assert all(isinstance(line, str) for line in problems(inventory))


def test_the_argument_specs_describe_the_keys_that_are_known():
    specs = yaml.safe_load((ROOT / "roles/prechecks/meta/argument_specs.yml").read_text())["argument_specs"]
    keys = specs["main"]["options"]["plover_vms"]["options"]
    assert set(keys) == set(known.VM_KEYS)
    assert {key for key, option in keys.items() if option.get("required")} == set(known.VM_REQUIRED)
    assert set(keys["disks"]["options"]) == set(known.DISK_KEYS)
    for key, choices in known.DISK_CHOICES.items():
        option = keys["disks"]["options"][key]
        assert (tuple(option["choices"]), option["default"]) == (choices, choices[0])
    for key, setting in known.SETTING_OF.items():
        if "default" in keys[key] and key not in ("link_security", "accel"):  # whose absence means none, or tcg, as in old settings
            assert keys[key]["default"] == SETTINGS[setting].default, key


def test_every_shared_variable_of_the_roles_is_known():
    """A role that gets a new one: add it to VARIABLES or PLAY_VARIABLES in plugins/module_utils/_ansible/layout/known.py."""
    used = set()
    for path in [*ROOT.glob("roles/*/defaults/main.yml"), *ROOT.glob("roles/*/meta/argument_specs.yml")]:
        tree = yaml.safe_load(path.read_text()) or {}
        if path.name == "main.yml":
            used |= {name for name in tree if name.startswith("plover_")}
        for spec in (tree.get("argument_specs") or {}).values():
            used |= {name for name in spec.get("options") or {} if name.startswith("plover_")}
    assert used and used - set(known.VARIABLES) == set()
    # And what the plays take with -e or register, as they run role prechecks too.
    in_plays = {
        name for path in ROOT.glob("playbooks/*.yml") for name in re.findall(r"(?m)(?:register: |-e |^#   )(plover_\w+)", path.read_text())
    }
    assert in_plays and in_plays - set(known.VARIABLES) - set(known.PLAY_VARIABLES) == set()
    assert all(re.match(r"plover_\w+\Z", name) for name in known.VARIABLES)
