"""By http: signed addresses and IPv6 work; redirects, rebound names and this machine's inside do not."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from adapter_files import NEEDED, archive, contents
from adapter_web import adapter_web
from system_programs import program

from s3lora_serve.adapters.fetch import web_file
from s3lora_serve.adapters.fetch.address import Source
from s3lora_serve.adapters.fetch.reach import EVERYWHERE, Reach
from s3lora_serve.adapters.fetch.sources import ATTEMPTS, fetch
from s3lora_serve.config import LimitsConfig
from s3lora_serve.errors import LimitError, SourceError, SourceNotAllowed
from s3lora_serve.storage.daemon_threads import abandoned

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE = "sig=s3cr%2Ft-signature&se=1%3A2"


def served(adapter: Path, folder: str = "/a") -> dict[str, bytes]:
    """The adapter's files by the paths that a web server has them at."""
    return {f"{folder}/{name}": raw for name, raw in contents(adapter).items()}


def allowing(*sources: str) -> Reach:
    """What a server may read that names these alone."""
    return Reach(tuple(Source.parse(source).place for source in sources))


@pytest.fixture
def web(adapter: Path):
    """The adapter at /a."""
    with adapter_web(served(adapter)) as web:
        yield web


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_signed_folder_is_fetched(tmp_path: Path, adapter: Path, host: str):
    """The query goes behind each file's path, IPv6 literals work, and the copy's address has no signature."""
    with adapter_web(served(adapter), host, signature=SIGNATURE) as web:
        url = f"{web.url}/a"
        fetched = fetch(f"{url}/?{SIGNATURE}", tmp_path / "copy", LimitsConfig(), reach=allowing(web.url))
    assert contents(fetched.folder) == contents(adapter)
    assert fetched.uri == f"{url}/"
    assert sorted(web.asked) == [f"/a/{name}?{SIGNATURE}" for name in NEEDED]
    assert web.headers[0]["Host"] == url.removeprefix("http://").removesuffix("/a")


@pytest.mark.parametrize("inside", ["", "in/side/"])
def test_an_archive_behind_a_signature_is_fetched(tmp_path: Path, adapter: Path, inside: str):
    """It is copied first, within the limits."""
    raw = archive(adapter, tmp_path / "a.zip", inside).read_bytes()
    with adapter_web({"/a.zip": raw}, signature=SIGNATURE) as web:
        source = f"zip://{inside.rstrip('/')}::{web.url}/a.zip?{SIGNATURE}"
        assert contents(fetch(source, tmp_path / "copy", LimitsConfig()).folder) == contents(adapter)
        with pytest.raises(LimitError, match=r"a\.zip has more than \d+ bytes"):
            fetch(source, tmp_path / "copy", LimitsConfig(max_adapter_mib=len(raw) / 2**21))


def test_a_wrong_signature_is_not_told(tmp_path: Path, adapter: Path):
    """The error has the address, and neither signature nor a traceback that quotes one."""
    with (
        adapter_web(served(adapter), signature=SIGNATURE) as web,
        pytest.raises(SourceError, match="answers 403") as caught,
    ):
        fetch(f"{web.url}/a?sig=wrong-signature", tmp_path / "copy", LimitsConfig())
    assert "wrong" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(web.asked) == 1


def test_a_file_that_ends_early_is_no_adapter(tmp_path: Path, adapter: Path, web):
    """It is asked for again, then refused: what came is not what the server has."""
    web.short = 1
    with pytest.raises(SourceError, match="ended 1 bytes early"):
        fetch(f"{web.url}/a", tmp_path / "copy", LimitsConfig())
    assert len(web.asked) == ATTEMPTS * len(NEEDED)


def test_a_declared_size_over_the_limit_is_refused_unread(tmp_path: Path, web):
    """Nothing is written of it."""
    with pytest.raises(LimitError, match=r"adapter_model\.safetensors has \d+ bytes >"):
        fetch(f"{web.url}/a", tmp_path / "copy", LimitsConfig(max_adapter_mib=0.0005))
    assert not (tmp_path / "copy" / NEEDED[1]).exists()


def test_redirects_stay_on_their_host(tmp_path: Path, adapter: Path, web):
    """To another path of the same server they are followed; to another server or port, nothing is sent."""
    web.moved = {f"/moved/{name}": f"/a/{name}" for name in NEEDED}
    assert contents(fetch(f"{web.url}/moved", tmp_path / "copy", LimitsConfig()).folder) == contents(adapter)
    with adapter_web(served(adapter)) as inner:
        for target in (f"{inner.url}/a/x", "http://other.invalid/x?token=SECRET", "file:///etc/passwd"):
            web.moved = {f"/moved/{name}": target for name in NEEDED}
            with pytest.raises(SourceError, match="redirects to") as caught:
                fetch(f"{web.url}/moved", tmp_path / "copy", LimitsConfig())
            assert "SECRET" not in str(caught.value)
        assert inner.asked == []


