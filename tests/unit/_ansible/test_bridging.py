# SPDX-License-Identifier: GPL-3.0-or-later
"""Role bridge's decisions: which manager has the card, what it is told, and what is refused. Files in, files out."""

from __future__ import annotations

import pytest
from _ansible.bridging import ifupdown, model, netplan, networkd, networkmanager, own, plans
from hypothesis import given
from hypothesis import strategies as st

yaml = pytest.importorskip("yaml")
MAC = "52:54:00:00:00:01"
LINKS = {"lo": {"mac": "", "master": "", "index": 1, "bridge": False}, "eth0": {"mac": MAC, "master": "", "index": 2, "bridge": False}}
ADDRESS = {"family": "inet", "local": "192.0.2.5", "prefixlen": 24}
INTERFACES = """source /etc/network/interfaces.d/*
auto lo eth0 eth1
iface lo inet loopback
# the way in
iface eth0 inet static
    address 192.0.2.5/24
    # the router
    gateway 192.0.2.1
    mtu 9000
iface eth0 inet6 auto
allow-hotplug eth0
iface eth1 inet dhcp
"""
NETPLAN = """network:
  version: 2
  ethernets:
    eth0:
      addresses:
      - 192.0.2.5/24
      # the router
      routes:
        - to: default
          via: 192.0.2.1
      wakeonlan: true
    eth1: {dhcp4: true}
"""
NETWORK = "[Match]\nName=eth0\n\n[Link]\nMTUBytes=9000\n\n[Network]\nAddress=192.0.2.5/24\n# no\n[Route]\nGateway=192.0.2.1"
KEYFILE = (
    "[connection]\nid=in\nuuid=u-1\ntype=ethernet\nzone=dmz\n\n[ethernet]\nmtu=9000\n\n"
    "[ipv4]\nmethod=manual\naddress1=192.0.2.5/24,192.0.2.1\n\n[ipv6]\nmethod=auto\n"
)


def facts(**changes) -> model.Facts:
    values = {"links": LINKS, "addresses": {"eth0": [ADDRESS]}, "tools": (), **changes}
    return model.Facts("br0", "eth0", **values)


def with_ifupdown(text: str = INTERFACES) -> model.Facts:
    return facts(files={ifupdown.MAIN: text}, tools=["ifupdown"])


def with_netplan(text: str = NETPLAN, **changes) -> model.Facts:
    return facts(files={"/etc/netplan/50-cloud.yaml": text}, tools=["netplan", "networkd"], **changes)


def with_networkd(path: str = "/run/systemd/network/10-netplan-eth0.network") -> model.Facts:
    return facts(networkd={"path": path, "text": NETWORK}, tools=["networkd"])


def with_networkmanager(text: str = KEYFILE, **changes) -> model.Facts:
    return facts(
        **{
            "nm_state": "100 (connected)",
            "profile": {"uuid": "u-1", "path": "/etc/x", "text": text},
            "tools": ["networkmanager"],
            **changes,
        }
    )


MADE_BY = {
    "ifupdown": with_ifupdown,
    "netplan": with_netplan,
    "networkd": with_networkd,
    "networkmanager": with_networkmanager,
    "plover": facts,
}


@pytest.mark.parametrize("manager", MADE_BY)
def test_the_manager_that_has_the_card_is_found(manager):
    assert plans.choose(MADE_BY[manager]()).NAME == manager


def test_managers_that_are_there_but_do_not_have_the_card_are_left_alone():
    here = facts(
        files={ifupdown.MAIN: "iface eth1 inet dhcp\n", "/etc/netplan/1.yaml": "network: {ethernets: {eth1: {}}}"},
        tools=["netplan", "ifupdown", "networkmanager", "networkd"],
        nm_state="unmanaged",
    )
    assert plans.choose(here).NAME == "plover"


@pytest.mark.parametrize(
    "match, found",
    [
        ({"name": "eth*"}, True),
        ({"name": "ens*"}, False),
        ({"macaddress": MAC.upper()}, True),
        ({"macaddress": "02:" * 5 + "01"}, False),
        ({"driver": "virtio*", "name": "eth*"}, False),
    ],
)
def test_netplan_may_name_the_card_by_a_match(match, found):
    text = yaml.safe_dump({"network": {"version": 2, "ethernets": {"nic": {"match": match, "dhcp4": True}}}})
    assert netplan.manages(with_netplan(text)) == found


