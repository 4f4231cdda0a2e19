"""The sender against receivers that others have written, plain and over TLS.

`make interop` installs what can be installed; what is not here is skipped, and says so.
"""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from webhookd.core.egress import parse_policy
from webhookd.core.model import Answer, Terms
from webhookd.core.urls import parse
from webhookd.http.channel import Sender

PROGRAMS = Path(__file__).parent / "programs"
INTEROP = os.environ.get("WEBHOOKD_INTEROP", "")
READY_WITHIN = 20.0
LONG = 10_000

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_max_body_size 10m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port}{tls};
    location / {{ return 200 "$request_method $request_uri $content_length"; }}
    location /gone {{ return 410; }}
    location /moved {{ return 302 https://elsewhere.example/; }}
  }}
}}
"""


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def command(kind: str, port: int, pem: Path | None, folder: Path) -> list[str]:
    more = [str(pem)] if pem else []
    if kind == "nginx":
        tls = f" ssl; ssl_certificate {pem}; ssl_certificate_key {pem}" if pem else ""
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port, tls=tls))
        return [program("nginx"), "-p", str(folder), "-c", str(config)]
    if kind == "node":
        return [program("node"), str(PROGRAMS / "interop.js"), str(port), *more]
    if kind == "http.server":
        return [sys.executable, str(PROGRAMS / "interop.py"), str(port), *more]
    if not INTEROP:
        pytest.skip("hypercorn is not installed; `make interop` does it")
    options = ["--keyfile", *more, "--certfile", *more] if more else []
    bind = [f"--bind=127.0.0.1:{port}", "--access-logfile", "/dev/null"]
    return [sys.executable, "-m", "hypercorn", *bind, *options, "interop:application"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    until = time.monotonic() + READY_WITHIN
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    assert process.stderr is not None
    process.kill()
    pytest.fail(f"it does not serve: {process.stderr.read().decode()[-500:]}")


Running = tuple[str, str, Terms]


@pytest.fixture(scope="module", params=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param == "tls"
    return found


@pytest.fixture(scope="module", params=["nginx", "hypercorn", "node", "http.server"])
def running(
    request: pytest.FixtureRequest, tls: bool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A receiver's kind, its URL without a path, and the terms that it needs."""
    folder = tmp_path_factory.mktemp("interop")
    pem, terms = None, Terms()
    if tls:
        authority, pem = trustme.CA(), folder / "server.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
        terms = Terms(ca=authority.cert_pem.bytes().decode())
    port = free_port()
    line = command(request.param, port, pem, folder)
    path = os.pathsep.join([INTEROP, str(PROGRAMS)])
    environ = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environ
    ) as process:
        try:
            wait_for(process, port)
            yield request.param, f"http{'s' if tls else ''}://localhost:{port}", terms
        finally:
            process.terminate()


def wire(url: str, body: bytes) -> bytes:
    parsed = parse(url)
    head = f"POST {parsed.target} HTTP/1.1\r\nHost: {parsed.netloc}\r\n"
    return (
        f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def test_requests_arrive_whole_one_after_the_other(running: Running) -> None:
    kind, base, terms = running
    sender = Sender(parse_policy(["localhost"], []))
    channel = sender.channel()
    for number, size in enumerate((0, 2, 1_000, 300_000, 3)):
        url, body = f"{base}/in?number={number}", b"x" * size
        result = await channel.send(parse(url), wire(url, body), LONG, terms)
        assert isinstance(result, Answer)
        assert (result.status, result.note) == (200, "")
        told = f"POST /in?number={number} {size}"
        if kind != "nginx":
            told += f" {hashlib.sha256(body).hexdigest()[:16]}"
        assert result.excerpt.decode() == told
    await channel.aclose()


async def test_other_statuses_come_through(running: Running) -> None:
    kind, base, terms = running
    if kind != "nginx":
        pytest.skip("only nginx's configuration has other statuses")
    channel = Sender(parse_policy(["localhost"], [])).channel()
    for path, status, location in (
        ("/gone", 410, ""),
        ("/moved", 302, "https://elsewhere.example/"),
    ):
        url = base + path
        result = await channel.send(parse(url), wire(url, b"{}"), LONG, terms)
        assert isinstance(result, Answer)
        assert (result.status, result.location) == (status, location)
    await channel.aclose()


async def test_a_receiver_s_certificate_is_checked(running: Running) -> None:
    _, base, terms = running
    if not terms.ca:
        pytest.skip("there is no certificate without TLS")
    channel = Sender(parse_policy(["localhost"], [])).channel()
    url = f"{base}/in"
    result = await channel.send(parse(url), wire(url, b"{}"), LONG)
    assert not isinstance(result, Answer)
    assert "certificate verify failed" in result.detail
    await channel.aclose()
