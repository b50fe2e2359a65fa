# SPDX-License-Identifier: GPL-3.0-or-later
"""`ploverctl support-bundle`: what is in it, and that no secret is. Real files, a real daemon's socket, this machine's programs."""

from __future__ import annotations

import json
import os
import stat
import sys
import tarfile
import time

import pytest
from plover import __version__
from plover.config import struck_out
from plover.config.settings import SETTINGS
from plover.ctl import bounded, bundle_parts
from plover.ctl import commands as ctl
from plover.ctl.bounded import contents_of, output_of
from plover.host.history import History

MARKER = 'Hunter2"back\\slash'
HOST_PARTS = {"versions.txt", "journal.txt", "units.txt", "links.txt", "space.txt"}
VM_PARTS = {"status.json", "settings.json", "units.txt", "files.txt"}


def made(folder, *words):
    """(exit status, name -> text) of a bundle."""
    path = folder / "bundle.tar.gz"
    code = ctl.main(["support-bundle", "--out", str(path), *words])
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert all(member.isfile() and member.mode == 0o600 and member.name.startswith("plover-support-") for member in members)
        return code, {member.name.split("/", 1)[1]: tar.extractfile(member).read().decode() for member in members}


def test_it_holds_what_it_should_for_each_vm(daemons, capsys):
    says = daemons.serve("shop")
    history = History(daemons.settled("mail"))
    history.note("start", "version 1", {})
    assert history.flush()
    code, files = made(daemons.folder)
    assert code == 0 and files.keys() == HOST_PARTS | {f"{vm}/{part}" for vm in ("shop", "mail") for part in VM_PARTS} | {
        "mail/history.jsonl"
    }
    assert json.loads(files["shop/status.json"]) == {"ok": True, **says.status}
    assert not json.loads(files["mail/status.json"])["ok"]
    assert files["mail/history.jsonl"] == history.path.read_text()
    assert json.loads(files["shop/settings.json"])["state_dir"] == str(daemons.folder / "state")
    assert (
        "ctl.sock" in files["shop/files.txt"] and f"plover {__version__}" in files["versions.txt"] and "link/loopback" in files["links.txt"]
    )
    out = capsys.readouterr().out
    assert out.startswith(f"{daemons.folder}/bundle.tar.gz: ") and all(name in out for name in files)


def test_of_one_vm(daemons):
    daemons.serve("shop")
    daemons.serve("mail")
    _code, files = made(daemons.folder, "--vm", "mail")
    assert files.keys() == HOST_PARTS | {f"mail/{part}" for part in VM_PARTS}


def test_json_says_what_was_made(daemons, capsys):
    daemons.serve("shop")
    _code, files = made(daemons.folder, "-o", "json")
    reply = json.loads(capsys.readouterr().out)
    assert reply["ok"] and reply["path"] == str(daemons.folder / "bundle.tar.gz")
    assert {part["name"]: part["bytes"] for part in reply["parts"]} == {name: len(text.encode()) for name, text in files.items()}


def test_only_root_reads_it_and_nothing_is_overwritten(daemons, capsys):
    daemons.settled("shop")
    made(daemons.folder)
    path = daemons.folder / "bundle.tar.gz"
    before = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ctl.main(["support-bundle", "--out", str(path)]) == 1
    assert f"--out: {path}: File exists; name another file" in capsys.readouterr().err and path.read_bytes() == before
    (daemons.folder / "link").symlink_to(daemons.folder / "elsewhere")
    assert ctl.main(["support-bundle", "--out", str(daemons.folder / "link"), "-o", "json"]) == 1
    assert not json.loads(capsys.readouterr().out)["ok"] and not (daemons.folder / "elsewhere").exists()


def test_a_name_of_its_own_in_this_folder(daemons, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert ctl.main(["support-bundle"]) == 0  # without a VM, too
    (path,) = tmp_path.iterdir()
    assert path.name.startswith(f"plover-support-{os.uname().nodename}-") and path.name.endswith(".tar.gz")


def test_what_cannot_be_written_leaves_nothing(daemons, capsys):
    daemons.settled("shop")
    assert ctl.main(["support-bundle", "--out", str(daemons.folder / "none" / "x.tar.gz")]) == 1
    assert "No such file or directory" in capsys.readouterr().err
    assert ctl.main(["support-bundle", "--out", "/dev/full"]) == 1 and os.path.exists("/dev/full")


# --- secrets ---


def secret_vm(daemons, key, value):
    """A VM with a secret in one setting and in the files of secrets, whose daemon and history repeat it."""
    folder = daemons.folder / "secrets"
    folder.mkdir()
    for name in ("members", "fence", "key.pem"):
        (folder / name).write_text(f"passwd={MARKER}\n")
    more = {"secret_file": str(folder / "members"), "fence_input_file": str(folder / "fence"), "tls_folder": str(folder)}
    says = daemons.serve("shop", settled={**more, key: value}, fencing={"agent": f"said {MARKER}", MARKER: 1}, sentence=f"as {MARKER}: no")
    history = History(daemons.settled("shop", **more, **{key: value}))
    history.note("start", f"with {MARKER}", {})
    assert history.flush()
    return says


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fence_command", ["/usr/sbin/fence_ipmilan", "-a", "{address}", "-p", MARKER]),
        ("fence_command", ["/usr/sbin/fence_ipmilan", f"--password={MARKER}", "{host}"]),
        ("fence_command", ["/bin/sh", "-c", f"fence --password {MARKER} {{host}}"]),
        ("fence_command", ["/usr/sbin/fence_ipmilan", f"-p{MARKER}"]),
        ("on_event_command", ["/usr/local/sbin/tell", "--token", MARKER]),
        ("guest_cmdline", f"console=ttyS0 password={MARKER}"),
        ("guest_cmdline", MARKER),
        ("a_setting_of_a_later_version", {"deep": [{"down": MARKER}]}),
    ],
)
def test_no_secret_is_in_it(daemons, key, value):
    """Also with settings that this version does not accept: they are shown as far as they are known."""
    secret_vm(daemons, key, value)
    _code, files = made(daemons.folder)
    told = "\n".join(files.values())
    assert not [form for form in (MARKER, json.dumps(MARKER)[1:-1], "Hunter2") if form in told]
    assert json.loads(files["shop/settings.json"])[key] == "struck out"
    if key in SETTINGS:
        assert json.loads(files["shop/status.json"])["sentence"] == "as struck out: no"
        assert "with struck out" in files["shop/history.jsonl"]


