"""G11, with a real daemon: no signing secret is in anything that a whole run prints or stores."""

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest


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


def tables(site: Any) -> list[str]:
    names = site.rows("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    return [name for (name,) in names if name != "webhookd_secrets"]


def as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "backslashreplace")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = tmp_path / "partner.secret"
    kept.write_text(FROM_FILE + "\n")
    kept.chmod(0o600)
    return {
        **os.environ,
        "PARTNER_SECRET": FROM_ENVIRONMENT,
        "PARTNER_MISFIT": MISFIT,
        "PARTNER_FILE": str(kept),
    }


def test_G11_no_secret_is_in_anything_that_a_run_prints_or_stores(
    site: Any,
    receiver: Any,
    environment: dict[str, str],
    until: Any,
) -> None:
    said: list[tuple[str, bytes]] = []

    def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            site.arguments(*command),
            input=stdin.encode(),
            capture_output=True,
            env=environment,
            timeout=120,
            check=False,
        )
        said.append((" ".join(command), done.stdout + done.stderr))
        return done

    def add(name: str, secret: str, *options: str, stdin: str = "") -> None:
        url = f"{receiver.url('/' + name)}?token={QUERY}"
        quick = ("--retry-delays", "100ms,200ms")
        held = ("--secret", secret) if secret else ()
        own = ("--header", f"Authorization: {HEADER}")
        done = run(
            *("subscriptions", "add", url, "--name", name, *held, *quick, *own, *options),
            stdin=stdin,
        )
        assert done.returncode == 0, done.stderr

    receiver.answer(
        given={"status": 500, "echo": True},
        hash={"status": 400, "echo": True},
        key={"status": 302, "echo": True},
        mine={"echo": True},
    )
    site.configure(CONFIGURATION)
    run("init")
    add("given", "-", stdin=GIVEN)
    add("environment", "env:PARTNER_SECRET")
    add("file", f"file:{environment['PARTNER_FILE']}", "--profile", "ntropy")
    add("hash", "-", "--profile", "onestock", stdin=HASH_KEY)
    add("key", "-", "--profile", "cloudevents", "--mode", "binary", stdin=PRIVATE)
    add("mine", "-", "--profile", "mine", stdin=GIVEN)
    add("loose", "-", "--profile", "floriday", "--tenant", "org_1", stdin=GIVEN)
    misfit = run("subscriptions", "rotate-secret", "environment", "--secret", "env:PARTNER_MISFIT")
    assert misfit.returncode == 3
    run("subscriptions", "rotate-secret", "hash", "--secret", "-", stdin=NEXT_HASH_KEY)
    for wrong in (MISFIT, GIVEN[:-1], GIVEN + "\n\n"):
        assert run("subscriptions", "rotate-secret", "given", "--secret", "-", stdin=wrong)

    daemon = site.daemon(env=environment)
    site.execute(
        *(
            "INSERT INTO outbox (event_type, aggregate_id, tenant, payload)"
            f" VALUES ('order.changed', '{number}', 'org_1', '{{\"n\": {number}}}')"
            for number in range(5)
        )
    )
    wanted = "SELECT count(*) FROM webhook_results WHERE state IN ('pending')"
    until(lambda: site.value(wanted) == 0 or receiver.count("/given?token=" + QUERY) > 8, "an end")
    until(lambda: receiver.count() >= 35, "all of them to be tried")
    # The environment of a running daemon cannot be changed: a secret that goes is a file's.
    Path(environment["PARTNER_FILE"]).chmod(0o644)
    run("subscriptions", "update", "file", "--timeout", "3s")
    daemon.until_logged("secret.missing")

    commands = [
        *(f"subscriptions show {name}" for name in ("given", "file", "hash", "key", "mine")),
        "subscriptions list",
        "status",
        "check",
        "events list",
        "events show 1",
        "deliveries list",
        *(
            f"deliveries show {number}"
            for (number,) in site.rows(
                "SELECT delivery_id FROM webhook_results ORDER BY delivery_id LIMIT 7"
            )
        ),
        "results",
        "changes",
        "feed-events",
    ]
    for command in commands:
        for json_too in ((), ("--json",)):
            run(*command.split(), *json_too)
    lock = site.database.with_name(f"{site.database.name}-webhookd.lock")
    said.append(("the lock file", lock.read_bytes()))
    assert daemon.stop() == 0
    said.append(("the log", "\n".join(daemon.said()).encode()))
    said.append(("what the daemon printed", "\n".join(daemon.printed()).encode()))
    for table in tables(site):
        rows = site.rows(f'SELECT * FROM "{table}"')
        cells = b"\n".join(as_bytes(value) for row in rows for value in row)
        said.append((f"table {table}", cells))

    # What is sought was there to be found: signatures went out, and answers repeated them.
    assert any(b"excerpt" in one for _, one in said)
    log = dict(said)["the log"]
    assert b"held back" in dict(said)["status"] or b"held back" in log
    signed = {json.dumps(one["headers"]) for one in receiver.requests()}
    assert any("x-mine" in one for one in signed)
    assert any("v1a," in one for one in signed)

    for name, secret in SECRETS.items():
        for form in forms(secret):
            for place, output in said:
                assert form not in output, f"the {name} secret is in: {place}"
    public = re.compile(rb"table webhookd_subscriptions|table sqlite_")
    for place, output in said:
        if not public.search(place.encode()):
            assert HEADER.encode() not in output, f"a header's value is in: {place}"
            assert QUERY.encode() not in output, f"a query is in: {place}"
