# SPDX-License-Identifier: GPL-3.0-or-later
"""One request to the operator's URL, by real servers on loopback that answer well, badly, without end or not at all."""

from __future__ import annotations

import socket
import ssl
import subprocess

import pytest
from event_server import BROKEN, CLOSES, DRIPS, ENDLESS_BODY, ENDLESS_HEAD, HANGS, LOST, OK, REDIRECT, event_server
from plover.host.webhook import post

TEXT = b'{"version": 1, "event": "degraded"}\n'
PATIENT_S = 60.0


def test_the_text_is_posted_as_json():
    with event_server(OK) as server:
        assert post(f"http://127.0.0.1:{server.port}/a/b?c=d", TEXT, PATIENT_S) is None
    (head,), (body,) = server.heads, server.bodies
    first, *headers = head.splitlines()
    assert (first, body) == ("POST /a/b?c=d HTTP/1.1", TEXT)
    found = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in headers)}
    assert found["host"] == f"127.0.0.1:{server.port}" and found["content-type"] == "application/json"
    assert found["user-agent"].startswith("plover/") and found["content-length"] == str(len(TEXT))


def test_a_url_without_a_path_is_that_of_the_root():
    with event_server(OK) as server:
        assert post(f"http://127.0.0.1:{server.port}", TEXT, PATIENT_S) is None
    assert server.heads[0].startswith("POST / HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "answer, words, again",
    [
        (BROKEN, "answered with status 500", True),
        (b"HTTP/1.1 429 Slowly\r\n\r\n", "answered with status 429", True),
        (LOST, "answered with status 404", False),
        (REDIRECT, "answered with status 302: a redirect is not followed", False),
        (b"220 mail.example.com ESMTP\r\n", "is no HTTP", True),
        (b"HTTP/1.1 999 Odd\r\n\r\n", "is no HTTP", True),
        (ENDLESS_HEAD, "is no HTTP", True),
        (CLOSES, "no answer from 127.0.0.1:", True),
        (HANGS, "did not answer within 0 s", True),
        (DRIPS, "did not answer within 0 s", True),
    ],
    ids=lambda value: str(value)[:20],
)
def test_everything_but_success_is_a_failure(answer, words, again):
    with event_server(answer) as server:
        failure = post(f"http://127.0.0.1:{server.port}/", TEXT, 0.4 if answer in (HANGS, DRIPS) else PATIENT_S)
        assert words in failure.kind and failure.again is again
        assert len(server.bodies) == 1


def test_a_body_without_end_is_not_read():
    with event_server(ENDLESS_BODY) as server:
        assert post(f"http://127.0.0.1:{server.port}/", TEXT, PATIENT_S) is None


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    failure = post(f"http://127.0.0.1:{port}/secret-path", TEXT, PATIENT_S)
    assert failure.kind == f"no answer from 127.0.0.1:{port} (Connection refused)" and failure.again
    assert "no answer from nobody.invalid (" in post("http://nobody.invalid/", TEXT, PATIENT_S).kind


@pytest.fixture
def certificate(tmp_path):
    """(context of a server, path of its self-signed certificate for 127.0.0.1)."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=x"]
    made = [*words, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, cert


def test_a_certificate_of_the_hosts_cas_is_accepted_and_no_other(certificate, monkeypatch):
    context, cert = certificate
    with event_server(OK, context=context) as server:
        url = f"https://127.0.0.1:{server.port}/"
        failure = post(url, TEXT, PATIENT_S)
        assert failure.kind == f"the certificate of 127.0.0.1:{server.port} is not accepted (self-signed certificate)" and not failure.again
        assert server.bodies == []
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        assert post(url, TEXT, PATIENT_S) is None and server.bodies == [TEXT]
        failure = post(f"https://localhost:{server.port}/", TEXT, PATIENT_S)
        assert "is not accepted (Hostname mismatch" in failure.kind and len(server.bodies) == 1


def test_tls_with_a_server_that_speaks_none():
    with event_server(OK) as server:
        assert post(f"https://127.0.0.1:{server.port}/", TEXT, 0.5).again
        assert server.bodies == []
