"""Payloads held against their types while rows become events."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.store.conftest import Box
from webhookd.config.catalog import validation
from webhookd.config.settings import Outbox
from webhookd.core.rows import RejectionReason
from webhookd.core.structure import Validation
from webhookd.errors import UsageError
from webhookd.store import ingest, lockfile
from webhookd.store.acceptance import accept_clone
from webhookd.store.deliveries import LATEST_EVENTS, latest_types
from webhookd.store.emit import NewRow, emit
from webhookd.store.explain import Rules, outbox_row
from webhookd.store.rejected import Retried, Retry
from webhookd.store.transaction import Session

WARN = validation(Outbox(validate="warn"))
REJECT = validation(Outbox(validate="reject"))
WRONG = '{"entityType": "SUPPLIER", "created": "5", "updated": 3, "errors": 0}'
RIGHT = WRONG.replace('"5"', "5")
FAULT = (
    "payload.created: a whole number of 64 bits is needed, and a string is there"
    " (ntropy sync.completed)"
)


def box_with(path: Path, held_against: Validation | None) -> Box:
    box = Box(path, validation=held_against)
    box.put("sync.completed", payload=RIGHT)
    box.put("sync.completed", payload=WRONG)
    box.put("sync.completed")
    box.put("own.type", payload=WRONG)
    box.put("COMMITTED", aggregate_type="SALESORDER", payload=WRONG)
    return box


def events(box: Box) -> list[int]:
    return [one for (one,) in box.rows("SELECT outbox_id FROM webhookd_events ORDER BY sequence")]


def test_off_takes_everything_in(path: Path) -> None:
    box = box_with(path, None)
    done = box.ingest()
    assert (done.rejected, done.doubted) == ((), ())
    assert events(box) == [1, 2, 3, 4, 5]
    box.close()


def test_warn_takes_everything_in_and_says_what_differs(path: Path) -> None:
    box = box_with(path, WARN)
    done = box.ingest()
    assert done.rejected == ()
    assert [(one.outbox_id, one.detail) for one in done.doubted] == [(2, FAULT)]
    assert events(box) == [1, 2, 3, 4, 5]
    box.close()


def test_reject_rejects_the_row_and_none_behind_it(path: Path) -> None:
    box = box_with(path, REJECT)
    done = box.ingest()
    assert done.doubted == ()
    (one,) = done.rejected
    assert (one.outbox_id, one.reason, one.detail) == (2, RejectionReason.PAYLOAD_MISMATCH, FAULT)
    assert events(box) == [1, 3, 4, 5]
    assert box.rows("SELECT outbox_id, reason, detail, event_type FROM webhookd_rejected") == [
        (2, "payload_mismatch", FAULT, "sync.completed")
    ]
    assert box.rows("SELECT first, last FROM webhookd_ranges") == [(1, 5)]
    assert box.one("SELECT rejected FROM webhookd_file") == 1
    box.close()


def test_the_sweep_judges_as_the_cursor_does(path: Path) -> None:
    box = Box(path, validation=REJECT)
    box.put("own.type", id=10)
    box.ingest()
    box.put("sync.completed", id=3, payload=WRONG)
    found = [one for done in box.sweep_all() for one in done.rejected]
    assert [(one.outbox_id, one.reason) for one in found] == [(3, "payload_mismatch")]
    box.close()


def test_a_batch_of_checked_payloads_ends_early(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "VALIDATED_A_BATCH", 2 * len(WRONG))
    box = Box(path, validation=REJECT)
    for _ in range(5):
        box.put("sync.completed", payload=WRONG)
    assert [len(done.rejected) for done in box.ingest_all()] == [2, 2, 1]
    box.close()
    box = Box(path)
    for _ in range(5):
        box.put("sync.completed", payload=WRONG)
    assert [done.events for done in box.ingest_all()] == [5]
    box.close()


def test_emit_refuses_what_ingest_would_reject(path: Path) -> None:
    row = NewRow("sync.completed", payload=WRONG)

    def insert(row: NewRow, held_against: Validation | None) -> int:
        with Session(path, write=True) as session, session.write() as transaction:
            return emit(
                transaction,
                row,
                default_tenant="",
                max_payload=1_000,
                now=0,
                validation=held_against,
            )

    with pytest.raises(UsageError) as caught:
        insert(row, REJECT)
    assert str(caught.value) == f"{FAULT}; nothing was inserted"
    assert insert(replace(row, payload=RIGHT), REJECT) == 1
    assert insert(row, WARN) == 2
    assert insert(row, None) == 3


def test_the_latest_types_are_read_from_the_newest_events_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Box(path)
    box.put("old.type")
    box.put("COMMITTED", aggregate_type="SALESORDER")
    box.put("new.type")
    box.put("new.type")
    box.ingest()
    assert LATEST_EVENTS == 1_000
    monkeypatch.setattr("webhookd.store.deliveries.LATEST_EVENTS", 3)
    assert latest_types(box.host) == [("new.type", "new"), ("COMMITTED", "SALESORDER")]
    plan = box.rows(
        "EXPLAIN QUERY PLAN SELECT event_type, aggregate_type FROM webhookd_events"
        " ORDER BY sequence DESC LIMIT 3"
    )
    assert not any("TEMP B-TREE" in row[-1] for row in plan)
    box.close()


def retried(path: Path, held_against: Validation | None) -> Retried:
    with Session(path, write=True) as session:
        again = Retry(
            session,
            default_tenant="",
            max_payload=1_000,
            ids_never_reused=False,
            clock=lambda: 0,
            validation=held_against,
        )
        (done,) = again.all()
        return done


def test_a_row_that_is_retried_is_judged_as_at_ingest(path: Path) -> None:
    box = box_with(path, REJECT)
    box.ingest()
    done = retried(path, REJECT)
    assert [(one.outbox_id, one.detail) for one in done.rejected] == [(2, FAULT)]
    assert (done.events, done.doubted) == ((), ())
    done = retried(path, WARN)
    assert done.events == (2,)
    assert [(one.outbox_id, one.detail) for one in done.doubted] == [(2, FAULT)]
    box.close()


@pytest.mark.parametrize(
    ("held_against", "wrong"),
    [(REJECT, {"reason": "payload_mismatch", "detail": FAULT}), (WARN, None), (None, None)],
)
def test_a_row_is_explained_as_ingest_would_judge_it(
    path: Path, held_against: Validation | None, wrong: dict[str, str] | None
) -> None:
    box = box_with(path, held_against)
    with Session(path, write=False) as session:
        rules = Rules("", 1_000, held_against)
        found = [outbox_row(session, number, rules, 0) for number in (1, 2)]
    assert [one["standing"] for one in found] == ["waiting"] * 2
    assert [one["would_be_rejected"] for one in found] == [None, wrong]
    box.close()


def test_a_copy_takes_in_what_waits_as_ingest_would(path: Path, tmp_path: Path) -> None:
    box = box_with(path, REJECT)
    copy = tmp_path / "clone.db"
    box.host.execute("VACUUM INTO ?", (str(copy),))
    box.close()
    accept_clone(copy, default_tenant="", max_payload=1_000, now=0, validation=REJECT)
    clone = Box(copy, known_mark=lockfile.read(copy))
    assert events(clone) == [1, 3, 4, 5]
    clone.close()
