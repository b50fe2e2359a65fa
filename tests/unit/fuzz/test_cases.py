# SPDX-License-Identifier: GPL-3.0-or-later
"""All inputs that once broke a promise, and the corpus, replayed: each decoder takes them or refuses them as documented.
Those of the C library are replayed under the sanitizers, by ``make -C native replay``.
"""

from __future__ import annotations

import pytest

from tests.fuzz import engine, native, seeds, target
from tests.fuzz.targets import TARGETS

FILES = [path for base in (engine.CASES, engine.CORPUS) for path in sorted(base.glob("*/*"))]


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name != native.NAME], ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_decoder_keeps_its_promise(path):
    target.run(TARGETS[path.parent.name], path.read_bytes())


def test_each_target_has_a_corpus_and_each_corpus_a_target():
    assert {path.name for path in engine.CORPUS.iterdir()} == {*TARGETS, native.NAME}
    assert {path.name for path in engine.CASES.iterdir()} <= {*TARGETS, native.NAME}


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_corpus_has_what_the_script_writes(name):
    there = {path.name for path in (engine.CORPUS / name).iterdir()}
    assert {f"{seeds.PREFIX}{seed}" for seed, _data in TARGETS[name].seeds()} <= there


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_target_takes_a_real_message(name):
    """Otherwise it would look at refusals only. (A proof cannot be guessed, so no greeting is taken whole.) What is in the corpus to the
    letter was looked at above; the first of it that is taken will do."""
    made, there = [data for _seed, data in TARGETS[name].seeds()], engine.folder(engine.CORPUS, TARGETS[name])
    taken = [target.run(TARGETS[name], data) for data in made if data not in there]
    assert (any(taken) or any(target.run(TARGETS[name], data) for data in made)) == (name != "greeting")
