"""`listen`: a real process that verifies and prints what it gets."""

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from tests.events import event
from webhookd.config.load import load
from webhookd.core import urls
from webhookd.core.model import (
    Secret,
    Subscription,
    SubscriptionId,
    SubscriptionKey,
    SubscriptionState,
)
from webhookd.core.profiles import BUILT_IN
from webhookd.core.request import Renderer

SECRET = "whsec_" + "QUFB" * 8
EVENT = event("order.changed", "ORD-1", event_id="evt_11", occurred_at="2026-01-15T10:30:00.000Z")


class Listener:
    def __init__(self, process):
        self.process = process
        first = process.stderr.readline()
        assert first.startswith("listening on http://127.0.0.1:"), first
        self.port = int(first.rstrip("/\n").rpartition(":")[2])
        self.secret = ""
        self.advice = process.stderr.readline()
        if self.advice.startswith("its secret, made for this run: "):
            self.secret = self.advice.rpartition(" ")[2].rstrip("\n")
            self.advice = process.stderr.readline()
        self.needs = process.stderr.readline()

    def send(self, body=b'{"type":"a.b"}', secret=SECRET, profile="standard", age=0, **headers):
        scheme = BUILT_IN.get(profile).scheme
        timestamp = str(int(time.time()) - age)
        key = BUILT_IN.get(profile).check_secret(secret)
        signature = scheme.sign([key], "msg-1", timestamp, body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(
                "POST",
                "/in",
                body,
                {
                    "webhook-id": "msg-1",
                    "webhook-timestamp": timestamp,
                    "webhookd-sequence": "3",
                    "webhookd-attempt": "1",
                    scheme.header: signature,
                    **headers,
                },
            )
            return connection.getresponse().status
        finally:
            connection.close()

    def ends(self):
        out, errors = self.process.communicate(timeout=60)
        return self.process.returncode, out, errors


@contextlib.contextmanager
def listening(*args, **env):
    process = subprocess.Popen(
        [sys.executable, "-m", "webhookd", "listen", "--port", "0", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **env},
        text=True,
    )
    with process:
        try:
            yield Listener(process)
        finally:
            if process.poll() is None:
                process.kill()


def test_what_is_genuine_and_what_is_not():
    with listening("--max", "4", "--secret", "env:KEY", KEY=SECRET) as listener:
        statuses = [
            listener.send(),
            listener.send(secret="whsec_" + "QkJC" * 8),
            listener.send(age=3_600),
            listener.send(**{"webhook-signature": ""}),
        ]
        code, out, errors = listener.ends()
    assert statuses == [204, 401, 401, 401]
    assert (code, errors) == (0, "")
    first, second, third, fourth = out.splitlines()
    assert first[12:] == (' 204 genuine POST /in id=msg-1 sequence=3 attempt=1 {"type":"a.b"}')
    assert " 401 signature POST" in second
    assert " 401 timestamp POST" in third
    assert " 401 missing_header POST" in fourth


FORMATS = [
    ("standard", "", SECRET),
    ("standard", "", "whsk_" + "QUFB" * 10 + "QUE="),
    ("ntropy", "", SECRET),
    ("floriday", "", SECRET),
    ("floriday", "", None),
    ("onestock", "", "a-hash-key-of-the-caller"),
    ("cloudevents", "structured", SECRET),
    ("cloudevents", "binary", SECRET),
    ("mine", "", "a-secret-in-plain-text"),
]
MINE = '[profiles.mine]\nbase = "ntropy"\nsecret = "utf8"\nlayout = "v9 {timestamp} {signature}"\n'


@pytest.mark.parametrize(("name", "mode", "secret"), FORMATS)
def test_what_each_profile_sends_is_genuine(tmp_path, name, mode, secret):
    config = tmp_path / "config.toml"
    config.write_text(f'database = "erp.db"\n{MINE}')
    profile = load(config, database=None, environ={}).profiles.get(name)
    args = ("--max", "4", "--profile", name, *(("--secret", "env:KEY") if secret else ()))
    with listening(*args, WEBHOOKD_CONFIG=str(config), KEY=secret or "") as listener:
        url = urls.parse(f"http://127.0.0.1:{listener.port}/in")
        to = made(profile, url=url, mode=mode, secret=secret)
        statuses = []
        for payload in (b'{"n": 1.10, "u": "\xc3\xbc"}', None):
            event = EVENT._replace(payload=payload)
            now = time.time_ns() // 1_000_000
            request = Renderer(profile, to).render(event, number=7, attempt=1, now=now)
            altered = replace(request, body=request.body.replace(b"1", b"2"))
            statuses += [posted(listener.port, one) for one in (request, altered)]
        _, out, errors = listener.ends()
    # Without a secret too: floriday's body has the event's id in it, and here it is another one.
    assert statuses == [204, 401] * 2
    assert errors == ""
    said = [line.split()[2] for line in out.splitlines()]
    assert said[::2] == ["genuine"] * 2
    assert secret is None or secret not in out


def posted(port, request):
    """The status of the answer to those very bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stream:
        stream.sendall(request.wire())
        return int(stream.makefile("rb").readline().split()[1])


def made(profile, *, url, mode, secret):
    return Subscription(
        key=SubscriptionKey(1),
        id=SubscriptionId("wh_AAAAAAAAAAAAAAAAAAAAAA"),
        name="acme",
        url=url,
        events=("*",),
        tenant="org_1",
        profile=profile.name,
        mode=mode,
        method=profile.methods[0],
        state=SubscriptionState.ENABLED,
        state_reason="",
        headers=(),
        secrets=() if secret is None else (Secret(secret),),
        policy=profile.policy,
        created_at="2026-01-01T00:00:00.000Z",
        unsigned=secret is None,
    )


def test_json_is_a_line_a_request():
    with listening("--max", "1", "--secret", "env:KEY", "--json", KEY=SECRET) as listener:
        assert listener.send(b'{"n":"\xc3\xbc"}') == 204
        _, out, _ = listener.ends()
    said = json.loads(out)
    assert set(said) == {
        *("at", "method", "target", "headers", "body", "verdict", "detail", "status"),
    }
    assert (said["verdict"], said["status"], said["body"]) == ("genuine", 204, '{"n":"ü"}')


def test_it_advises_how_to_subscribe_it_and_makes_a_secret():
    with listening("--max", "1", "--profile", "ntropy") as listener:
        assert listener.secret.startswith("whsec_")
        assert listener.advice == (
            "subscribe it, with that secret on standard input: webhookd subscriptions add"
            f" http://127.0.0.1:{listener.port}/ --profile ntropy --secret -\n"
        )
        assert listener.needs == (
            'that command and the daemon need [egress] allow = ["127.0.0.1"] in a file named by'
            " --config or WEBHOOKD_CONFIG\n"
        )
        assert listener.send(secret=listener.secret, profile="ntropy") == 204
        listener.ends()


def test_its_advice_names_a_tenant_where_one_is_needed():
    with listening("--max", "1", "--profile", "floriday", "--secret", "env:KEY", KEY=SECRET) as it:
        assert it.advice == (
            "subscribe it, with an id for TENANT, with the same secret on standard input: webhookd"
            f" subscriptions add http://127.0.0.1:{it.port}/ --profile floriday --secret -"
            " --tenant TENANT\n"
        )
        it.send(profile="floriday")
        it.ends()


def test_its_advice_works_as_it_stands(webhookd):
    """Pasted into a shell, with the file that it names saying what it is to say."""
    config = webhookd.config.with_name("my config.toml")
    webhookd.config.rename(config)
    with listening(WEBHOOKD_CONFIG=str(config)) as listener:
        assert listener.needs.endswith(f" in {config}\n")
        config.write_text(
            config.read_text() + f"[egress]\nallow = {listener.needs.split('allow = ')[1][:13]}\n"
        )
        line = listener.advice.removeprefix("subscribe it, with that secret on standard input: ")
        assert f" --config '{config}' " in line
        run = shlex.join([sys.executable, "-m", "webhookd"])
        done = subprocess.run(
            ["sh", "-c", line.replace("webhookd --config", f"{run} --config")],
            input=f"{listener.secret}\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert listener.secret not in done.stdout + line, "it is no part of the command"
        assert listener.send(secret=listener.secret) == 204
    assert webhookd.sql("SELECT value FROM webhookd_secrets") == [(listener.secret,)]


def test_a_given_secret_is_not_repeated():
    with listening("--max", "1", "--secret", "env:KEY", KEY=SECRET) as listener:
        assert listener.advice == (
            "subscribe it, with the same secret on standard input: webhookd subscriptions add"
            f" http://127.0.0.1:{listener.port}/ --profile standard --secret -\n"
        )
        listener.send()
        _, out, errors = listener.ends()
    assert SECRET not in out + errors


def test_it_fails_as_often_as_it_is_told():
    with listening("--max", "2", "--fail-rate", "1") as listener:
        assert [listener.send(), listener.send()] == [500, 500]
        assert listener.ends()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_a_signal(number):
    with listening() as listener:
        listener.process.send_signal(number)
        code, out, errors = listener.ends()
    assert (code, out, errors) == (0, "", "")


def test_it_ends_when_nobody_reads_it():
    with listening() as listener:
        listener.process.stdout.close()
        listener.send()
        assert listener.process.wait(60) == 0
        assert listener.process.stderr.read() == ""


def test_a_taken_port_is_a_usage_error(bare):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = bare.fails("listen", "--port", port, code=2)
    assert line == f"--port {port}: Address already in use; choose another"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--profile", "nosuch"], 2, "--profile: no profile 'nosuch'"),
        (["--secret", "env:NO_SUCH_VARIABLE"], 3, "no such environment variable"),
        (["--secret", "short"], 2, "--secret: the secret must begin with whsec_"),
        (["--fail-rate", "2"], 2, "'2': takes a share from 0 to 1"),
    ],
)
def test_wrong_options(bare, args, code, said):
    assert said in bare.fails("listen", *args, code=code)