def test_the_token_in_a_hooks_url_is_not_in_it(daemons):
    token = "Hunter2-token"
    daemons.serve("shop", settled={"on_event_url": f"https://events.example.com/hook?key={token}"}, sentence=f"told {token}: no")
    _code, files = made(daemons.folder)
    assert token not in "".join(files.values()) and json.loads(files["shop/status.json"])["sentence"] == "told struck out: no"


def test_each_secret_setting_is_tried():
    tried = {"on_event_url"} | {
        case.args[0] if hasattr(case, "args") else case[0] for case in test_no_secret_is_in_it.pytestmark[0].args[1]
    }
    assert (
        set(struck_out.SECRET) <= tried <= {*struck_out.SECRET, "a_setting_of_a_later_version"}
        and set(struck_out.SECRET) <= SETTINGS.keys()
    )


@pytest.mark.parametrize("text", ["", "nonsense " + MARKER, "[]", '"' + "x" * 10, "[" * 50_000])
def test_settings_that_cannot_be_read_are_not_copied(daemons, text):
    (daemons.folder / "shop.json").write_text(text)
    code, files = made(daemons.folder)
    assert code == 0 and MARKER not in "".join(files.values()) and files["shop/settings.json"].startswith("not ")


def test_files_of_secrets_are_not_even_opened(daemons):
    """By nobody below Python's own open, and by none of the programs: they get no such path."""
    secret_vm(daemons, "guest_cmdline", "quiet")
    opened, run, watching = [], [], True

    def audit(event, args):  # stays as long as Python does
        if watching and event == "open":
            opened.append(str(args[0]))
        elif watching and event == "subprocess.Popen":
            run.extend(map(str, args[1]))

    sys.addaudithook(audit)
    made(daemons.folder)
    watching = False
    secrets = str(daemons.folder / "secrets")
    assert len(opened) > 3 and len(run) > 10 and not [path for path in opened + run if path.startswith(secrets)]


def test_words_of_processes_are_left_out():
    status = """\
* plover-qemu@shop.service - QEMU
   Main PID: 812 (qemu-system-x86)
     CGroup: /system.slice/plover-qemu@shop.service
             |-812 /usr/bin/qemu-system-x86_64 -append "password=Hunter2"
             `-813 /usr/sbin/fence -p Hunter2
     CGroup: /x
             ├─ 812 /usr/bin/qemu-system-x86_64 -append "password=Hunter2"
             └─813 /usr/sbin/fence
"""
    shown = bundle_parts.without_words(status)
    assert "Hunter2" not in shown and shown.count("/usr/bin/qemu-system-x86_64 ...") == 2 and "Main PID: 812 (qemu" in shown


def test_a_state_folder_of_another_user_leads_nowhere_else(daemons):
    state = daemons.settled("shop")
    (daemons.folder / "shadow").write_text("root:x")
    (state / "history.jsonl").symlink_to(daemons.folder / "shadow")
    os.mkfifo(state / "history.1.jsonl")
    _code, files = made(daemons.folder)
    assert "root:x" not in "".join(files.values())
    assert files["shop/history.jsonl"].startswith("not here: ") and files["shop/history.1.jsonl"].startswith("not here: ")


# --- bounds ---


def test_a_program_that_does_not_end_is_ended_with_its_children():
    began = time.monotonic()
    said = output_of(["sh", "-c", "echo first; sleep 60 & sleep 60"], 0.5, 1000)
    assert time.monotonic() - began < 20 and said.startswith("first\n") and "(stopped: it took longer than 0.5 s)" in said


def test_the_end_of_what_a_program_says_is_kept():
    said = output_of(["sh", "-c", "seq 1 100000; exit 3"], 20, 1000)
    assert said.endswith("\n99999\n100000\n\n(exit status 3)\n") and len(said) < 1100 and "bytes before this were left out" in said


def test_a_program_that_is_missing_is_a_part_with_the_error(daemons, monkeypatch):
    monkeypatch.setitem(bounded.ENV, "PATH", "/nowhere")
    daemons.settled("shop")
    code, files = made(daemons.folder)
    assert code == 0 and files["links.txt"].startswith("not here: ") and "'ip'" in files["links.txt"]
    assert json.loads(files["shop/settings.json"])["name"] == "shop"


def test_the_end_of_a_file_is_kept(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    assert contents_of(tmp_path / "file", 4) == b"6789" and contents_of(tmp_path / "file", 40) == b"0123456789"


@pytest.mark.parametrize("hours", ["0", "-1", "x", "nan", "1e9"])
def test_hours_that_make_no_sense_are_refused(hours, capsys):
    with pytest.raises(SystemExit):
        ctl.main(["support-bundle", "--since", hours])
    assert "--since" in capsys.readouterr().err