def test_redirects_stay_in_what_is_allowed(tmp_path: Path, web):
    """A folder that is allowed does not lead out of itself, nor on and on."""
    web.moved = {f"/moved/{name}": f"/a/{name}" for name in NEEDED}
    with pytest.raises(SourceNotAllowed):
        fetch(f"{web.url}/moved", tmp_path / "copy", LimitsConfig(), reach=allowing(f"{web.url}/moved"))
    assert not any(target.startswith("/a/") for target in web.asked)
    web.moved = {f"/moved/{name}": f"/moved/{name}" for name in NEEDED}
    with pytest.raises(SourceError, match="over 5 redirects"):
        fetch(f"{web.url}/moved", tmp_path / "copy", LimitsConfig())


def test_no_redirect_drops_encryption():
    """From https to http, on the same host."""
    place = Source.parse("https://host/a").place
    with pytest.raises(SourceError, match="redirects to http://host, which is not followed"):
        web_file._redirected(place, "http://host/a", EVERYWHERE)
    onward = web_file._redirected(Source.parse("http://host/a").place, "https://host/b", EVERYWHERE)
    assert str(onward) == "https://host/b"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"])
def test_this_machine_must_be_named(tmp_path: Path, web, host: str):
    """However it is spelt, also where every host is allowed; no connection is made."""
    for reach in (Reach(anywhere=True), allowing(f"http://{host}:{web.port + 1}")):
        with pytest.raises(SourceNotAllowed):
            fetch(f"http://{host}:{web.port}/a", tmp_path / "copy", LimitsConfig(), reach=reach)
    assert web.asked == []


def test_a_name_that_leads_inside_is_refused(tmp_path: Path, adapter: Path, web, monkeypatch):
    """A host that is allowed by its name does not reach this machine; once the address is named, it does.

    The name is looked up once: an answer that changes between check and connection changes nothing.
    """
    real, lookups = socket.getaddrinfo, []

    def rebound(host, *args, **kw):
        lookups.append(host)
        return real("127.0.0.1" if host == "partner.example" else host, *args, **kw)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    named = f"http://partner.example:{web.port}"
    with pytest.raises(SourceNotAllowed, match=r"its host has the address 127\.0\.0\.1") as caught:
        fetch(f"{named}/a", tmp_path / "copy", LimitsConfig(), reach=allowing(named))
    assert f"add http://127.0.0.1:{web.port} to sources.allow" in caught.value.hint
    assert web.asked == []
    lookups.clear()
    fetched = fetch(f"{named}/a", tmp_path / "copy", LimitsConfig(), reach=allowing(named, web.url))
    assert contents(fetched.folder) == contents(adapter)
    assert lookups == ["partner.example"] * len(NEEDED)
    assert {headers["Host"] for headers in web.headers} == {f"partner.example:{web.port}"}


def test_passwords_come_from_netrc(tmp_path: Path, web, monkeypatch):
    """Of the server's user, for the host that they are of."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password pw\nmachine b login x password y\n")
    (tmp_path / ".netrc").chmod(0o600)
    fetch(f"{web.url}/a", tmp_path / "copy", LimitsConfig())
    assert web.headers[0]["Authorization"] == "Basic bWU6cHc="
    fetch(f"http://localhost:{web.port}/a", tmp_path / "copy", LimitsConfig())
    assert "Authorization" not in web.headers[-1]


def test_https_checks_the_name_although_the_address_is_pinned(tmp_path: Path, adapter: Path, monkeypatch):
    """A certificate of the source's host is taken, another host's is not, and is not tried again."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=partner.example", "-addext", "subjectAltName=DNS:partner.example"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([program("openssl"), *new, *named, *files], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    real, lookups = socket.getaddrinfo, []
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **kw: (lookups.append(host), real("127.0.0.1", *a, **kw))[1]
    )
    with adapter_web(served(adapter), tls=tls) as web:
        good = f"https://partner.example:{web.port}/a"
        assert contents(fetch(good, tmp_path / "copy", LimitsConfig()).folder) == contents(adapter)
        lookups.clear()
        with pytest.raises(SourceError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(good.replace("partner", "other"), tmp_path / "copy", LimitsConfig())
    assert lookups == ["other.example"]


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"])
def test_an_endless_answer_ends_with_its_fetch(tmp_path: Path, begun: bytes):
    """Interim answers or trailers without end: read on, they would take a processor as long as they come."""
    more = b"x: y\r\n" if begun else b"HTTP/1.1 100 Continue\r\n\r\n"

    def talk(client: socket.socket) -> None:
        with client, suppress(OSError):
            client.sendall(begun)
            while True:
                client.sendall(more * 100)

    def answer() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/a"
        with pytest.raises(SourceError, match=r"not fetched within 0\.3 s"):
            fetch(url, tmp_path / "copy", LimitsConfig(fetch_seconds=0.3))
        until = time.monotonic() + 20
        while abandoned():
            assert time.monotonic() < until, "what was given up reads on"
            time.sleep(0.01)
