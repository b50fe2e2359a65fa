# SPDX-License-Identifier: GPL-3.0-or-later
"""The log in the journal's own protocol, to a real socket of this test's: priorities, fields, what does not fit, and no journal."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
from plover.core.told_events import MESSAGE_IDS, Standing, ToldEvents, fields, sentence
from plover.host import journal
from plover.host.journal import MESSAGE_BYTES_MAX, NOTICE, Journal, Prefixed, encode, priority
from settings import settings

from lab.paths import ROOT

CATALOG = ROOT / "roles" / "runtime" / "files" / "plover.catalog"
LEVELS = {logging.DEBUG: 7, logging.INFO: 6, NOTICE: 5, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def decode(data):
    """The entry, as systemd-journald reads it."""
    out = {}
    while data:
        line, _end, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(data[:8], "little")
            value, rest = data[8 : 8 + length], data[8 + length :]
            assert rest[:1] == b"\n"
            data = rest[1:]
        out[name.decode()] = value.decode()
    return out


@pytest.fixture
def place(folder):
    """A journal's socket: (path, function that returns the entries that came)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(folder / "journal"))
        sock.setblocking(False)

        def came():
            out = []
            try:
                while True:
                    out.append(decode(sock.recv(1 << 20)))
            except BlockingIOError:
                return out

        yield str(folder / "journal"), came


@pytest.fixture
def logger():
    out = logging.Logger("of-this-test")
    yield out
    for handler in out.handlers:
        handler.close()


@pytest.fixture
def stderr():
    """(text that came to stderr, the handler that writes it)."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(Prefixed("%(message)s"))
    return text, handler


def test_each_level_has_its_priority():
    assert {level: priority(level) for level in LEVELS} == LEVELS
    assert priority(logging.INFO + 1) == 6 and priority(logging.CRITICAL + 10) == 2 and priority(1) == 7


def test_an_entry_has_the_message_and_the_fields_of_its_moment(place, logger, stderr):
    path, came = place
    view = {"PLOVER_VIEW": "1"}
    logger.addHandler(Journal(lambda: {"PLOVER_VM": "demo", **view}, stderr[1], path))
    logger.warning("the disk of %s is slow", "a")
    view["PLOVER_VIEW"] = "2"
    logger.log(NOTICE, "moved")
    assert came() == [
        {"MESSAGE": "the disk of a is slow", "PRIORITY": "4", "PLOVER_VM": "demo", "PLOVER_VIEW": "1"},
        {"MESSAGE": "moved", "PRIORITY": "5", "PLOVER_VM": "demo", "PLOVER_VIEW": "2"},
    ]
    assert stderr[0].getvalue() == ""


def test_several_lines_are_one_entry(place, logger, stderr):
    path, came = place
    logger.addHandler(Journal(lambda: {"PLOVER_VM": "demo"}, stderr[1], path))
    text = "one\nPRIORITY=0\n\nFORGED=yes"
    logger.error("%s", text)
    assert came() == [{"MESSAGE": text, "PRIORITY": "3", "PLOVER_VM": "demo"}]
    try:
        raise ValueError("odd")
    except ValueError:
        logger.exception("it failed")
    (entry,) = came()
    assert entry["MESSAGE"].startswith("it failed\nTraceback") and entry["MESSAGE"].endswith("ValueError: odd")


def test_what_is_too_long_is_cut_between_characters(place, logger, stderr):
    path, came = place
    logger.addHandler(Journal(dict, stderr[1], path))
    logger.info("x" + "\u00e9" * MESSAGE_BYTES_MAX)
    (entry,) = came()
    assert entry["MESSAGE"] == "x" + "\u00e9" * ((MESSAGE_BYTES_MAX - 1) // 2)
    assert decode(encode({"A": "\udce9"})) == {"A": "?"}


def test_without_a_journal_it_goes_to_stderr_with_its_priority(folder, logger, stderr):
    logger.addHandler(Journal(dict, stderr[1], str(folder / "journal")))
    logger.info("one\ntwo")
    assert stderr[0].getvalue() == "<6>one\n<6>two\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(folder / "journal"))
        logger.info("three")
        assert decode(sock.recv(1 << 20))["MESSAGE"] == "three"  # it came, or came back
    logger.error("four")  # nobody listens any more
    assert stderr[0].getvalue() == "<6>one\n<6>two\n<3>four\n"


def test_a_journal_that_hangs_holds_nobody_up(place, logger, stderr):
    path, came = place
    logger.addHandler(Journal(dict, stderr[1], path))
    for number in range(2000):
        logger.info("%d %s", number, "x" * 1000)
        if stderr[0].getvalue():
            break
    assert stderr[0].getvalue().startswith(f"<6>{number} ") and len(came()) == number


def test_the_last_words_go_to_stderr(place, logger, stderr):
    """A datagram of a process that has ended belongs to no unit."""
    path, came = place
    logger.addHandler(Journal(dict, stderr[1], path))
    logger.critical("ConfigError: it cannot be")
    assert came() == [] and stderr[0].getvalue() == "<2>ConfigError: it cannot be\n"


def test_arguments_that_do_not_fit_are_no_error_of_the_daemon(place, logger, stderr, capsys):
    path, came = place
    logger.addHandler(Journal(dict, stderr[1], path))
    logger.info("%d", "no number")
    assert came() == [] and "TypeError" in capsys.readouterr().err


def test_an_event_has_its_id(place, logger, stderr):
    path, came = place
    logger.addHandler(Journal(lambda: {"PLOVER_VM": "demo", "PLOVER_VIEW": "1"}, stderr[1], path))
    event = ToldEvents("demo", "b").of(
        "2026-01-01T00:00:00.000Z", "serving", "", {"view": 2, "outage_ms": 141.0}, Standing("leader", 2, "b")
    )
    logger.log(NOTICE, "%s", sentence(event), extra={journal.FIELDS: fields(event)})
    (entry,) = came()
    assert entry["MESSAGE_ID"] == MESSAGE_IDS["serving"] and entry["MESSAGE"] == "serving again after 141 ms"
    more = {"PLOVER_EVENT": "serving", "PLOVER_VIEW": "2", "PLOVER_OUTAGE_MS": "141.0", "PLOVER_ROLE": "leader"}
    assert entry.items() >= more.items()


# --- as a daemon sets it up ---

ATTACHED = """
import logging, os, sys
from plover.host import journal
if sys.argv[2] == "connected":
    found = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
