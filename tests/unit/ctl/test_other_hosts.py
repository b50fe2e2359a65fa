# SPDX-License-Identifier: GPL-3.0-or-later
"""`ploverctl top --host`: VMs of other hosts, by the real exporter's API over real sockets and TLS."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import re
import socket
import threading

import pytest
from ansible_collections.plover.vmft.plugins.action.plover_exporter_certificate import signed
from ansible_collections.plover.vmft.plugins.plugin_utils import certificates
from ansible_collections.plover.vmft.plugins.plugin_utils.authority import Authority
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from exporter_group import leader, silent
from plover.ctl import commands as ctl
from plover.ctl import other_hosts
from plover.ctl.figures import sent_bytes, syncvms
from plover.ctl.other_hosts import OtherHosts
from plover.ctl.places import Place, place
from plover.errors import ConfigError
from plover.exporter import seen
from plover.exporter.certificates import Certificates
from plover.exporter.routes import Routes
from plover.exporter.settings import parse as settings_of
from plover.exporter.watch import Watch
from plover.exporter.web_server import WebServer

pytestmark = pytest.mark.usefixtures("small_pages")
CLUSTER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
HERE = "127.0.0.1"


@pytest.fixture
def listening(tmp_path):
    """Starts web servers in a thread; gives the port of each."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    tasks = []

    async def begin(answer, tls):
        made = WebServer(answer, tls)
        made.listen(HERE, 0)
        tasks.append(asyncio.ensure_future(made.run()))
        return made.port

    def start(*found, answer=None, tls=None):
        watch = Watch(tmp_path, ())
        watch._last = {one.name: one for one in found}
        return asyncio.run_coroutine_threadsafe(begin(answer or Routes(watch).answer, tls), loop).result(5)

    async def end():
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    yield start
    asyncio.run_coroutine_threadsafe(end(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def asked(tmp_path, *given, name=None):
    return OtherHosts(map(place, given), tmp_path, name).ask_all()


# --- how a host is named ---


@pytest.mark.parametrize(
    "given, wanted",
    [
        ("beta", Place("beta", "beta", 9742, True)),
        ("beta:9743", Place("beta:9743", "beta", 9743, True)),
        ("192.0.2.7", Place("192.0.2.7", "192.0.2.7", 9742, True)),
        ("[2001:db8::7]:9742", Place("2001:db8::7", "2001:db8::7", 9742, True)),
        ("https://beta/", Place("beta", "beta", 9742, True)),
        ("http://127.0.0.1:1234", Place("127.0.0.1:1234", "127.0.0.1", 1234, False)),
    ],
)
def test_a_host_is_a_name_an_address_or_a_url(given, wanted):
    assert place(given) == wanted


@pytest.mark.parametrize("given", ["", ":9742", "beta:x", "beta:99999", "ftp://beta", "https://beta/metrics", "beta?x", "u@beta", "[::1"])
def test_what_is_no_host_is_refused(given):
    with pytest.raises(argparse.ArgumentTypeError, match="is no host"):
        place(given)


def test_the_command_line_says_what_is_wrong(capsys):
    with pytest.raises(SystemExit):
        ctl.main(["top", "--host", "ftp://beta"])
    assert "argument --host: 'ftp://beta' is no host; write HOST, HOST:PORT" in capsys.readouterr().err


# --- what is shown ---


def test_the_api_has_each_figure_of_the_table(listening, tmp_path):
    port = listening(leader(), silent())
    (name, reply), (other, refused) = asked(tmp_path, f"http://{HERE}:{port}")
    status = leader().reply
    assert (name, other) == (f"demo@{HERE}:{port}", f"other@{HERE}:{port}")
    assert {key: reply[key] for key in ("service", "role", "leader", "view", "in_sync", "held")} == {
        key: status[key] for key in ("service", "role", "leader", "view", "in_sync", "held")
    }
    assert (syncvms(reply), sent_bytes(reply)) == (syncvms(status), sent_bytes(status)) != (None, None)
    assert reply["last_syncvm"]["pause_ms"] == status["last_syncvm"]["pause_ms"]
    assert refused == {"ok": False, "error": seen.text(silent().error)}


def test_top_shows_this_hosts_vms_and_the_others(daemons, listening, capsys):
    daemons.serve("shop")
    port = listening(leader())
    assert ctl.main(["top", "--once", "--interval", "0.1", "--host", f"http://{HERE}:{port}"]) == 0
    out = capsys.readouterr().out
    assert "2 VMs: 2 protected" in out and re.search(r"^shop  +protected", out, re.M)
    assert re.search(rf"^demo@{HERE}:{port}  +protected  leader +primary", out, re.M)


@pytest.mark.parametrize("here", [True, False])
def test_one_vm_of_the_other_host_need_not_be_here(daemons, listening, capsys, here):
    daemons.serve("demo" if here else "shop")
    port = listening(leader(), silent())
    assert ctl.main(["top", "--vm", "demo", "--once", "--interval", "0.1", "--host", f"http://{HERE}:{port}"]) == 0
    out = capsys.readouterr().out
    assert f"{1 + here} VM" in out and "demo@" in out and "other@" not in out and "shop" not in out


# --- hosts that do not answer, or make no sense ---


def answering(body, status=200):
    """An answer of any server."""

    class Status:
        value, phrase = status, "x"

    class Answer:
        content_type, headers, stream = "application/json", (), None

    answer = Answer()
    answer.status, answer.body = Status(), body
    return lambda request: answer


@pytest.mark.parametrize(
    "answer, why",
    [
        (answering(b"nonsense"), "Expecting value"),
        (answering(b"[]"), "no list of VMs"),
        (answering(b'{"vms": 7}'), "no list of VMs"),
        (answering(b"[" * 100_000), "recursion"),
        (answering(b"{}", status=404), "status 404"),
        (answering(b" " * (other_hosts.ANSWER_BYTES_MAX + 1)), "over 4194304 bytes"),
    ],
    ids=["nonsense", "list", "number", "deep", "404", "long"],
)
def test_an_answer_that_is_none_is_a_row_with_the_reason(listening, tmp_path, answer, why):
    ((name, reply),) = asked(tmp_path, f"http://{HERE}:{listening(answer=answer)}")
    assert name.startswith("?@") and reply["ok"] is False and why in reply["error"]


def test_a_vm_that_makes_no_sense_has_no_figures(listening, tmp_path):
    vms = [7, {}, {"name": "a\x1b[2J", "answers": True, "syncvm": "x", "held": [], "service": 3}]
    rows = asked(tmp_path, f"http://{HERE}:{listening(answer=answering(json.dumps({'vms': vms}).encode()))}")
    assert [reply["ok"] for _name, reply in rows] == [False, False, True]
    assert "\x1b" not in rows[2][0] and sent_bytes(rows[2][1]) is None and syncvms(rows[2][1]) is None


def test_a_host_that_is_gone_keeps_nobody_waiting(listening, tmp_path, monkeypatch):
    monkeypatch.setattr(other_hosts, "ANSWER_S", 0.5)
    with socket.create_server((HERE, 0)) as hangs:
        dead = [f"http://{HERE}:{hangs.getsockname()[1]}", f"http://{HERE}:1"]
        rows = asked(tmp_path, *dead, f"http://{HERE}:{listening(leader())}")
    assert [reply["ok"] for _name, reply in rows] == [False, False, True]
    assert "none within 0.5 s" in rows[0][1]["error"] and "refused" in rows[1][1]["error"]


def test_too_many_hosts_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="at most 32"):
        OtherHosts([place(f"http://h{n}") for n in range(33)], tmp_path, None)


# --- TLS, with the certificates that role monitoring makes ---


@pytest.fixture
def certified(tmp_path):
    """Makes a folder with an exporter's key and certificate for these names, and the CA."""
    now = datetime.datetime.now(datetime.timezone.utc)
    Authority.make(tmp_path / CLUSTER, CLUSTER, now).save()

    def make(name):
        key, folder = certificates.new_key(), tmp_path / name
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        text = request.public_bytes(serialization.Encoding.PEM).decode()
        asked = {"folder": str(tmp_path), "cluster_id": CLUSTER, "host": "a", "names": [name], "request": text}
        made = signed(asked, now, check_mode=False)
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        folder.mkdir()
        for file, content in (("cert.pem", made["certificate"]), ("key.pem", private.decode()), ("ca.pem", made["authority"])):
            (folder / file).write_text(content)
        return folder

    return make


def serves(folder, clients="off"):
    given = {"listen_address": HERE, "tls_folder": str(folder), "client_certificates": clients}
    return Certificates(settings_of(json.dumps(given).encode(), "x")).context


def test_a_host_is_believed_by_the_groups_ca_and_its_name(listening, certified):
    good, other = certified(HERE), certified("192.0.2.9")
    ports = [listening(leader(), tls=serves(folder)) for folder in (good, other)]
    (name, reply), (gone, refused) = asked(good, *(f"{HERE}:{port}" for port in ports))
    assert (name, reply["ok"]) == (f"demo@{HERE}:{ports[0]}", True)
    assert gone == f"?@{HERE}:{ports[1]}" and "its certificate is not accepted (IP address mismatch" in refused["error"]


def test_an_exporter_that_asks_for_a_certificate_gets_this_hosts(listening, certified):
    folder = certified(HERE)
    port = listening(leader(), tls=serves(folder, "required"))
    assert asked(folder, f"{HERE}:{port}")[0][1]["ok"] is True
    (folder / "cert.pem").unlink()
    assert asked(folder, f"{HERE}:{port}")[0][1]["ok"] is False


def test_without_a_ca_the_remedy_is_named(daemons, capsys, tmp_path):
    assert ctl.main(["top", "--once", "--host", "beta", "--tls-folder", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert "--tls-folder:" in said and "role 'monitoring' writes it" in said