def test_ifupdown_gives_the_bridge_the_cards_stanzas():
    plan = plans.join(with_ifupdown())
    own_text = plan.files["/etc/network/interfaces.d/plover-br0"].split("\n", 1)[1]
    assert (
        own_text
        == f"""auto eth0
iface eth0 inet manual
    mtu 9000

auto br0
iface br0 inet static
    pre-up [ -e /sys/class/net/br0 ] || ip link add dev br0 address {MAC} type bridge
    pre-up ip link set dev eth0 up master br0
    address 192.0.2.5/24
    gateway 192.0.2.1
iface br0 inet6 auto
    pre-up [ -e /sys/class/net/br0 ] || ip link add dev br0 address {MAC} type bridge
    pre-up ip link set dev eth0 up master br0
"""
    )
    left = [line for line in plan.files[ifupdown.MAIN].split("\n") if not line.startswith("#plover-br0:")]
    assert left == [
        "source /etc/network/interfaces.d/*",
        "auto lo eth1",
        "iface lo inet loopback",
        "# the way in",
        "    # the router",
        "iface eth1 inet dhcp",
        "",
    ]
    assert (plan.stop, plan.start) == ([["ifdown", "--force", "eth0"]], [["ifup", "eth0"], ["ifup", "br0"]])


def test_ifupdown_needs_its_folder_read():
    with pytest.raises(model.Refusal, match=r"does not read interfaces.d; add the line 'source "):
        plans.join(with_ifupdown("auto eth0\niface eth0 inet dhcp\n"))


def test_netplan_gives_the_bridge_the_cards_addresses_and_leaves_the_rest():
    plan = plans.join(with_netplan())
    bridge = yaml.safe_load(plan.files["/etc/netplan/90-plover-br0.yaml"])["network"]["bridges"]["br0"]
    assert bridge == {
        "interfaces": ["eth0"],
        "macaddress": MAC,
        "parameters": {"stp": False, "forward-delay": 0},
        "addresses": ["192.0.2.5/24"],
        "routes": [{"to": "default", "via": "192.0.2.1"}],
    }
    changed = plan.files["/etc/netplan/50-cloud.yaml"]
    ethernets = yaml.safe_load(changed)["network"]["ethernets"]
    assert ethernets == {"eth0": {"dhcp4": False, "wakeonlan": True}, "eth1": {"dhcp4": True}}
    assert "      # the router" in changed
    assert plan.start == [["netplan", "generate"], ["networkctl", "reload"], ["networkctl", "reconfigure", "eth0"]]


def test_netplan_with_networkmanager_as_its_renderer():
    plan = plans.join(with_netplan(NETPLAN.replace("  version: 2", "  version: 2\n  renderer: NetworkManager")))
    assert plan.start[1:] == [["nmcli", "connection", "reload"], ["nmcli", "--wait", "20", "connection", "up", "id", "netplan-eth0"]]


@pytest.mark.parametrize(
    "text",
    [
        "network: {version: 2, ethernets: {eth0: {dhcp4: true}}}",
        "network:\n  ethernets: {eth0: {dhcp4: true}}\n",
        "network:\n  ethernets:\n    eth0: {dhcp4: true, wakeonlan: true}\n",
    ],
)
def test_netplan_in_flow_style_is_refused_and_not_guessed_at(text):
    with pytest.raises(model.Refusal, match="is not written in block style"):
        plans.join(with_netplan(text))


def test_netplan_that_cannot_be_read_is_refused():
    with pytest.raises(model.Refusal, match="cannot be read"):
        plans.join(with_netplan("network: [\n"))


def test_networkd_gets_files_that_win_and_copy_the_cards_settings():
    files = plans.join(with_networkd()).files
    assert {path.rpartition("/")[2]: text.split("\n", 1)[1].replace("\n\n", "\n") for path, text in files.items()} == {
        "05-plover-br0.netdev": f"[NetDev]\nName=br0\nKind=bridge\nMACAddress={MAC}\n",
        "05-plover-br0.network": "[Match]\nName=br0\n[Network]\nAddress=192.0.2.5/24\n[Route]\nGateway=192.0.2.1\n",
        "05-plover-br0-port.network": "[Match]\nName=eth0\n[Link]\nMTUBytes=9000\n[Network]\nBridge=br0\nLinkLocalAddressing=no\n",
    }


