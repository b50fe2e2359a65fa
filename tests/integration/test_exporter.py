# SPDX-License-Identifier: GPL-3.0-or-later
"""A failover as a monitoring system sees it: by /metrics and /api/v1/vms of the hosts that are left."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from harness import ADDRESSES, RUNTIME, in_netns, socket_in_netns
from prometheus_client.parser import text_string_to_metric_families

from lab.pki import put

OPENAPI = json.loads((RUNTIME / "plover" / "exporter" / "openapi.json").read_text())
PORTS = dict(zip(ADDRESSES, (9742, 9743, 9744)))
PATIENCE_S = 240.0
SURVIVORS = ("secondary", "witness")


class Exporter:
    """That of one member's host, with a certificate of the group's CA."""

    def __init__(self, group, member: str) -> None:
        self.member, self.port, self._authority = member, PORTS[member], group.authority
        base: Path = group.folder / f"exporter-{member}"
        base.mkdir()
        certificate, key, _serial = group.authority.issue(f"plover-exporter:{group.common['cluster_id']}/{member}")
        put(base / "cert.pem", certificate)
        put(base / "key.pem", key)
        settings = {"listen_port": self.port, "tls_folder": str(base), "run_dir": str(group.folder / member / "run"), "vms": ["demo"]}
        (base / "settings.json").write_text(json.dumps(settings))
        with open(group.folder / f"exporter-{member}.log", "wb") as log:
            self._process = subprocess.Popen(
                in_netns(sys.executable, "-m", "plover.exporter", str(base / "settings.json")),
                env={**os.environ, "PYTHONPATH": str(RUNTIME)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def get(self, path: str) -> tuple[int, str | None, str]:
        """(HTTP status, exit status of ploverctl, body)."""
        context = ssl.create_default_context(cadata=self._authority.pem)
        context.check_hostname = False  # all hosts have one address here
        with socket_in_netns() as plain:
            plain.settimeout(20.0)
            plain.connect(("127.0.0.1", self.port))
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
            connection.sock = context.wrap_socket(plain)
            connection.request("GET", path)
            answer = connection.getresponse()
            out = answer.status, answer.getheader("Plover-Exit-Status"), answer.read().decode()
            connection.close()
        return out

    def json(self, path: str, schema: str) -> dict:
        status, _code, body = self.get(path)
        assert status == 200, body
        out = json.loads(body)
        wanted = {"$ref": f"#/components/schemas/{schema}", "components": OPENAPI["components"]}
        jsonschema.Draft202012Validator(wanted).validate(out)
        return out

    def vm(self) -> dict:
        return self.json("/api/v1/vms", "Vms")["vms"][0]

    def metrics(self) -> dict[tuple, float]:
        """(name, values of the labels but the VM) -> value."""
        families = text_string_to_metric_families(self.get("/metrics")[2])
        return {
            (sample.name, *(value for key, value in sorted(sample.labels.items()) if key != "vm")): sample.value
            for family in families
            for sample in family.samples
        }

    def metrics_of_a_syncvm(self) -> dict[tuple, float]:
        """Once there has been one."""
        end = time.monotonic() + PATIENCE_S
        while not (found := self.metrics()).get(("plover_syncvms_total",)):
            assert time.monotonic() < end, found
            time.sleep(0.1)
        return found

    def wait(self, **wanted) -> dict:
        """Until the VM is shown so."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                found = self.vm()
            except OSError:
                found = {}  # it is just starting
            if found and all(found[key] == value for key, value in wanted.items()):
                return found
            assert time.monotonic() < end, (self.member, wanted, found)
            time.sleep(0.1)

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(20)


@pytest.fixture
def group(new_group):
    """A patient one: this is not about how fast a failover is, and the machine may be busy."""
    out = new_group(failover_budget_ms=20_000)
    out.start()
    out.wait("primary", PATIENCE_S, service="protected")
    return out


@pytest.fixture
def exporters(group):
    made = {member: Exporter(group, member) for member in ADDRESSES}
    yield made
    for exporter in made.values():
        exporter.stop()


def test_a_failover_is_seen_on_the_survivors(group, exporters):
    for exporter in exporters.values():
        exporter.wait(service="protected", leader="primary")
        assert exporter.get("/readyz?level=protected")[:2] == (200, "0")
    before = exporters["primary"].metrics_of_a_syncvm()
    assert before[("plover_role", "leader")] == 1 and before[("plover_views_total", "first boot")] == 1
    assert before[("plover_syncvms_total",)] == before[("plover_syncvm_pause_seconds_count",)] > 0
    assert before[("plover_vm_stopped_seconds_total",)] > 0 and before[("plover_links_encrypted",)] == 1

    group.power_off("primary")
    silent = exporters["primary"].wait(answers=False)
    assert silent["service"] == "down" and "does not answer" in silent["sentence"]
    for member in SURVIVORS:
        seen = exporters[member].wait(service="degraded", leader="secondary")
        assert seen["in_sync"] == ["secondary"] and "primary" not in seen["linked"]
        assert exporters[member].get("/readyz")[:2] == (200, "1") and exporters[member].get("/readyz?level=protected")[0] == 503
        found = exporters[member].metrics()
        assert found[("plover_views_total", "failover")] == 1 and found[("plover_service_state", "degraded")] == 1
        assert found[("plover_member_linked", "primary")] == 0 and found[("plover_member_in_sync", "primary")] == 0
        past = exporters[member].json("/api/v1/vms/demo/history", "History")["entries"]
        assert [entry["leader"] for entry in past if entry["kind"] == "view"][-1] == "secondary"
    assert exporters["secondary"].metrics()[("plover_role", "leader")] == 1

    group.start("primary")
    for exporter in exporters.values():
        exporter.wait(service="protected", leader="secondary")
    assert exporters["primary"].vm()["role"] == "secondary"


def test_it_ends_when_it_is_told_to(group, exporters):
    for exporter in exporters.values():
        exporter.wait(answers=True)
        assert exporter.stop() == 0
