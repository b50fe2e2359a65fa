# SPDX-License-Identifier: GPL-3.0-or-later
"""The fuzzer finds what it is there for: an undocumented error, a broken promise, an input that takes too long or too much."""

from __future__ import annotations

import ast
import json
import random
import resource
import types

import pytest

from tests.fuzz import engine, mutate, trail, worker
from tests.fuzz.target import Target, promise


class Refused(Exception):
    """The documented error."""


def target(run, **more):
    return Target("toy", run, (Refused,), lambda: iter(()), **more)


def found(tmp_path, run, seed=b"", executions=4000, **more):
    """Cases that a fuzzer makes in so many executions."""
    fuzzer = engine.Fuzzer(target(run, **more), "1", cases=tmp_path)
    fuzzer.corpus = [seed]
    while fuzzer.executions < executions and not fuzzer.cases:
        fuzzer._look(fuzzer._next(), new=True)
    return [(path.name, path.read_bytes()) for path in fuzzer.cases]


def test_an_undocumented_error_becomes_a_case_which_is_short(tmp_path):
    def run(data):
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise Refused("no JSON") from None
        if isinstance(value, dict):
            value["status"]

    ((name, data),) = found(tmp_path, run, b'{"status": "running", "more": [1, 2, 3]}', is_json=True)
    assert name == "KeyError" and isinstance(json.loads(data), dict) and len(data) < 20


def test_a_broken_promise_becomes_a_case(tmp_path):
    ((name, _data),) = found(tmp_path, lambda data: promise(b"\xff" not in data, "no such byte"), bytes(16))
    assert name.startswith("Broken-")


def test_the_documented_error_is_no_crash_unless_its_text_would_spoil_a_log(tmp_path):
    def refuse(text):
        raise Refused(text)

    assert engine.crash(target(lambda data: refuse("not understood")), b"") == ""
    for text in ("one\ntwo", "\x1b[2J", "\ud800", "x" * 100_000, ""):
        assert engine.crash(target(lambda data, text=text: refuse(text)), b"").startswith("Broken-")
    assert engine.crash(target(lambda data: refuse("one\ntwo"), lines=True), b"") == ""


def test_an_input_that_takes_too_long_is_a_crash_even_if_every_exception_is_caught(monkeypatch):
    def endless(data):
        while True:
            try:
                sum(range(1000))
            except Exception:
                pass

    monkeypatch.setattr(engine, "CPU_S_MAX", 0.05)
    assert engine.crash(target(endless), b"") == "overtime"
    assert engine.crash(target(lambda data: None), b"") == ""


def test_an_input_that_takes_too_much_memory_is_a_crash(monkeypatch):
    monkeypatch.setattr(engine, "MEMORY_KIB_MAX", 0)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) + (16 << 20)  # than the process ever had
    assert engine.crash(target(lambda data: len(bytearray(b"x") * more) and None), b"") == "memory"


def test_chance_is_the_seed_alone():
    def inputs(seed):
        rng = random.Random(seed)
        return [mutate.stacked(rng, b'{"a": [1, 2]}', [b"other"], [b"word"], True, 200) for _n in range(300)]

    assert inputs(1) == inputs(1) != inputs(2)
    assert max(map(len, inputs(1))) <= 200


MARKED = """
def f(x):
    '''Its documentation.'''
    if x > 3 and x < 9:
        return "a"
    return [y for y in range(x) if y]
"""


def test_the_marks_tell_ways_through_the_code_apart_and_change_nothing():
    module = types.ModuleType("marked")
    tree = ast.fix_missing_locations(trail._Marks().visit(ast.parse(MARKED)))
    setattr(__import__("builtins"), trail.NAME, trail._trail.append)
    exec(compile(tree, "marked", "exec"), module.__dict__)
    assert module.f.__doc__ == "Its documentation." and module.f(5) == "a" and module.f(3) == [1, 2]
    ways = []
    for x in (5, 0, 2, 10):
        trail.clear()
        module.f(x)
        ways.append(trail.edges())
    assert ways[0] != ways[1] and ways[1] != ways[2] and ways[3] != ways[2]
    assert trail.edges() == ways[3]


@pytest.mark.parametrize("names, jobs, parts", [(["a", "b", "c"], 2, 2), (["a"], 2, 2), (["a"], 1, 1), (["a", "b"], 5, 2)])
def test_processes_share_the_targets(names, jobs, parts):
    shared = worker.shares(names, "seed", jobs)
    assert len(shared) == parts and {name for part, _seed in shared for name in part} == set(names)
    assert len(names) > 1 or len({seed for _part, seed in shared}) == parts
