# SPDX-License-Identifier: GPL-3.0-or-later
"""The rounds in which secrets come to the members: at any moment, whoever dials is accepted by whoever listens."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "plugins" / "module_utils"))
from _ansible.secrets import OPEN, lines_of, looked, plan, rounds

A, B, C, NEW = "a" * 32, "b" * 32, "c" * 32, "n" * 64
lists = st.lists(st.sampled_from([A, B, C]), unique=True, max_size=3)


def made():
    return NEW


def everywhere(texts):
    """The lines of each round, which are the same on all members."""
    assert all(len(set(one)) == 1 for one in texts)
    return [lines_of(one[0]) for one in texts]


def accepts(listener, dialler):
    """As auth.Session does: the first secret proves, each is accepted; without one, only who is open lets in."""
    if not dialler or not listener:
        return OPEN in listener or OPEN in dialler or not (listener or dialler)
    mine, theirs = ([line for line in lines if line != OPEN] for lines in (listener, dialler))
    return theirs[0] in mine and mine[0] in theirs


def test_a_fresh_vm_gets_one_secret_and_is_closed():
    assert everywhere(rounds(["", "", ""], fresh=True, new=made)) == [[NEW]] * 3


def test_what_is_there_stays():
    texts = rounds(["", "", ""], fresh=True, new=made)[2]
    assert rounds(texts, new=made) == rounds(texts, given=NEW, new=made) == [texts] * 3


def test_a_replaced_member_gets_the_others_secret_and_nothing_is_opened():
    texts = rounds(["", "", ""], fresh=True, new=made)[2]
    assert rounds([texts[0], "", texts[2]], new=lambda: "x" * 64) == [texts] * 3


def test_a_running_vm_without_secrets_is_open_until_all_have_proved_themselves():
    texts = rounds(["", "", ""], new=made)
    assert everywhere(texts) == [[NEW, OPEN]] * 3
    assert rounds(texts[2], new=made) == texts
    assert everywhere(rounds(texts[2], proven=True, new=made))[2] == [NEW]


def test_a_rotation_makes_a_new_one_and_a_given_one_wins():
    assert everywhere(rounds([A, A, A], rotate=True, new=made)) == [[A, NEW], [NEW, A], [NEW]]
    assert everywhere(rounds([A, A, A], given=B, rotate=True, new=made)) == [[A, B], [B, A], [B]]


def linked_now(files):
    return all(accepts(lines_of(a), lines_of(b)) for i, a in enumerate(files) for b in files[i + 1 :])


@given(st.permutations([A, B, C]), st.booleans(), st.sampled_from(["", A, NEW]), st.booleans(), st.permutations([0, 1, 2]))
def test_a_change_at_any_moment_refuses_nobody_who_was_linked(order, is_open, given_one, rotate, who):
    """Members are written one after the other in any order; from a state that a change may have been broken off in."""
    for start in (
        [order[:1]] * 3,
        [order[:2], order[:2], order[:2]],
        [order[:2], order[:2], order[:1]],
        [order[:2], [order[1], order[0]], order[:2]],
    ):
        files = ["\n".join([*lines, *([OPEN] if is_open else [])]) for lines in start]
        assert linked_now(files)
        for texts in rounds(files, given=given_one, rotate=rotate, new=made):
            for member in who:
                files[member] = texts[member]
                assert linked_now(files), (start, files)
        assert len(lines_of(files[0])) == 1 + is_open
        assert files[0] == files[1] == files[2]


@given(lists, lists, lists, st.booleans(), st.booleans())
def test_whatever_was_there_ends_with_one_secret_everywhere(one, two, three, fresh, proven):
    texts = rounds(["\n".join(x) for x in (one, two, three)], fresh=fresh, proven=proven, new=made)
    assert [len([line for line in lines_of(text) if line != OPEN]) for text in texts[2]] == [1, 1, 1]


@pytest.mark.parametrize(
    ("said", "text", "deployed", "proven"),
    [
        ("", "", False, False),
        (None, "", False, False),
        ("%folder\n%deployed\n", "", True, False),
        (f"%folder\n%deployed\n%proven\n# x\n{A}\nopen\n", f"# x\n{A}\nopen", True, True),
    ],
)
def test_what_a_host_says_is_read(said, text, deployed, proven):
    assert looked(said) == {"text": text, "deployed": deployed, "proven": proven}


def test_each_vm_has_its_own_members_and_its_own_secret():
    vms = [
        {"name": "one", "primary": "a", "secondary": "b", "witness": "c"},
        {"name": "two", "primary": "b", "secondary": "d", "witness": "c", "secret": B},
    ]
    looks = {"a": {"one": f"%deployed\n{A}"}, "b": {"one": f"%deployed\n{A}", "two": ""}, "c": {"one": f"%deployed\n{A}"}}
    out = plan(vms, looks)
    assert {name: {host: lines_of(texts[2]) for host, texts in hosts.items()} for name, hosts in out.items()} == {
        "one": dict.fromkeys("abc", [A]),
        "two": dict.fromkeys("bdc", [B]),
    }
