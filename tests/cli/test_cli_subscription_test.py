"""`subscriptions test`, with a receiver on a socket."""

import pytest

from webhookd.core.profiles import BUILT_IN
from webhookd.core.verify import verify

SECRET = "whsec_" + "QUFB" * 8


@pytest.fixture
def subscribed(webhookd, receiver):
    webhookd.configure('[egress]\nallow = ["127.0.0.1"]\n')
    url = f"http://127.0.0.1:{receiver.server_port}/in?key=HUSHHUSH"
    options = ("--name", "acme", "--secret", SECRET, "--header", "X-Key: HUSHHUSH")
    webhookd("subscriptions", "add", url, "--events", "order.*", *options)
    return ("subscriptions", "test", "acme")


def test_one_signed_event_goes_out_and_nothing_is_kept_of_it(webhookd, receiver, subscribed):
    tables = ("webhookd_file", "webhookd_deliveries", "webhookd_events", "webhookd_counters")
    before = [webhookd.sql(f"SELECT * FROM {table}") for table in tables]
    done = webhookd(*subscribed)
    assert done.stdout.startswith("acme: http 204 after ")
    assert done.stdout.endswith(" ms: a delivery would be done\n")
    ((path, headers, body),) = receiver.asked
    assert path == "/in?key=HUSHHUSH"
    assert headers["X-Key"] == "HUSHHUSH"
    assert body.startswith(b'{"type":"webhookd.test",')
    assert (headers["webhookd-sequence"], headers["webhookd-attempt"]) == ("0", "1")
    sent_at = int(headers["webhook-timestamp"])
    assert verify(BUILT_IN.get("standard"), SECRET, headers, body, now=sent_at * 1000).ok
    assert done.stderr == (
        f"webhookd: sending one event webhookd.test to "
        f"http://127.0.0.1:{receiver.server_port}/in?*** "
        f"(POST, profile standard, webhook-id {headers['webhook-id']})\n"
    )
    assert [webhookd.sql(f"SELECT * FROM {table}") for table in tables] == before


def test_each_one_has_an_id_of_its_own_and_a_paused_one_is_tried_too(
    webhookd, receiver, subscribed
):
    webhookd("subscriptions", "pause", "acme")
    first, second = webhookd.json(*subscribed), webhookd.json(*subscribed)
    assert first["event_id"] != second["event_id"]
    assert (first["status"], first["error"]) == (204, None)
    assert set(first) == {
        *("id", "name", "event_id", "status", "error", "duration_ms", "meaning"),
    }
    assert webhookd.json("subscriptions", "show", "acme")["state"] == "paused"


def test_one_that_is_not_taken_exits_with_1_and_says_what_would_come_of_it(
    webhookd, receiver, subscribed
):
    receiver.status, receiver.answer = 503, {"Retry-After": "30"}
    said = webhookd(*subscribed, code=1).stdout
    assert said.startswith("acme: http 503 after ")
    assert said.endswith("a delivery would be tried again after 30s, and nothing else before 30s\n")
    webhookd("subscriptions", "update", "acme", "--permanent-statuses", "4xx")
    receiver.status, receiver.answer = 404, {}
    shown = webhookd.json(*subscribed, code=1)
    assert (shown["status"], shown["error"]) == (404, "http 404")
    assert shown["meaning"] == "a delivery would have failed for good (permanent_status)"


def test_nobody_there_and_a_place_that_is_not_allowed(webhookd, subscribed):
    webhookd("subscriptions", "update", "acme", "--url", "http://127.0.0.1:1/?k=HUSHHUSH")
    done = webhookd(*subscribed, code=1)
    assert "refused" in done.stdout
    assert "HUSH" not in done.output
    webhookd.configure("")
    shown = webhookd.json(*subscribed, code=1)
    assert shown["error"].startswith("blocked: ")
    assert shown["status"] is None


def test_one_that_is_held_back_is_sent_nothing(webhookd, receiver, subscribed, monkeypatch):
    monkeypatch.delenv("GONE", raising=False)
    webhookd("subscriptions", "rotate-secret", "acme", "--secret", "env:GONE", "--overlap", "0")
    line = webhookd.fails(*subscribed, code=1)
    assert line.startswith("acme: env:GONE: ")
    assert line.endswith("; nothing was sent")
    assert receiver.asked == []


def test_usage(webhookd, subscribed):
    line = webhookd.fails(*subscribed, "--origin", "erp.example", code=2)
    assert line == "--origin: goes with --handshake"
    assert "no subscription 'no'" in webhookd.fails("subscriptions", "test", "no", code=1)
