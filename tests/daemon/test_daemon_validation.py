"""`[outbox] validate` from the settings to the log."""

import sys
from dataclasses import replace

import pytest

from webhookd.config.settings import Outbox
from webhookd.daemon import run
from webhookd.daemon.tailer import DOUBTED_LINES
from webhookd.errors import EXIT_OK
from webhookd.logs.actions import Action

FAULT = "payload.entityType: is missing; a string is needed (ntropy sync.completed)"


@pytest.fixture(autouse=True)
def _switch_interval():
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def drained(world, monkeypatch, expected_logs, rows, **outbox):
    """Drain so many wrong rows and a right one behind them; returns what the log says of them."""
    monkeypatch.setattr(run, "HttpSender", lambda _egress: world.sender)
    world.subscribe("a")
    for _ in range(rows):
        world.insert("", "sync.completed")
    world.insert("x")
    world.settings = replace(world.settings, outbox=Outbox(**outbox))
    assert run.main(world.settings, drain=True) == EXIT_OK
    told = (Action.INGEST_DOUBTED, Action.INGEST_REJECTED)
    return [(r.action, r.fields) for r in expected_logs if r.action in told]


def test_off_says_nothing(world, monkeypatch, expected_logs):
    assert drained(world, monkeypatch, expected_logs, 1) == []
    assert world.states() == ["delivered"] * 2


def test_warn_sends_and_says_a_line_a_row_and_then_how_many_more(world, monkeypatch, expected_logs):
    rows = DOUBTED_LINES + 2
    said = drained(world, monkeypatch, expected_logs, rows, validate="warn")
    assert said == [
        *((Action.INGEST_DOUBTED, {"outbox_id": n, "detail": FAULT}) for n in range(1, 6)),
        (Action.INGEST_DOUBTED, {"more": 2, "see": "webhookd events show"}),
    ]
    assert world.states() == ["delivered"] * (rows + 1)


def test_reject_sends_what_is_right(world, monkeypatch, expected_logs):
    said = drained(world, monkeypatch, expected_logs, 1, validate="reject")
    fields = {"outbox_id": 1, "reason": "payload_mismatch", "detail": FAULT}
    assert said == [(Action.INGEST_REJECTED, fields)]
    assert world.states() == ["delivered"]


def test_another_systems_catalogue_says_nothing_of_it(world, monkeypatch, expected_logs):
    options = {"validate": "reject", "catalog": ("onestock",)}
    assert drained(world, monkeypatch, expected_logs, 1, **options) == []