def test_networkd_whose_own_file_would_win_is_refused():
    with pytest.raises(model.Refusal, match="00-eth.network would win over .*give it a name that sorts after it"):
        plans.join(with_networkd("/etc/systemd/network/00-eth.network"))


def test_networkmanager_gets_keyfiles_with_the_profiles_addresses():
    files = plans.join(with_networkmanager()).files
    bridge, port = (dict(networkd._sections(files[path])) for path in networkmanager.own_files("br0"))
    assert bridge["ipv4"] == ["method=manual", "address1=192.0.2.5/24,192.0.2.1"]
    assert bridge["ethernet"] == ["cloned-mac-address=" + MAC] and "zone=dmz" in bridge["connection"]
    assert {"master=br0", "slave-type=bridge", "interface-name=eth0", "autoconnect-priority=100"} <= set(port["connection"])
    assert port["ethernet"] == ["mtu=9000"]


@pytest.mark.parametrize(
    "carries, method", [([], ["method=disabled"]), ([{**ADDRESS, "dynamic": True}], ["method=auto", "dhcp-timeout=2147483647"])]
)
def test_networkmanagers_bridge_does_not_go_down_with_its_dhcp(carries, method):
    text = KEYFILE.replace("method=manual\naddress1=192.0.2.5/24,192.0.2.1", "method=auto")
    files = plans.join(with_networkmanager(text, addresses={"eth0": carries})).files
    assert dict(networkd._sections(files[networkmanager.own_files("br0")[0]]))["ipv4"] == method


def test_only_a_profile_on_disk_is_brought_up_again():
    """NetworkManager's own 'Wired connection 1' is another one after each start."""
    assert plans.join(with_networkmanager()).back_start[1][-4:] == ["uuid", "u-1", "ifname", "eth0"]
    in_memory = with_networkmanager(profile={"uuid": "u-2", "path": "/run/NetworkManager/x.nmconnection", "text": KEYFILE})
    assert plans.join(in_memory).back_start == [["nmcli", "connection", "reload"]]


def test_a_profile_that_is_no_keyfile_is_refused():
    with pytest.raises(model.Refusal, match="is no keyfile .*nmcli connection migrate"):
        plans.join(with_networkmanager(""))


def test_a_card_that_networkmanager_has_without_a_profile_keeps_its_addresses():
    routes = {"eth0": [{"dst": "default", "gateway": "192.0.2.1", "family": "-4"}]}
    files = plans.join(facts(nm_state="external", tools=["networkmanager"], routes=routes)).files
    assert "method=manual\naddress1=192.0.2.5/24\ngateway=192.0.2.1" in files[networkmanager.own_files("br0")[0]]


def undone(plan: model.Plan, before: model.Facts) -> dict:
    """The files of ``before`` after the plan's and then leave's changes."""
    after = {path: text for path, text in {**before.files, **plan.files}.items() if text is not None}
    made = {"member": "eth0", "manager": plan.manager, "files": sorted(p for p, t in plan.files.items() if t is not None)}
    joined = facts(files=after, tools=before.tools, made=made, links=in_bridge(), networkd=before.networkd, addresses={})
    assert plans.join(joined) is None, "what is made is not made again"
    return {path: text for path, text in {**after, **plans.leave(joined).files}.items() if text is not None}


def in_bridge() -> dict:
    bridge = {"mac": MAC, "master": "", "index": 3, "bridge": True}
    return {**LINKS, "br0": bridge, "eth0": {**LINKS["eth0"], "master": "br0"}}


@pytest.mark.parametrize("manager", MADE_BY)
def test_taking_it_away_gives_each_file_back_as_it_was(manager):
    before = MADE_BY[manager]()
    assert undone(plans.join(before), before) == before.files


LINES = [
    "auto eth0",
    "auto lo eth0 x",
    "iface eth0 inet dhcp",
    "    mtu 9",
    "",
    "# eth0",
    "iface x inet dhcp",
    "allow-hotplug eth0",
    "mapping eth0",
    "  up ip route add 192.0.2.0/28 dev eth0",
    "source /etc/network/interfaces.d/*",
]