stderr = journal.begin()
logging.getLogger("plover").info("before")
journal.attach(stderr, lambda: {"PLOVER_VM": "demo"}, sys.argv[1])
logging.getLogger("plover").info("after")
logging.getLogger("plover").critical("the end")
"""


@pytest.mark.parametrize(
    "connected, on_stderr, entries",
    [
        ("connected", r"<6>before\n<2>the end\n\Z", [{"MESSAGE": "after", "PRIORITY": "6", "PLOVER_VM": "demo"}]),
        ("moved", r"[\d-]+ [\d:,]+ before\n[\d-]+ [\d:,]+ after\n[\d-]+ [\d:,]+ the end\n\Z", []),
    ],
)
def test_only_a_stderr_that_is_the_journals_is_replaced(place, connected, on_stderr, entries):
    path, came = place
    done = subprocess.run(
        [sys.executable, "-c", ATTACHED, path, connected],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins" / "module_utils"), "JOURNAL_STREAM": "1:1"},
        check=True,
    )
    assert re.match(on_stderr, done.stderr) and came() == entries


DAEMON = """
import os, sys
from plover.daemon import life
from plover.host import journal

found = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
attach, path = journal.attach, sys.argv.pop()
journal.attach = lambda stderr, fields: attach(stderr, fields, path)

class Notes(life.Daemon):
    async def setup(self):
        self.note("view", "b was silent", {"view": 7, "leader": "a", "cause": "failover"})
        self.note("mode", "only a", {"mode": "degraded", "before": "protected", "before_s": 1.0})
        self.ending.set()

life.run_daemon(Notes, "witness")
"""


def test_a_daemons_events_come_with_the_vm_the_member_and_the_view(place, tmp_path):
    path, came = place
    file = tmp_path / "witness.json"
    file.write_text(json.dumps(settings("witness", state_dir=str(tmp_path))))
    (tmp_path / "demo").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins" / "module_utils")}
    words = [sys.executable, "-c", DAEMON, str(file), path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=50, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    failover, degraded = came()
    assert failover["MESSAGE"] == "failover: a leads view 7: b was silent"
    assert degraded["MESSAGE"] == "degraded: only a"
    shared = {"SYSLOG_IDENTIFIER": "plover-witness", "PLOVER_VM": "demo", "PLOVER_MEMBER": "witness"}
    for entry, word, number in ((failover, "failover", "5"), (degraded, "degraded", "4")):
        assert entry.items() >= {**shared, "MESSAGE_ID": MESSAGE_IDS[word], "PRIORITY": number}.items()
    assert failover["PLOVER_VIEW"] == "7"


# --- the catalog ---


def test_the_catalog_explains_each_event_and_nothing_else():
    text = CATALOG.read_text(encoding="utf-8")
    entries = re.split(r"^-- ([0-9a-f]{32})$", text, flags=re.MULTILINE)[1:]
    explained = dict(zip(entries[::2], entries[1::2]))
    assert len(entries) == 2 * len(explained) and set(explained) == set(MESSAGE_IDS.values())
    for entry in explained.values():
        head, _empty, body = entry.strip().partition("\n\n")
        assert re.fullmatch(r"Subject: .+\nDefined-By: Plover", head)
        assert len(re.findall(r"[.;](?=\s|\Z)", body)) >= 3
    # Each field that it fills in is one that each such entry has.
    named = set(re.findall(r"@([A-Z_]+)@", text))
    event = ToldEvents("demo", "b").of("", "serving", "", {"view": 2, "outage_ms": 1.0}, Standing("leader", 2, "b"))
    assert named <= {"PLOVER_VM", "PLOVER_MEMBER"} | fields(event).keys()


@pytest.mark.skipif(not shutil.which("journalctl"), reason="no systemd here")
def test_journalctl_reads_the_catalog(tmp_path):
    for folder in ("usr/lib/systemd/catalog", "var/lib/systemd/catalog"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(CATALOG, tmp_path / "usr/lib/systemd/catalog")
    for words in (["--update-catalog"], ["--list-catalog"]):
        done = subprocess.run(["journalctl", f"--root={tmp_path}", *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert sorted(line.split()[0] for line in done.stdout.splitlines()) == sorted(MESSAGE_IDS.values())
