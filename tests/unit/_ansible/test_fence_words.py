# SPDX-License-Identifier: GPL-3.0-or-later
"""A password on the fence agent's command line is found, refused and not shown; nothing else is taken for one."""

from __future__ import annotations

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible import fence_words
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout.vms import problems
from ansible_collections.plover.vmft.plugins.modules.plover_info import shown

PLAIN = [
    ["/usr/local/sbin/fence", "{host}", "{address}"],
    ["/usr/sbin/fence_ipmilan", "--ip={address}", "--password-script=/etc/plover/word", "-P", "-n", "{host}"],
    ["/usr/local/sbin/off", "-p", "22", "--pass-through", "/etc/secret"],
    [],
]


@pytest.mark.parametrize("words", PLAIN)
def test_other_words_are_left_alone(words):
    assert fence_words.secrets_in(words) == [] and fence_words.without_secrets(words) == words


@pytest.mark.parametrize(
    ("words", "hidden"),
    [
        (["/usr/sbin/fence_x", "--password", "hush", "-n", "a"], ["/usr/sbin/fence_x", "--password", "********", "-n", "a"]),
        (["/usr/sbin/fence_x", "--password=hush=1", "-a"], ["/usr/sbin/fence_x", "--password=********", "-a"]),
        (["/usr/sbin/fence_x", "-p", "hush"], ["/usr/sbin/fence_x", "-p", "********"]),
        (["/usr/sbin/fence_x", "-phush"], ["/usr/sbin/fence_x", "********"]),
        (["/usr/sbin/fence_x", "-p", "-phush"], ["/usr/sbin/fence_x", "-p", "********"]),
        (["/off", "passwd=hush"], ["/off", "passwd=********"]),
        (["/off", "--snmp-priv-passwd", "--password"], ["/off", "--snmp-priv-passwd", "********"]),
        (["/off", "--API-KEY", "hush", "--token=hush"], ["/off", "--API-KEY", "********", "--token=********"]),
    ],
)
def test_a_password_is_not_shown(words, hidden):
    assert fence_words.without_secrets(words) == hidden
    vm = {"name": "demo", "settings": {"fence_command": words, "port": 1}}
    assert shown(vm) == {"name": "demo", "settings": {"fence_command": hidden, "port": 1}}


def test_the_prechecks_refuse_it_and_name_the_place_for_it():
    vm = {"settings": {"fence_command": ["/usr/sbin/fence_x", "--password=hush", "-p", "hush"]}}
    said = [text for text in problems("plover_vms[0]", vm, {}, {}, lambda path: b"") if "password" in text]
    assert [text.partition(" is a password")[0] for text in said] == [
        "plover_vms[0].settings.fence_command: word 2",
        "plover_vms[0].settings.fence_command: word 4",
    ]
    assert all("put it into plover_vms[0].fence_input" in text and "hush" not in text for text in said)


def test_the_command_that_is_told_of_events_gets_none_either():
    command = ["/usr/local/sbin/tell", "--token", "hush", "degraded"]
    vm = {"settings": {"on_event_command": command}}
    assert shown(vm) == {"settings": {"on_event_command": ["/usr/local/sbin/tell", "--token", "********", "degraded"]}}
    said = [text for text in problems("plover_vms[0]", vm, {}, {}, lambda path: b"") if "password" in text]
    assert said == [
        "plover_vms[0].settings.on_event_command: word 3 is a password, which each local user of the host could read; let the command "
        "read it from a file of its own"
    ]


@pytest.mark.parametrize("command", ["--password=hush", {"--password": "hush"}, 7])
def test_what_is_no_list_is_refused_without_being_quoted(command):
    said = problems("plover_vms[0]", {"settings": {"fence_command": command}}, {}, {}, lambda path: b"")
    found = [text for text in said if "fence_command" in text]
    assert found == ["plover_vms[0].settings.fence_command: must be a list of words, like [/usr/local/sbin/fence, '{host}', '{address}']"]


@pytest.mark.parametrize(
    ("text", "fits"), [("passwd=hush\nplug={host}\n", True), ("", False), ("a\0b", False), (["a"], False), ("é" * 2049, False)]
)
def test_the_agents_input_is_bounded_text(text, fits):
    said = [text for text in problems("plover_vms[0]", {"fence_input": text}, {}, {}, lambda path: b"") if "fence_input" in text]
    assert said == ([] if fits else ["plover_vms[0].fence_input: must be lines of text, like passwd=…, of at most 4096 bytes in all"])