@given(st.lists(st.sampled_from(LINES)))
def test_any_order_of_stanzas_comes_back_as_it_was(lines):
    before = with_ifupdown("\n".join(["source /etc/network/interfaces.d/*", *lines]))
    plan = ifupdown.join(before)
    assert undone(plan, before) == before.files
    text = plan.files.get(ifupdown.MAIN, before.files[ifupdown.MAIN])
    left = "\n".join(line for line in text.split("\n") if not line.startswith("#"))
    assert not ifupdown._stanzas(left, "eth0") and "eth0" not in ifupdown._named(left)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"links": {"lo": LINKS["lo"], "ens1": LINKS["eth0"]}}, "there is no card eth0 on this host; it has ens1"),
        ({"links": {**LINKS, "eth0": {**LINKS["eth0"], "master": "virbr0"}}}, "eth0 is in virbr0 already.*_name: virbr0"),
        ({"links": {**LINKS, "br0": LINKS["lo"]}}, "br0 is there and no bridge"),
        ({"links": {**LINKS, "eth0": {**LINKS["eth0"], "bridge": True}}}, "eth0 is itself a bridge; name the card in it"),
        ({"made": {"member": "eth9", "manager": "plover", "files": []}}, "br0 was made with eth9 by plover; remove it first"),
    ],
)
def test_what_cannot_work_is_refused_with_a_remedy(changes, said):
    with pytest.raises(model.Refusal, match=said):
        plans.join(facts(**changes))


def test_a_manager_that_does_not_run_cannot_be_named():
    with pytest.raises(model.Refusal, match="networkd does not run on this host; it has ifupdown"):
        plans.join(with_ifupdown(), "networkd")


def test_the_units_own_bridge_is_not_made_of_a_card_that_a_manager_would_take_back():
    with pytest.raises(model.Refusal, match="networkmanager has eth0 and would take it out"):
        plans.join(with_networkmanager(), "plover")


def test_somebody_elses_bridge_with_the_card_in_it_is_good_as_it_is():
    assert plans.join(facts(links=in_bridge(), addresses={})) is None
    assert plans.leave(facts(links=in_bridge(), addresses={})) is None


def test_without_a_card_the_bridge_must_be_there_already():
    assert plans.join(model.Facts("br0", "", links=in_bridge())) is None
    with pytest.raises(model.Refusal, match="_member: is missing, and there is no bridge br0 on this host; name"):
        plans.join(model.Facts("br0", "", links=LINKS))


def test_a_bridge_of_version_0_1_is_taken_over():
    conf = "# Ansible managed\nBRIDGE=br0\nMEMBER=eth0\n"
    plan = plans.join(facts(links=in_bridge(), addresses={}, files={own.CONF: conf}))
    assert plan.manager == "plover" and list(plan.files) == ["/etc/plover/bridges.d/br0.json"]


def test_a_file_that_went_missing_is_made_again():
    before = with_ifupdown()
    plan = plans.join(before)
    made = {"member": "eth0", "manager": "ifupdown", "files": sorted(plan.files)}
    there = {ifupdown.MAIN: plan.files[ifupdown.MAIN]}
    again = plans.join(facts(files=there, tools=["ifupdown"], made=made, links=in_bridge(), addresses={}))
    assert again.files[ifupdown.own_file("br0")] == plan.files[ifupdown.own_file("br0")]


def test_a_bridge_that_still_has_taps_is_not_taken_away():
    links = {**in_bridge(), "plover0": {"mac": "", "master": "br0", "index": 9, "bridge": False}}
    with pytest.raises(model.Refusal, match="br0 still has plover0; stop its VMs first"):
        plans.leave(facts(links=links, made={"member": "eth0", "manager": "plover", "files": []}))


def test_only_the_last_bridge_of_the_unit_disables_it():
    other = own.FOLDER + "br1.json"
    assert own.leave(facts(files={other: "{}"})).start == []
    assert own.leave(facts()).start[0] == ["systemctl", "disable", "plover-bridge.service"]
    assert own.leave(facts()).back_start == own.join(facts()).start, "an uninstall that is undone makes the bridge again"


def test_what_dhcp_gave_is_not_noted_as_the_cards_own():
    plan = own.join(facts(addresses={"eth0": [ADDRESS, {**ADDRESS, "local": "192.0.2.9", "dynamic": True}]}))
    assert "192.0.2.5" in plan.files[own.own_file("br0")] and "192.0.2.9" not in plan.files[own.own_file("br0")]
