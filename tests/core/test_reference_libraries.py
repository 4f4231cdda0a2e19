"""What libraries of others say of our requests: Standard Webhooks (Python, npm), CloudEvents."""

import base64
import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import pytest
import standardwebhooks.webhooks
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.core.test_formats import EVENT, NOW, SECRET, send
from webhookd.core.model import Secret
from webhookd.core.profiles import BUILT_IN

OTHER = "whsec_BwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSY="
PRIVATE = "whsk_" + base64.b64encode(bytes(range(32))).decode()
SIGNED_SO = [one.name for one in BUILT_IN if one.scheme.header == "webhook-signature"]
EVENTS = [
    EVENT,
    EVENT._replace(payload=None),
    EVENT._replace(payload='{"ü": "€", "n": 1.10}'.encode()),
]
HELD = [
    (Secret(SECRET),),
    (Secret(OTHER), Secret(SECRET, NOW + 1)),
    (Secret(SECRET), Secret(OTHER, NOW + 1)),
    (Secret(PRIVATE), Secret(SECRET, NOW + 1)),
]
MODES = [("standard", ""), ("floriday", ""), ("cloudevents", ""), ("cloudevents", "binary")]


def test_these_are_all_that_are_signed_as_the_standard_says() -> None:
    assert sorted({name for name, _ in MODES}) == sorted(SIGNED_SO)


@pytest.fixture
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stopped":
            return cls.fromtimestamp(NOW / 1000, tz)

    monkeypatch.setattr(standardwebhooks.webhooks, "datetime", Stopped)
    assert Stopped.now(UTC).year == 2026


@pytest.mark.usefixtures("_stopped_clock")
@pytest.mark.parametrize(("name", "mode"), MODES)
@pytest.mark.parametrize("event", EVENTS, ids=["payload", "id-only", "non-ascii"])
@pytest.mark.parametrize("held", HELD, ids=["one", "newer", "older", "ed25519"])
def test_the_python_library_accepts_every_request(
    name: str, mode: str, event: object, held: tuple[Secret, ...]
) -> None:
    made = send(name, event, mode=mode, secrets=held)  # type: ignore[arg-type]
    headers = dict(made.headers)
    assert Webhook(SECRET).verify(made.body, headers) == json.loads(made.body)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(made.body + b" ", headers)


NODE = """
const { Webhook } = require("standardwebhooks");
Date.now = () => %d;
for (const one of JSON.parse(require("fs").readFileSync(0, "utf8"))) {
  const body = Buffer.from(one.body, "base64").toString("utf8");
  new Webhook(one.secret).verify(body, one.headers);
  let refused = false;
  try { new Webhook(one.secret).verify(body + " ", one.headers); } catch { refused = true; }
  if (!refused) throw new Error("accepted what was altered");
  console.log("accepted");
}
"""
ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".cache" / "node" / "node_modules"
"""Where `make test` puts what is npm's."""


def surroundings() -> dict[str, str]:
    return {**os.environ, "NODE_PATH": str(PACKAGES)}


def node() -> str:
    """Node, where the package can be had too; else the test is skipped with the reason."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("there is no node here")
    asked = [found, "-e", "require.resolve('standardwebhooks')"]
    if subprocess.run(
        asked,
        cwd=ROOT,
        env=surroundings(),
        capture_output=True,
        timeout=60,
        check=False,
    ).returncode:
        pytest.skip("npm's standardwebhooks is not here: `make test` fetches it")
    return found


def test_the_npm_library_accepts_every_request() -> None:
    program = node()
    requests = [
        {
            "secret": SECRET,
            "headers": {key.lower(): value for key, value in made.headers},
            "body": base64.b64encode(made.body).decode(),
        }
        for name, mode in MODES
        for event in EVENTS
        for held in HELD
        for made in [send(name, event, mode=mode, secrets=held)]
    ]
    done = subprocess.run(
        [program, "-e", NODE % NOW],
        cwd=ROOT,
        env=surroundings(),
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["accepted"] * len(requests)


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=40)


@settings(derandomize=True, max_examples=100)
@given(
    subject=TEXT,
    tenant=st.just("") | TEXT,
    content=st.none() | st.dictionaries(TEXT, st.integers()),
)
@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_the_cloudevents_library_reads_what_was_meant(
    mode: str, subject: str, tenant: str, content: dict[str, int] | None
) -> None:
    payload = None if content is None else json.dumps(content).encode()
    event = EVENT._replace(aggregate_id=subject, tenant=tenant, payload=payload)
    made = send("cloudevents", event, mode=mode)
    read = from_http_event(HTTPMessage(dict(made.headers), made.body))
    assert isinstance(read, CloudEvent), "of version 1.0"
    assert (read.get_id(), read.get_source()) == ("evt_1", "/webhookd")
    assert (read.get_type(), read.get_subject()) == ("SALESORDER.ACCEPTED", subject)
    assert read.get_time() == datetime(2024, 1, 15, 10, 30, 0, 250_000, UTC)
    assert read.get_extension("tenant") == (tenant or None)
    assert read.get_extension("aggregatetype") == "SALESORDER"
    assert read.get_extension("sequence") == "0000000000000000007"
    assert read.get_data() == content
    assert read.get_datacontenttype() == (None if content is None else "application/json")
