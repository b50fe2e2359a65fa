# SPDX-License-Identifier: GPL-3.0-or-later
"""The judges of the fault runner: who may speak, what is lost, how long it took; on good and on bad traces."""

from __future__ import annotations

import pytest

from lab.chaos import history, result
from lab.chaos.__main__ import chosen
from lab.chaos.history import History, gap_ms
from lab.chaos.result import Round, percentile
from lab.chaos.runner import CELLS, plan
from lab.chaos.voices import VIOLATIONS_MAX, Frame, Term, first_after, source_filter, spoke_between, violations
from lab.linearizable import CAS, READ, UNKNOWN, WRITE, Op

A, B = "primary", "secondary"
TERMS = [Term(1, A, 0.0), Term(2, B, 10.0)]


def frames(*seen: tuple[float, str]) -> list[Frame]:
    return [Frame(*one) for one in seen]


# ---- voices -----------------------------------------------------------------------------------------------------
def test_a_failover_in_which_the_old_leader_falls_silent_is_one_voice():
    assert violations(frames((1, A), (9.9, A), (10.2, B), (30, B)), TERMS) == []


def test_a_frame_of_the_old_leader_after_the_new_one_spoke_is_a_second_voice():
    [said] = violations(frames((1, A), (10.2, B), (10.3, A), (10.4, B)), TERMS)
    assert said == "a frame from primary at 10.300000, after secondary had spoken in view 2 at 10.200000"


def test_the_old_leader_may_speak_until_the_new_one_does():
    assert violations(frames((10.1, A), (10.2, B)), TERMS) == []


def test_the_old_leader_may_speak_again_once_it_was_elected_again_and_not_earlier():
    terms = [*TERMS, Term(3, A, 20.0)]
    assert violations(frames((1, A), (11, B), (20.1, A), (21, A)), terms) == []
    assert len(violations(frames((1, A), (11, B), (15, A), (20.1, A)), terms)) == 1
    assert len(violations(frames((1, A), (11, B), (20.1, A), (20.2, B)), terms)) == 1


def test_a_late_journal_is_forgiven_but_only_so_much():
    assert violations(frames((1, A), (9.5, B)), TERMS, lag_s=1.0) == []
    assert len(violations(frames((1, A), (8.5, B)), TERMS, lag_s=1.0)) == 1


def test_quick_elections_within_the_journal_s_lag_are_no_violation():
    terms = [Term(1, A, 0.0), Term(2, B, 10.0), Term(3, A, 10.3), Term(4, B, 10.6)]
    assert violations(frames((9.9, A), (10.1, B), (10.4, A), (10.7, B)), terms) == []
    assert len(violations(frames((9.9, A), (10.1, B), (10.4, A), (10.7, B), (10.8, A)), terms)) == 1


def test_a_leader_that_was_deposed_unheard_and_comes_back_in_a_later_view():
    assert violations(frames((1, A), (21, A)), [*TERMS, Term(3, A, 20.0)]) == []


def test_two_leaders_in_one_view_and_a_voice_nobody_elected_are_found():
    assert violations([], [Term(2, A, 1.0), Term(2, B, 2.0)]) == ["two leaders in view 2: primary at 1.000000 and secondary at 2.000000"]
    assert violations(frames((1, "witness")), TERMS) == ["a frame from witness at 1.000000, which led no view by then"]


def test_frames_are_judged_in_the_order_of_their_times():
    assert violations(frames((10.2, B), (1, A)), TERMS) == []


def test_many_violations_are_counted_and_not_all_told():
    out = violations([Frame(10.2, B), *(Frame(11 + n / 100, A) for n in range(500))], TERMS)
    assert len(out) == VIOLATIONS_MAX + 1 and out[-1] == f"... and {500 - VIOLATIONS_MAX} more"


def test_a_thawed_leader_must_not_send_one_frame_even_if_the_new_one_was_silent_so_far():
    assert spoke_between(frames((9, A), (14.1, B)), TERMS, A, 14.0, 30.0) == []
    assert spoke_between(frames((9, A), (14.001, A)), TERMS, A, 14.0, 30.0) == [
        "primary, deposed in view 2, came back at 14.000000 and sent a frame at 14.001000"
    ]


def test_a_host_that_thaws_as_leader_or_is_elected_again_may_speak():
    assert spoke_between(frames((14, B)), TERMS, B, 13.0, 30.0) == []
    assert spoke_between(frames((20.1, A)), [*TERMS, Term(3, A, 20.0)], A, 14.0, 30.0) == []


def test_the_way_of_a_failover_is_told_from_the_fault_on():
    terms = [*TERMS, Term(3, A, 20.0)]
    assert first_after(frames((9.8, A), (10.05, B), (10.3, B)), terms, 9.9) == {"elected_ms": 100, "first_frame_ms": 150}
    assert first_after(frames((1, A)), terms, 9.9) == {} == first_after(frames((30, A)), terms, 25.0)


