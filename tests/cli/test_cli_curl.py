"""`deliveries show --curl`: run by real shells, it sends what the daemon would send."""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from standardwebhooks import Webhook

ODD = (
    '{"text": "it\'s 100% \\\\n \\"q\\" $HOME `id` !x é 漢 🙂 \u202e\u0085 \x7f",\n'
    '\t"price": 1.10, "big": 123456789012345678901234567890}'
)
SHELLS = [shell for shell in ("bash", "dash", "sh") if shutil.which(shell)]
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")


class Receiver:
    """A server of the standard library's that keeps what it gets."""

    def __init__(self):
        self.got = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.command, self.path, self.headers.items(), body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_args):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_error):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver():
    with Receiver() as made:
        yield made


def owed(webhookd, url, *options, payload=ODD, profile="standard"):
    """One delivery; returns its id and the subscription's secret."""
    webhookd.configure('[egress]\nallow = ["127.0.0.1"]\n')
    added = webhookd.json(
        *("subscriptions", "add", url, "--name", "partner", "--profile", profile, *options)
    )
    webhookd("events", "emit", "thing.made", "--aggregate-id", "7", "--payload", "-", stdin=payload)
    webhookd.ingest()
    (one,) = webhookd.json("deliveries", "list")
    return str(one["delivery_id"]), added["secret"]


def run(shell, command, environ):
    done = subprocess.run(
        [shell],
        input=command,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("HTTP/1.1 204 ")


def expected(webhookd, monkeypatch, delivery):
    """The command, and the request that the daemon's own builder made for it."""
    from webhookd.cli.commands import deliveries as module

    seen = []
    real = module.as_curl

    def spy(request, **options):
        seen.append(request)
        return real(request, **options)

    monkeypatch.setattr(module, "as_curl", spy)
    command = webhookd("deliveries", "show", delivery, "--curl", "--reveal").stdout
    return command, seen[0]


@needs_curl
@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_sends_the_very_bytes(webhookd, receiver, shell, monkeypatch):
    path = "/in/../a%20b?key=$x&list=a[1-3]{x,y}"
    delivery, secret = owed(
        *(webhookd, receiver.url + path, "--header", "X-Own: it's $a"),
        *("--header", "User-Agent: own/1"),
    )
    command, request = expected(webhookd, monkeypatch, delivery)
    assert command.isascii()
    assert command.count("\n") == 1
    run(shell, command, {"http_proxy": "http://127.0.0.1:1"})
    ((method, target, headers, body),) = receiver.got
    assert (method, target) == ("POST", request.url.target)
    assert body == request.body
    assert ODD.encode() in body
    assert sorted(headers) == sorted(request.headers), "no more and no fewer"
    Webhook(secret).verify(body, dict(headers))
    assert dict(headers)["webhookd-attempt"] == "1"
    shown = webhookd.json("deliveries", "show", delivery)
    assert (shown["state"], shown["attempts"]) == ("pending", 0), "nothing is recorded of it"


@needs_curl
def test_a_body_that_no_argument_could_hold(webhookd, receiver):
    payload = json.dumps(["x%'\\" * 10] * 17_000)
    assert len(payload) > 700_000
    delivery, _ = owed(webhookd, receiver.url, payload=payload)
    run("sh", webhookd("deliveries", "show", delivery, "--curl").stdout, {})
    ((_, _, _, body),) = receiver.got
    assert payload.encode() in body


def test_G11_secrets_of_the_user_are_masked_unless_asked_for(webhookd):
    delivery, secret = owed(
        webhookd, "https://partner.example/in?token=HUSHHUSH", "--header", "X-Key: HUSHHUSH"
    )
    result = webhookd("deliveries", "show", delivery, "--curl")
    assert "HUSHHUSH" not in result.output
    assert "'X-Key: ***'" in result.stdout
    assert "'https://partner.example/in?***'" in result.stdout
    assert "--reveal shows them" in result.stderr
    whole = webhookd("deliveries", "show", delivery, "--curl", "--reveal")
    assert whole.stdout.count("HUSHHUSH") == 2
    assert "may be secrets" in whole.stderr
    for said in (result, whole):
        assert secret not in said.output
        assert secret.removeprefix("whsec_") not in said.output


def test_where_nothing_is_masked_nothing_is_said(webhookd):
    delivery, _ = owed(webhookd, "https://partner.example/in")
    masked = webhookd("deliveries", "show", delivery, "--curl")
    assert masked.stderr == ""
    shown = webhookd.json("deliveries", "show", delivery, "--curl")
    assert set(shown) == {"delivery_id", "command"}
    assert shown["command"].startswith('printf \'{"type":"thing.made"')


def test_what_has_no_request_to_show(webhookd, monkeypatch):
    delivery, _ = owed(webhookd, "https://partner.example/in")
    assert "goes with --curl" in webhookd.fails("deliveries", "show", delivery, "--reveal", code=2)
    assert webhookd.fails("deliveries", "show", "99", "--curl", code=1).startswith("no delivery 99")
    webhookd.sql("UPDATE webhookd_events SET payload = x''")
    assert "there is no request to show: the event's payload is empty" in webhookd.fails(
        "deliveries", "show", delivery, "--curl", code=1
    )
    webhookd.sql("UPDATE webhookd_secrets SET value = 'env:NOT_THERE', is_reference = 1")
    monkeypatch.delenv("NOT_THERE", raising=False)
    assert "env:NOT_THERE: no such environment variable" in webhookd.fails(
        "deliveries", "show", delivery, "--curl", code=1
    )
    webhookd("subscriptions", "remove", "partner", "--yes")
    assert "its subscription was removed" in webhookd.fails(
        "deliveries", "show", delivery, "--curl", code=1
    )
