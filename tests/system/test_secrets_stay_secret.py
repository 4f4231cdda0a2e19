"""G11, with a real daemon: no signing secret is in anything that a whole run prints or stores."""

import base64
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any


def text(seed: int) -> str:
    return base64.b64encode(bytes((seed + 7 * n) % 256 for n in range(32))).decode()


GIVEN = "whsec_" + text(1)
"""Given on standard input, and so in the table of secrets."""
FROM_ENVIRONMENT = "whsec_" + text(2)
FROM_FILE = "whsec_" + text(3)
HASH_KEY = "a-hash-key-of-a-customer-that-nobody-may-see"
NEXT_HASH_KEY = "the-next-hash-key-that-nobody-may-see-either"
PRIVATE = "whsk_" + text(4)
MISFIT = "not-in-the-form-of-any-secret-but-secret-all-the-same"
"""In a variable of the environment: it is refused, and not told."""
HEADER = "Bearer user-token-that-is-nobodys-business"
QUERY = "query-token-that-is-nobodys-business"

SECRETS = {
    "given": GIVEN,
    "environment": FROM_ENVIRONMENT,
    "file": FROM_FILE,
    "hash key": HASH_KEY,
    "next hash key": NEXT_HASH_KEY,
    "private key": PRIVATE,
    "misfit": MISFIT,
}
CONFIGURATION = """
[profiles.mine]
base = "ntropy"
signature_header = "X-Mine"
layout = "sig {signature}"
[log]
level = "debug"
"""


def forms(secret: str) -> list[bytes]:
    """The ways in which it could stand somewhere: whole, bare, decoded, as hex."""
    bare = secret.partition("_")[2] if secret.startswith("whs") else secret
    found = [secret.encode(), bare.encode(), bare.rstrip("=").encode()]
    if secret.startswith("whs"):
        key = base64.b64decode(bare)
        found += [key, key.hex().encode(), repr(key).encode()]
    return found


def as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "backslashreplace")


