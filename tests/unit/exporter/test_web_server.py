# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter over real sockets: its paths, TLS, and strangers that send nonsense, nothing, or too much."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl

import pytest
from exporter_group import leader, silent
from hypothesis import given
from hypothesis import strategies as st
from plover.errors import ConfigError
from plover.exporter import routes, web_server
from plover.exporter.certificates import Certificates
from plover.exporter.routes import Routes
from plover.exporter.seen import Sample
from plover.exporter.settings import parse as settings_of
from plover.exporter.watch import Watch
from plover.exporter.web_server import BadRequestError, WebServer, parse
from test_seen import check

from lab.pki import Authority, put

pytestmark = pytest.mark.usefixtures("small_pages")
CLUSTER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"


def known(folder, *found):
    """A watch that has these answers and asks nobody."""
    watch = Watch(folder, ())
    watch._last = {seen.name: seen for seen in found}
    watch._samples = {seen.name: [Sample.of(seen)] * 3 for seen in found}
    watch._history = {seen.name: [{"at": "2026-01-01T00:00:00.000Z", "kind": "start", "why": "started"}] for seen in found}
    return watch


@contextlib.asynccontextmanager
async def server(watch, tls=None):
    made = WebServer(Routes(watch).answer, tls)
    made.listen("127.0.0.1", 0)
    task = asyncio.ensure_future(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait([task])


async def raw(port, data, context=None, eof=True):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(data)
    if eof and not context:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 30.0)
    finally:
        writer.close()


def get(watch, *paths, headers="", method="GET", context=None, tls=None):
    """(status, headers, body) of each path."""

    async def run():
        out = []
        async with server(watch, tls) as made:
            for path in paths:
                said = await raw(made.port, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode(), context)
                head, _empty, body = said.partition(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                out.append((int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), body))
        return out

    return asyncio.run(run())


def test_the_api_is_what_its_description_says(tmp_path):
    watch = known(tmp_path, leader(), silent())
    paths = ("vms", "vms/demo", "vms/demo/history", "vms/demo/samples", "openapi.json")
    vms, one, past, plots, described = answers = get(watch, *(f"/api/v1/{path}" for path in paths))
    assert all(status == 200 and headers["Content-Type"] == "application/json" for status, headers, _body in answers)
    for name, (_status, headers, body) in {"Vms": vms, "OneVm": one, "History": past, "Samples": plots}.items():
        check(name, json.loads(body))
        assert int(headers["Content-Length"]) == len(body) and headers["Cache-Control"] == "no-store"
    assert [vm["name"] for vm in json.loads(vms[2])["vms"]] == ["demo", "other"]
    of_the_api = {f"/api/v1/{rest}" for rest in ("vms", "vms/{name}", "vms/{name}/history", "vms/{name}/samples", "events", "openapi.json")}
    assert json.loads(described[2])["paths"].keys() == of_the_api | {"/", "/metrics", "/healthz", "/readyz"}


def test_the_metrics_come_in_the_format_that_is_asked_for(tmp_path):
    watch = known(tmp_path, leader())
    ((status, headers, body),) = get(watch, "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4") and b'plover_up{vm="demo"} 1.0\n' in body
    ((_status, headers, body),) = get(watch, "/metrics", headers="Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n")
    assert headers["Content-Type"].startswith("application/openmetrics-text") and body.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    "services, path, status, code",
    [
        (["protected"], "/readyz", 200, "0"),
        (["degraded"], "/readyz?vm=demo", 200, "1"),
        (["degraded"], "/readyz?vm=demo&level=protected", 503, "1"),
        (["down"], "/readyz", 503, "2"),
        (["protected", None], "/readyz", 503, "2"),
        (["protected", None], "/readyz?vm=demo", 200, "0"),
        (["off"], "/readyz?vm=demo", 503, "0"),
        (["protected", "off"], "/readyz", 200, "0"),
        (["off", "down"], "/readyz", 503, "2"),
        ([], "/readyz", 503, "2"),
        (["protected"], "/readyz?vm=nobody", 404, None),
    ],
)
def test_ready_follows_the_exit_status(tmp_path, services, path, status, code):
    found = [leader(service=service)._replace(name=f"demo{n or ''}") if service else silent() for n, service in enumerate(services)]
    ((said, headers, _body),) = get(known(tmp_path, *found), path)
    assert (said, headers.get("Plover-Exit-Status")) == (status, code)