def test_the_filter_holds_the_address():
    program = source_filter("52:54:00:70:6c:01")
    assert len(program) == 8 * 8
    assert (0x52540070).to_bytes(4, "little") in program and (0x6C01).to_bytes(4, "little") in program
    with pytest.raises(ValueError, match="hex"):
        source_filter("no address")


# ---- clients ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("times", "begin", "end", "gap"),
    [
        ([1.0, 1.1, 1.2, 2.0, 2.1], 1.15, 2.1, 800),
        ([1.0, 1.1, 1.2, 2.0, 2.1], 1.3, 1.4, 800),  # the silence was there already, and went on
        ([1.0, 5.0, 5.1, 5.2], 5.05, 5.2, 100),  # what was before the fault is not its doing
        ([1.0, 1.1], 1.0, 4.1, 3000),  # nobody was answered until the end
        ([], 1.0, 4.0, 3000),
    ],
)
def test_the_outage_is_the_longest_silence_that_touches_the_fault(times, begin, end, gap):
    assert gap_ms(times, begin, end) == gap


def test_a_good_history_has_no_losses_and_survives_its_file(tmp_path):
    ops = [
        Op(0, "k", WRITE, 0.0, 1.0, "a"),
        Op(1, "k", CAS, 2.0, 3.0, "b", "a", True),
        Op(1, "k", WRITE, 3.5, UNKNOWN, "c"),
        Op(0, "k", READ, 4.0, 5.0, result="b"),
    ]
    seen = History(ops, [1.0, 3.0, 5.0], [2.0], 4, 1, 1, [], 1000)
    history.dump(seen, tmp_path / "history.json")
    assert history.load(tmp_path / "history.json") == seen
    assert history.losses(seen) == []


def test_a_write_that_was_acknowledged_and_is_gone_is_a_loss():
    ops = [Op(0, "k", WRITE, 0.0, 1.0, "a"), Op(0, "k", WRITE, 2.0, 3.0, "b"), Op(-1, "k", READ, 4.0, 5.0, result="a")]
    [said] = history.losses(History(ops, [], []))
    assert "not linearizable" in said
    assert history.losses(History([], [], [], ledger_lost=["l1"])) == ["acknowledged and not there: l1"]


# ---- result -----------------------------------------------------------------------------------------------------
def a_round(number: int, outage_ms: int, **changes) -> Round:
    return Round(number, "freeze", "leader", outage_ms, [], [], True, 9.0, {})._replace(**changes)


def test_percentiles_are_values_that_occurred():
    assert percentile([30, 10, 20], 50) == 20 and percentile([10, 20], 50) == 10
    assert percentile(list(range(1, 101)), 99) == 99 and percentile([5], 99) == 5
    assert percentile([1, 2, 900], 99) == 900


def test_the_result_has_the_promised_keys_and_counts():
    rounds = [
        a_round(1, 200),
        a_round(2, 400, lost=["x", "y"]),
        a_round(3, 300, violations=["z"]),
        a_round(4, 10, role="witness", protected=False),
    ]
    out = result.summary(rounds)
    assert out == {
        "rounds": 4,
        "lost": 2,
        "violations": 1,
        "unprotected_at_end": 1,
        "faults": {
            "freeze/leader": {"rounds": 3, "outage_ms_p50": 300, "outage_ms_p99": 400},
            "freeze/witness": {"rounds": 1, "outage_ms_p50": 10, "outage_ms_p99": 10},
        },
    }
    lines = result.table(rounds).splitlines()
    assert lines[1].split() == ["freeze/leader", "3", "300", "400", "2", "1", "0"]
    assert lines[-1].split() == ["all", "4", "200", "400", "2", "1", "1"]


@pytest.mark.parametrize("changes", [{"lost": ["x"]}, {"violations": ["x"]}, {"protected": False}])
def test_one_bad_round_makes_the_result_bad(changes):
    assert result.good(result.summary([a_round(1, 5)])) and a_round(1, 5).good
    bad = a_round(2, 5, **changes)
    assert not bad.good and not result.good(result.summary([a_round(1, 5), bad]))


def test_no_round_at_all_is_not_a_good_result():
    assert not result.good(result.summary([])) and result.table([]).startswith("fault / role")


# ---- the plan ---------------------------------------------------------------------------------------------------
def test_every_cell_comes_once_before_any_comes_again_and_a_seed_fixes_the_order():
    order = plan(2 * len(CELLS), 7, CELLS)
    assert sorted(order[: len(CELLS)]) == sorted(CELLS) == sorted(order[len(CELLS) :])
    assert plan(100, 7, CELLS) == plan(100, 7, CELLS) != plan(100, 8, CELLS)


def test_one_cell_or_one_row_can_be_chosen_and_what_is_not_there_is_refused():
    assert chosen("power-loss", "leader") == [("power-loss", "leader")]
    assert {fault for fault, _ in chosen("freeze", "")} == {"freeze"}
    with pytest.raises(SystemExit, match="switchover: leader"):
        chosen("switchover", "witness")