class Run:
    """A whole run, and whatever it has said: where, and what."""

    def __init__(self, site: Any, receiver: Any, home: Path) -> None:
        self.site, self.receiver = site, receiver
        self.kept = home / "partner.secret"
        self.kept.write_text(FROM_FILE + "\n")
        self.kept.chmod(0o600)
        self.environment = {
            **os.environ,
            "PARTNER_SECRET": FROM_ENVIRONMENT,
            "PARTNER_MISFIT": MISFIT,
        }
        self.said: dict[str, bytes] = {}

    def url(self, name: str) -> str:
        return f"/{name}?token={QUERY}"

    def __call__(self, *command: str, stdin: str = "", code: int | None = None) -> bytes:
        """Run a command; `code` is what it must exit with (None: anything)."""
        done = subprocess.run(
            self.site.arguments(*command),
            input=stdin.encode(),
            capture_output=True,
            env=self.environment,
            timeout=120,
            check=False,
        )
        self.keep(" ".join(command), done.stdout + done.stderr)
        assert code is None or done.returncode == code, (command, done.stdout, done.stderr)
        return done.stdout

    def keep(self, place: str, output: bytes) -> None:
        self.said[place] = self.said.get(place, b"") + output

    def add(self, name: str, secret: str, *options: str, stdin: str = "") -> None:
        quick = ("--retry-delays", "100ms,200ms")
        own = ("--header", f"Authorization: {HEADER}")
        url = self.receiver.url(self.url(name))
        self(
            *("subscriptions", "add", url, "--name", name, "--secret", secret, *quick, *own),
            *options,
            stdin=stdin,
            code=0,
        )

    def prepare(self) -> None:
        """Secrets of every kind, given in every way, and ones that are refused."""
        self.receiver.answer(
            given={"status": 500, "echo": True},
            hash={"status": 400, "echo": True},
            key={"status": 302, "echo": True},
            mine={"echo": True},
        )
        self.site.configure(CONFIGURATION)
        self("init", code=0)
        self.add("given", "-", stdin=GIVEN)
        self.add("environment", "env:PARTNER_SECRET")
        self.add("file", f"file:{self.kept}", "--profile", "ntropy")
        self.add("hash", "-", "--profile", "onestock", stdin=HASH_KEY)
        self.add("key", "-", "--profile", "cloudevents", "--mode", "binary", stdin=PRIVATE)
        self.add("mine", "-", "--profile", "mine", stdin=GIVEN)
        self.add("loose", "-", "--profile", "floriday", "--tenant", "org_1", stdin=GIVEN)
        rotate = ("subscriptions", "rotate-secret")
        self(*rotate, "environment", "--secret", "env:PARTNER_MISFIT", code=3)
        self(*rotate, "hash", "--secret", "-", stdin=NEXT_HASH_KEY, code=0)
        for wrong in (MISFIT, GIVEN[:-1], GIVEN + "\n\n"):
            self(*rotate, "given", "--secret", "-", stdin=wrong, code=2)

    def deliver(self, until: Any) -> None:
        """Five events to each."""
        self.site.execute(
            *(
                "INSERT INTO outbox (event_type, aggregate_id, tenant, payload)"
                f" VALUES ('order.changed', '{number}', 'org_1', '{{\"n\": {number}}}')"
                for number in range(5)
            )
        )
        # `given` is probed with one request at a time; the first of `hash` that fails disables it.
        unfinished = (
            "SELECT count(*) FROM webhook_results"
            " WHERE state = 'pending' AND subscription_name <> 'given'"
        )
        until(lambda: self.receiver.count() > 0 and self.site.value(unfinished) == 4, "an end")
        until(lambda: self.receiver.count(self.url("given")) >= 5, "all of it to be tried")

    def ask(self) -> None:
        """Every command that shows something."""
        deliveries = self.site.rows("SELECT delivery_id FROM webhook_results LIMIT 7")
        commands = [
            *(f"subscriptions show {name}" for name in ("given", "file", "hash", "key", "mine")),
            "subscriptions list",
            *(f"subscriptions test {name}" for name in ("given", "file", "hash", "key", "mine")),
            "status",
            "check",
            "events list",
            f"events show {self.site.value('SELECT event_id FROM webhook_events LIMIT 1')}",
            "events explain --outbox-id 1",
            "deliveries list",
            *(f"deliveries show {number}" for (number,) in deliveries),
            "results",
            "changes",
            "feed-events",
        ]
        for command in commands:
            for json_too in ((), ("--json",)):
                self(*command.split(), *json_too)
        for (number,) in deliveries:
            self("deliveries", "show", str(number), "--curl", "--reveal")
        self("deliveries", "show", str(deliveries[0][0]), "--curl", code=0)

    def judge_captured(self) -> None:
        """`verify`, with the right secret and with a part of it."""
        for name, profile, secret in (
            ("given", "standard", GIVEN),
            ("hash", "onestock", HASH_KEY),
            ("key", "cloudevents", PRIVATE),
            ("mine", "mine", GIVEN),
        ):
            captured = self.site.database.with_name(f"{name}.json")
            captured.write_text(json.dumps(self.receiver.requests(self.url(name))[0]))
            judge = ("verify", str(captured), "--profile", profile, "--secret", "-")
            time = b" (its time is not signed)" if name == "mine" else b""
            assert self(*judge, stdin=secret, code=0) == b"genuine%s\n" % time
            assert not self(*judge, stdin=secret[:-2]).startswith(b"genuine")

    def read_file(self) -> None:
        """Every table and view but the one that secrets are kept in."""
        names = self.site.rows("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        for (name,) in names:
            if name != "webhookd_secrets":
                rows = self.site.rows(f'SELECT * FROM "{name}"')
                cells = b"\n".join(as_bytes(value) for row in rows for value in row)
                self.keep(f"table {name}", cells)


def test_G11_no_secret_is_in_anything_that_a_run_prints_or_stores(
    site: Any, receiver: Any, tmp_path: Path, until: Any
) -> None:
    run = Run(site, receiver, tmp_path)
    run.prepare()
    daemon = site.daemon(env=run.environment)
    run.deliver(until)
    # The environment of a running daemon cannot be changed: a secret that goes is a file's.
    run.kept.chmod(0o644)
    run("subscriptions", "update", "file", "--timeout", "3s", code=0)
    daemon.until_logged("secret.missing")
    run.ask()
    run.judge_captured()
    # The secret itself where its form belongs.
    site.configure(f'{CONFIGURATION}[profiles.other]\nbase = "ntropy"\nsecret = "{GIVEN}"\n')
    daemon.send(signal.SIGHUP)
    daemon.until_logged("config.refused")
    run("check", code=3)
    lock = site.database.with_name(f"{site.database.name}-webhookd.lock")
    run.keep("the lock file", lock.read_bytes())
    assert daemon.stop() == 0
    run.keep("the log", "\n".join(daemon.said()).encode())
    run.keep("what the daemon printed", "\n".join(daemon.printed()).encode())
    run.read_file()

    # What is sought was there to be found: signatures went out, and answers repeated them.
    for answer in (b"http 500", b"http 400", b"redirect 302"):
        assert answer in run.said["the log"]
    echoed = [one for (one,) in site.rows("SELECT excerpt FROM webhookd_attempts") if one]
    assert len(echoed) > 20
    assert all(b"authorization: ***" in one.lower() for one in echoed)
    assert b"held back" in run.said["status"]
    signed = {json.dumps(one["headers"]) for one in receiver.requests()}
    assert any("x-mine" in one for one in signed)
    assert any("v1a," in one for one in signed)

    for name, secret in SECRETS.items():
        for form in forms(secret):
            for place, output in run.said.items():
                assert form not in output, f"the {name} secret is in: {place}"
    asked_for = re.compile(r"table webhookd_subscriptions|table sqlite_|--reveal")
    for place, output in run.said.items():
        if not asked_for.search(place):
            assert HEADER.encode() not in output, f"a header's value is in: {place}"
            assert QUERY.encode() not in output, f"a query is in: {place}"