def test_health_is_the_exporter_s_own(tmp_path):
    watch = known(tmp_path)
    assert get(watch, "/healthz")[0][0] == 503  # it has not looked yet
    watch._looked_at = float("inf")
    assert get(watch, "/healthz")[0][0] == 200


@pytest.mark.parametrize(
    "path", ["/api", "/api/v2/vms", "/api/v1/vms/", "/api/v1/vms/nobody", "/api/v1/vms/demo/audit", "/%00", "//x", "*"]
)
def test_other_paths_are_not_there(tmp_path, path):
    assert get(known(tmp_path, leader()), path)[0][0] == 404


def test_nothing_but_reading_is_possible(tmp_path):
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "CONNECT"):
        ((status, headers, _body),) = get(known(tmp_path, leader()), "/api/v1/vms", method=method)
        assert status == 405 and headers["Allow"] == "GET, HEAD"
    ((status, headers, body),) = get(known(tmp_path, leader()), "/api/v1/vms", method="HEAD")
    assert status == 200 and int(headers["Content-Length"]) > 100 and body == b""


@pytest.mark.parametrize(
    "head, status",
    [
        (b"GET /healthz\r\n\r\n", 400),
        (b"GET /healthz HTTP/2\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\n\r\n", 400),
        (b"GET /readyz?" + b"a=1&" * 20 + b" HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 70 + b"\r\n", 431),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_bad_request_is_refused(tmp_path, head, status):
    async def run():
        async with server(known(tmp_path)) as made:
            return await raw(made.port, head)

    assert asyncio.run(run()).startswith(f"HTTP/1.1 {status} ".encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_refused(head):
    with contextlib.suppress(BadRequestError):
        request = parse(b"GET " + head)
        assert request.method == "GET" and len(request.query) <= web_server.QUERY_MAX


def test_no_address_takes_all_places(tmp_path, monkeypatch):
    monkeypatch.setattr(web_server, "HEAD_S", 3600.0)
    monkeypatch.setattr(web_server, "OF_ONE_ADDRESS_MAX", 3)

    async def run():
        async with server(known(tmp_path)) as made:
            held = [await asyncio.open_connection("127.0.0.1", made.port) for _n in range(3)]
            while made._places.total() < 3:
                await asyncio.sleep(0.01)
            try:
                refused = await raw(made.port, b"GET /healthz HTTP/1.1\r\n\r\n")
            except OSError:
                refused = b""  # closed before it was read
            for _reader, writer in held:
                writer.close()
            while made._places:
                await asyncio.sleep(0.01)
            return refused, made.turned_away, await raw(made.port, b"GET /healthz HTTP/1.1\r\n\r\n")

    refused, turned_away, served = asyncio.run(run())
    assert (refused, turned_away) == (b"", 1) and served.startswith(b"HTTP/1.1 503")


def test_who_is_silent_holds_a_place_for_a_limited_time(tmp_path, monkeypatch):
    monkeypatch.setattr(web_server, "HEAD_S", 0.1)

    async def run():
        async with server(known(tmp_path)) as made:
            reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
            assert await asyncio.wait_for(reader.read(), 60.0) == b""
            writer.close()
            while made._places:
                await asyncio.sleep(0.01)

    asyncio.run(run())


# --- the page and its events ---


def test_the_page_is_one_file_that_loads_nothing_but_the_api(tmp_path):
    ((status, headers, body),) = get(known(tmp_path), "/")
    page, allowed = body.decode(), headers["Content-Security-Policy"]
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    assert allowed.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in allowed and "connect-src 'self'" in allowed
    assert len(re.findall(r"<script>", page)) == len(re.findall(r"<style>", page)) == 1
    assert not re.search(r"\b(src|href|style|on\w+)=", re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL))
    assert "innerHTML" not in page and set(re.findall(r"https?://[^\"]*", page)) == {"http://www.w3.org/2000/svg"}
    assert {f"/api/v1/{path}" for path in ("events", "vms")} <= set(re.findall(r"/api/v1/\w+", page))
    for words in ('<html lang="en">', 'name="viewport"', "prefers-color-scheme: dark", 'aria-live="polite"', "<noscript>"):
        assert words in page, words


def test_events_tell_at_once_what_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(routes, "TELL_S", 3600.0)
    monkeypatch.setattr(routes, "LOOK_S", 0.02)

    async def run():
        watch = known(tmp_path, leader())
        async with server(watch) as made:
            reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
            writer.write(b"GET /api/v1/events HTTP/1.1\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            first = await told(reader)
            watch._last["demo"] = leader(service="degraded")
            second = await told(reader)
            writer.close()
            return head, first, second

    async def told(reader):
        while not (line := await asyncio.wait_for(reader.readline(), 60.0)).startswith(b"data: "):
            pass
        check("Vms", out := json.loads(line[6:]))
        return out["vms"][0]["service"]

    head, *services = asyncio.run(run())
    assert b"Content-Type: text/event-stream" in head and b"Content-Length" not in head and services == ["protected", "degraded"]


def test_streams_are_limited_and_end(tmp_path, monkeypatch):
    monkeypatch.setattr(web_server, "STREAMS_MAX", 0)
    ((status, _headers, body),) = get(known(tmp_path, leader()), "/api/v1/events")
    assert (status, body) == (200, b"retry: 1000\n\n")
    monkeypatch.setattr(web_server, "STREAMS_MAX", 1)
    monkeypatch.setattr(routes, "STREAM_S", 0.1)
    ((_status, _headers, body),) = get(known(tmp_path, leader()), "/api/v1/events")
    assert body.count(b"event: vms\n") == 1


# --- TLS ---


def certificates(folder, **more):
    values = {"transport": "tls", "tls_folder": str(folder), **more}
    return Certificates(settings_of(json.dumps(values).encode(), "settings.json"))


def give(folder, authority, name="host.example"):
    certificate, key, _serial = authority.issue(f"plover-exporter:{CLUSTER}/{name}")
    folder.mkdir(exist_ok=True)
    for file, text in (("ca.pem", authority.pem), ("cert.pem", certificate), ("key.pem", key)):
        put(folder / file, text)


def client(authority, folder=None):
    context = ssl.create_default_context(cadata=authority.pem)
    context.check_hostname = False  # this certificate has no name of a host
    if folder:
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_tls_with_a_certificate_of_the_group(tmp_path):
    authority = Authority(CLUSTER)
    give(tmp_path / "tls", authority)
    watch, tls = known(tmp_path, leader()), certificates(tmp_path / "tls")
    assert get(watch, "/readyz", context=client(authority), tls=tls.context)[0][0] == 200
    with pytest.raises(ssl.SSLError):
        get(watch, "/readyz", context=client(Authority(CLUSTER)), tls=tls.context)
    with pytest.raises((ConnectionError, ValueError, IndexError)):  # plain HTTP gets nothing that could be read
        get(watch, "/readyz", tls=tls.context)


def test_clients_need_a_certificate_if_that_is_set(tmp_path):
    authority = Authority(CLUSTER)
    give(tmp_path / "tls", authority)
    give(tmp_path / "prometheus", authority, "prometheus")
    watch, tls = known(tmp_path, leader()), certificates(tmp_path / "tls", client_certificates="required")
    assert get(watch, "/readyz", context=client(authority, tmp_path / "prometheus"), tls=tls.context)[0][0] == 200
    with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
        get(watch, "/readyz", context=client(authority), tls=tls.context)


def test_new_files_count_at_once_and_bad_ones_never(tmp_path, caplog):
    folder, tls = tmp_path / "tls", certificates(tmp_path / "tls")
    with pytest.raises(ConfigError, match=r"tls_folder: .*cert.pem: No such file or directory; run the play with role monitoring"):
        tls.context()
    give(folder, Authority(CLUSTER))
    first = tls.context()
    assert tls.context() is first
    put(folder / "cert.pem", "nonsense")
    assert tls.context() is first and "the files from before are still in use" in caplog.text
    give(folder, Authority(CLUSTER))
    assert tls.context() is not first
