# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporters of the three hosts, asked as a client asks them, and what the role leaves on each host."""

from __future__ import annotations

import json
import time

import pytest

ADDRESSES = {"primary": "192.168.77.11", "secondary": "192.168.77.12"}
PATIENCE_S = 60
GET = """
import json, ssl, sys, urllib.request
url, ca = sys.argv[1], sys.argv[2]
context = ssl.create_default_context(cafile=ca) if url.startswith("https") else None
with urllib.request.urlopen(url, timeout=20, context=context) as answer:
    sys.stdout.write(answer.read().decode())
"""


@pytest.fixture
def me(host):
    return host.check_output("hostname")


def get(host, of, path, ca="/etc/plover-exporter/tls/ca.pem"):
    base = f"https://{ADDRESSES[of]}:9742" if of in ADDRESSES else "http://127.0.0.1:9742"
    end = time.monotonic() + PATIENCE_S
    while True:
        done = host.run("python3 -c %s %s %s", GET, f"{base}{path}", ca)
        if done.rc == 0 or time.monotonic() > end:
            assert done.rc == 0, done.stderr
            return done.stdout
        time.sleep(1.0)


def test_it_runs_unprivileged(host):
    unit = host.service("plover-exporter")
    assert unit.is_running and unit.is_enabled
    pid = host.check_output("systemctl show -P MainPID plover-exporter")
    status = dict(line.split(":", 1) for line in host.check_output(f"cat /proc/{pid}/status").splitlines())
    assert set(status["Uid"].split()) == {str(host.user("plover-exporter").uid)} and int(status["CapEff"], 16) == 0


def test_it_reaches_the_status_and_nothing_else(host):
    for path in ("/run/plover/demo/ctl.sock", "/etc/plover/demo.json", "/etc/plover/demo.secret", "/etc/plover/demo/tls/key.pem"):
        assert host.run(f"runuser -u plover-exporter -- test -r {path}").rc != 0, path
    assert host.run("runuser -u plover-exporter -- test -w /run/plover/demo/status/status.sock").rc == 0
    assert host.run("runuser -u nobody -- test -w /run/plover/demo/status/status.sock").rc != 0


def test_the_vm_is_shown(host, me):
    (vm,) = json.loads(get(host, me, "/api/v1/vms"))["vms"]
    assert (vm["name"], vm["answers"], vm["service"], vm["member"]) == ("demo", True, "protected", me)
    assert 'plover_up{vm="demo"} 1.0' in get(host, me, "/metrics") and "demo: protected" in get(host, me, "/readyz")


def test_another_host_believes_it_by_the_group_s_ca(host, me):
    if me in ADDRESSES:
        assert "demo" in get(host, (set(ADDRESSES) - {me}).pop(), "/api/v1/vms")
    else:
        assert "demo" in get(host, "primary", "/api/v1/vms", ca="/etc/prometheus/plover-ca.pem")
        assert host.run("cat /etc/prometheus/plover.rules.yml /etc/prometheus/plover.json").rc == 0


def test_the_witness_s_is_for_its_own_host(host, me):
    if me in ADDRESSES:
        assert host.run("timeout 5 bash -c '</dev/tcp/192.168.77.13/9742'").rc != 0


def test_its_key_is_its_own(host, me):
    if me in ADDRESSES:
        file = host.file("/etc/plover-exporter/tls/key.pem")
        assert (file.user, file.group, file.mode) == ("root", "plover-exporter", 0o640)
        assert file.content_string != host.file("/etc/plover/demo/tls/key.pem").content_string
