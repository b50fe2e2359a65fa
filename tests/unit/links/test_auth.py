# SPDX-License-Identifier: GPL-3.0-or-later
"""Members prove to each other that they know the VM's secret: over real TCP, with the daemons' own links."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plover.config.settings import Config
from plover.errors import ConfigError, WireError
from plover.links import auth, link, peers
from plover.links.peers import PeerLinks
from plover.protocol import codec, wire
from settings import MEMBERS, settings
from test_peers import TAG, closed, free_port, hello, sent, until

A, B, C = "a" * 64, "b" * 64, "c" * 64


def write(path, *lines, mode=0o600):
    path.write_text("\n".join(lines) + "\n")
    path.chmod(mode)
    return path


class Member:
    def __init__(self, name, port, secret_file):
        self.heard, self.up, self.down = [], [], []
        config = Config(settings(name, port=port, secret_file=str(secret_file)))
        self.links = PeerLinks(
            config,
            lambda *m: self.heard.append(m),
            lambda member, channel, timing: self.up.append((member, channel)),
            lambda *key: self.down.append(key),
            lambda: None,
        )


async def linked(tmp_path, ours, theirs):
    """primary, who dials, with the lines ``ours``, and witness: (primary, witness) after both had time to talk."""
    port = free_port()
    primary = Member("primary", port, write(tmp_path / "primary", *ours))
    witness = Member("witness", port, write(tmp_path / "witness", *theirs))
    await witness.links.start()
    await primary.links.start()
    return primary, witness


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(peers, "RETRY_S", 0.01)


async def refused(caplog, times=4):
    """Wait until links were refused so often: the dialler came back, and fared no better."""
    await until(lambda: caplog.text.count("refused: ") >= times)


async def end(*members):
    for member in members:
        await member.links.stop()


@pytest.mark.parametrize(("ours", "theirs"), [([A], [A]), ([A, B], [B, A]), ([B, A], [A, B]), ([A, B], [A]), ([A], [C, A, B])])
def test_who_knows_one_anothers_secret_is_linked_and_heard(tmp_path, caplog, ours, theirs):
    async def run():
        primary, witness = await linked(tmp_path, ours, theirs)
        proved_by_each = ours[0] in theirs and theirs[0] in ours
        if proved_by_each:
            await until(lambda: primary.up and witness.up)
            primary.links.send("witness", wire.CONTROL, wire.TransferLeadership(4))
            await until(lambda: witness.heard == [("primary", wire.CONTROL, wire.TransferLeadership(4))])
            assert primary.links.authenticated() == {"witness": True}
            assert witness.links.authenticated() == {"primary": True}
        else:
            await refused(caplog)
            assert witness.links.authenticated() == {} or primary.links.authenticated() == {}
        await end(primary, witness)

    asyncio.run(run())


@pytest.mark.parametrize(("ours", "theirs"), [([A], [B]), ([A, C], [B, C])])
def test_who_does_not_is_refused_for_good_and_told_why(tmp_path, caplog, ours, theirs):
    async def run():
        primary, witness = await linked(tmp_path, ours, theirs)
        await refused(caplog)
        assert (primary.up, witness.up) == ([], [])
        await end(primary, witness)

    asyncio.run(run())
    assert "does not know this host's secret; run the deploy play" in caplog.text
    assert A not in caplog.text and B not in caplog.text


def test_a_secret_is_rotated_in_three_rounds_and_every_new_link_succeeds(tmp_path):
    rounds = [[A], [A, B], [B, A], [B]]

    async def run():
        primary, witness = await linked(tmp_path, rounds[0], rounds[0])
        await until(lambda: primary.up and witness.up)
        for lines in rounds[1:]:
            for name in ("primary", "witness"):
                write(tmp_path / name, *lines)
                ups = len(primary.up)
                primary.links.close("witness")
                await until(lambda: len(primary.up) == ups + 1)  # noqa: B023 (awaited in this very turn)
        assert primary.links.authenticated() == {"witness": True}
        await end(primary, witness)

    asyncio.run(run())


def test_a_member_without_a_secret_is_let_in_only_while_it_is_open(tmp_path, caplog):
    async def run():
        port = free_port()
        witness = Member("witness", port, write(tmp_path / "witness", A))
        await witness.links.start()
        primary = PeerLinks(Config(settings("primary", port=port)), *[lambda *_: None] * 4)
        await primary.start()
        await refused(caplog)
        assert witness.up == []
        write(tmp_path / "witness", A, "open")
        await until(lambda: witness.up == [("primary", wire.CONTROL)])
        assert witness.links.authenticated() == {"primary": False}
        await primary.stop()
        await end(witness)

    asyncio.run(run())


async def answer(tmp_path, *messages, proof_of=None):
    """The ``witness`` (secret A) once it let in or closed the connection of one who dials and says this."""
    witness = Member("witness", free_port(), write(tmp_path / "witness", A))
    await witness.links.start()
    reader, writer = await asyncio.open_connection(MEMBERS["witness"]["address"], witness.links.config.port)
    out = b"".join(sent(message) for message in messages)
    writer.write(out)
    if proof_of:
        theirs = next(iter(codec.Decoder(TAG).feed(await reader.read(65_536)))).payload
        writer.write(sent(wire.Proof(proof_of(bytes(messages[0].payload), bytes(theirs)))))
    over = asyncio.ensure_future(closed(reader))
    await until(lambda: witness.up or over.done())
    over.cancel()
    writer.close()
    await witness.links.stop()
    return witness


NONCE = "0" * 32


@pytest.mark.parametrize(
    "messages",
    [
        [hello()],
        [hello(nonce=NONCE)],
        [hello(nonce=NONCE), wire.TransferLeadership(9)],
        [hello(nonce=NONCE), wire.Proof(b"")],
        [hello(nonce=NONCE), wire.Proof(bytes(32))],
        [hello(nonce=7)],
        [hello(nonce="x" * 32)],
        [hello(nonce=[])],
        [hello(nonce=NONCE), wire.Proof(bytes(100_000))],
        [hello(nonce=NONCE), wire.PipeReady()],
    ],
    ids=lambda m: str(len(m)),
)
def test_without_a_good_proof_nothing_is_heard(tmp_path, monkeypatch, messages):
    monkeypatch.setattr(link, "HELLO_TIMEOUT_S", 0.2)  # who never gives a proof is closed then
    witness = asyncio.run(answer(tmp_path, *messages))
    assert (witness.up, witness.heard) == ([], [])


def prove(secret, prover="primary"):
    def of(dialler, acceptor):
        session = auth.Session(auth.Secrets((secret.encode(),), False), prover)
        return session.greeted("witness", NONCE, dialler, acceptor)

    return of


def test_the_right_proof_is_let_in_and_anothers_is_not(tmp_path):
    greeting = hello(nonce=NONCE)
    assert asyncio.run(answer(tmp_path, greeting, proof_of=prove(A))).up == [("primary", wire.CONTROL)]
    assert asyncio.run(answer(tmp_path, greeting, proof_of=prove(B))).up == []
    # The acceptor's own proof sent back to it.
    assert asyncio.run(answer(tmp_path, greeting, proof_of=prove(A, "witness"))).up == []


def test_a_proof_is_worth_nothing_on_another_link():
    known = auth.Secrets((A.encode(),), False)
    first, second = (auth.Session(known, "witness") for _ in range(2))
    prover = auth.Session(known, "primary")
    dialler = json.dumps({"nonce": prover.nonce}).encode()
    hellos = [json.dumps({"nonce": session.nonce}).encode() for session in (first, second)]
    proof = prover.greeted("witness", first.nonce, dialler, hellos[0])
    for session, theirs in ((first, hellos[0]), (second, hellos[1])):
        session.greeted("primary", prover.nonce, dialler, theirs)
    first.verify(proof)
    with pytest.raises(WireError, match="does not know"):
        second.verify(proof)
    with pytest.raises(WireError, match="not asked for"):
        first.verify(proof)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has 0 secrets"),
        ("# open\n", "has 0 secrets"),
        ("opened\n", "secret 1 must be 32 to 256"),
        ("short\n", "secret 1 must be 32 to 256"),
        (f"{A}\n{B} \u00e9\n", "secret 2 must be"),
        ("\n".join(c * 40 for c in "abcdefghi"), "has 9 secrets"),
    ],
)
def test_a_file_that_is_no_such_is_refused_without_quoting_it(tmp_path, text, says):
    path = write(tmp_path / "secret", text)
    with pytest.raises(ConfigError, match=says) as error:
        auth.read(path)
    assert A not in str(error.value)


def test_a_file_that_others_can_read_or_that_is_missing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="chmod 600"):
        auth.read(write(tmp_path / "secret", A, mode=0o640))
    with pytest.raises(ConfigError, match=r"secret_file: .* is missing"):
        auth.read(tmp_path / "none")
    with pytest.raises(ConfigError, match="over 4096 bytes"):
        auth.read(write(tmp_path / "big", A * 100))


def test_only_the_word_itself_makes_a_group_open(tmp_path):
    assert auth.read(write(tmp_path / "secret", "# for a test", "open")) == auth.Secrets((), True)


def test_without_a_file_a_member_does_not_start_and_one_that_runs_refuses_all(tmp_path, caplog):
    async def run():
        primary, witness = await linked(tmp_path, [A], [A])
        await until(lambda: primary.up and witness.up)
        (tmp_path / "witness").unlink()
        primary.links.close("witness")
        await refused(caplog)
        assert len(witness.up) == 1
        with pytest.raises(ConfigError, match=r"secret_file: .* is missing, and without a secret anybody could join; run the deploy"):
            await Member("secondary", free_port(), tmp_path / "none").links.start()
        await end(primary, witness)

    asyncio.run(run())


@given(st.text(max_size=300))
def test_any_text_is_secrets_or_refused(text):
    try:
        found = auth.parse(text, "here")
    except ConfigError:
        return
    assert (found.known or found.is_open) and len(found.known) <= auth.SECRETS_MAX and all(len(secret) >= 32 for secret in found.known)
