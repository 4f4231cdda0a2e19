"""Rejected rows that are ingested again: events of now, and nothing else in the file moves."""

import threading
from collections.abc import Iterable

import pytest

from tests.store.conftest import NOW, Box
from webhookd.core.times import to_text
from webhookd.errors import DatabaseError, OutboxUnreadable, StoreBusy
from webhookd.store import ingest, outbox, rejected, subscriptions
from webhookd.store.rejected import Retried, Retry
from webhookd.store.transaction import Session

LATER = NOW + 60_000


def retry(box: Box, ids: Iterable[int] | None = None, **changes: object) -> list[Retried]:
    """What the command does; `ids` None for all of them."""
    given: dict[str, object] = {
        "default_tenant": "",
        "max_payload": box.options["max_payload"],
        "ids_never_reused": box.options["ids_never_reused"],
        "clock": lambda: LATER,
    }
    with Session(box.path, write=True) as session:
        again = Retry(session, **given | changes)  # type: ignore[arg-type]
        return list(again.all() if ids is None else again.these(list(ids)))


def mend(box: Box, *numbers: int) -> None:
    box.host.execute(
        "UPDATE outbox SET event_type = 'mended.one', payload = '{}', event_id = NULL"
        f" WHERE id IN ({', '.join('?' * len(numbers))})",
        numbers,
    )


def ids_rejected(box: Box) -> list[int]:
    found = box.rows("SELECT outbox_id FROM webhookd_rejected ORDER BY outbox_id")
    assert box.one("SELECT rejected FROM webhookd_file") == len(found)
    return [number for (number,) in found]


@pytest.fixture
def bad(box: Box) -> Box:
    """Rows 1 (an event), 2 and 3 (rejected), 4 (an event), 5 (rejected)."""
    box.subscribe("one")
    box.put("good.one", aggregate_id="S-1")
    box.put("bad type", aggregate_id="S-1")
    box.put("good.one", payload="{")
    box.put("good.one", aggregate_id="S-1", event_id="E-4")
    box.put("good.one", event_id="E-4")
    box.ingest_all()
    assert ids_rejected(box) == [2, 3, 5]
    return box


def test_A1_a_mended_row_becomes_an_event_of_now(bad: Box) -> None:
    before = bad.rows("SELECT sequence, cursor, control FROM webhookd_file")[0]
    mend(bad, 2)
    (done,) = retry(bad, [2])
    assert (done.events, done.deliveries) == ((2,), 1)
    assert done == Retried(events=(2,), deliveries=1)
    assert ids_rejected(bad) == [3, 5]
    event = bad.rows(
        "SELECT sequence, event_type, aggregate_id, ingested_at FROM webhookd_events"
        " WHERE outbox_id = 2"
    )
    assert event == [(before[0] + 1, "mended.one", "S-1", "2026-01-31T12:01:00.000Z")]
    after = bad.rows("SELECT sequence, cursor, control FROM webhookd_file")[0]
    assert after == (before[0] + 2, before[1], before[2] + 1), "lanes are told, the cursor stays"
    assert bad.one("SELECT pending FROM webhookd_counters") == 3
    assert bad.one("SELECT numbers FROM webhookd_counters") == 3


def test_its_delivery_stands_behind_those_in_line(bad: Box) -> None:
    bad.host.execute("UPDATE outbox SET event_type = 'good.one' WHERE id = 2")
    retry(bad, [2])
    newest = bad.results()[-1]
    assert (newest["outbox_id"], newest["next_attempt_at"]) == (2, None)
    first = bad.due(1)
    bad.succeed(first[0])
    assert newest["delivery_id"] not in bad.due(1, LATER), "row 4's is before it"
    bad.succeed(bad.results()[1]["delivery_id"])
    assert newest["delivery_id"] in bad.due(1, LATER)


def test_the_ranges_stay_whole_and_ingest_goes_on(bad: Box) -> None:
    mend(bad, 2, 3)
    (done,) = retry(bad)
    assert done.events == (2, 3)
    assert bad.rows("SELECT first, last FROM webhookd_ranges") == [(1, 5)]
    assert [one.events for one in bad.sweep_all()] == [0], "it is never taken up twice"
    bad.put("good.two")
    assert bad.ingest().events == 1
    assert bad.rows("SELECT first, last FROM webhookd_ranges") == [(1, 6)]
    sequences = bad.rows("SELECT sequence FROM webhookd_events ORDER BY sequence")
    assert len(set(sequences)) == len(sequences) == 5
    assert bad.one("SELECT sequence FROM webhookd_file") == bad.one(
        "SELECT max(id) FROM webhookd_deliveries"
    )


def test_what_is_still_bad_stays_with_the_reason_of_now(bad: Box) -> None:
    bad.host.execute("UPDATE outbox SET event_type = 'mended', tenant = 'a\nb' WHERE id = 2")
    (done,) = retry(bad, [2, 3])
    assert [(row.outbox_id, row.reason) for row in done.rejected] == [
        (2, "bad_tenant"),
        (3, "bad_payload"),
    ]
    assert (done.events, done.gone, done.unknown) == ((), (), ())
    assert bad.rows("SELECT reason, rejected_at FROM webhookd_rejected WHERE outbox_id = 2") == [
        ("bad_tenant", to_text(NOW)),
    ], "when it was rejected first"
    assert ids_rejected(bad) == [2, 3, 5]
    assert bad.one("SELECT control FROM webhookd_file") == 1, "there is nothing to wake for"
    assert bad.one("SELECT unannounced FROM webhookd_file") == 3, "known already: no new event"


def test_A18_a_duplicate_is_one_for_as_long_as_the_other_is_kept(bad: Box) -> None:
    (done,) = retry(bad, [5])
    assert [row.reason for row in done.rejected] == ["duplicate_event_id"]
    bad.host.execute("UPDATE outbox SET event_id = 'E-5' WHERE id = 5")
    (done,) = retry(bad, [5])
    assert done.events == (5,)
    assert bad.one("SELECT count(*) FROM webhookd_events WHERE event_id = 'E-5'") == 1


def test_two_mended_to_the_same_event_id_are_one_event(bad: Box) -> None:
    mend(bad, 2, 3)
    bad.host.execute("UPDATE outbox SET event_id = 'same' WHERE id IN (2, 3)")
    (done,) = retry(bad)
    assert done.events == (2,)
    assert [(row.outbox_id, row.reason) for row in done.rejected] == [
        (3, "duplicate_event_id"),
        (5, "duplicate_event_id"),
    ]


def test_a_row_that_the_host_has_deleted_stays_rejected(bad: Box) -> None:
    bad.host.execute("DELETE FROM outbox WHERE id = 3")
    before = bad.rows("SELECT * FROM webhookd_rejected WHERE outbox_id = 3")
    (done,) = retry(bad, [3])
    assert done == Retried(gone=(3,))
    assert bad.rows("SELECT * FROM webhookd_rejected WHERE outbox_id = 3") == before
    assert ids_rejected(bad) == [2, 3, 5]


def test_an_id_that_is_no_rejected_row_s_is_named_and_left(bad: Box) -> None:
    bad.put("not.yet")
    mend(bad, 2)
    (done,) = retry(bad, [1, 2, 6, 99, -7, 2])
    assert done == Retried(events=(2,), deliveries=1, unknown=(-7, 1, 6, 99))
    assert bad.one("SELECT count(*) FROM webhookd_events") == 3, "6 is the daemon's to take"
    assert retry(bad, [2])[0].unknown == (2,), "a second time there is nothing to do"
    assert bad.one("SELECT count(*) FROM webhookd_events") == 3


def test_the_rules_are_those_of_ingest(bad: Box) -> None:
    bad.subscribe("north", tenant="north")
    bad.subscribe("new", events=("good.*",))
    bad.host.execute("UPDATE outbox SET payload = '[1, 2]' WHERE id = 3")
    (done,) = retry(bad, [3], max_payload=5)
    assert [row.reason for row in done.rejected] == ["payload_too_large"]
    (done,) = retry(bad, [3], default_tenant="north", max_payload=6)
    assert (done.events, done.deliveries) == ((3,), 3)
    assert {row["subscription_name"] for row in bad.results() if row["outbox_id"] == 3} == {
        *("one", "north", "new"),
    }
    assert bad.one("SELECT tenant FROM webhookd_events WHERE outbox_id = 3") == "north"


def test_a_time_that_cannot_be_read_is_told(bad: Box) -> None:
    mend(bad, 2)
    bad.host.execute("UPDATE outbox SET occurred_at = 'soon' WHERE id = 2")
    assert retry(bad, [2])[0].guessed_times == (2,)


def test_all_of_them_in_short_transactions(bad: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejected, "AT_ONCE", 4)
    for _ in range(9):
        bad.put("bad type")
    bad.ingest_all()
    bad.host.execute("UPDATE outbox SET event_type = 'mended', payload = NULL, event_id = NULL")
    bad.host.execute("DELETE FROM outbox WHERE id = 8")
    done = retry(bad)
    assert [one.events for one in done] == [(2, 3, 5, 6), (7, 9, 10), (11, 12, 13, 14)]
    assert [one.gone for one in done] == [(), (8,), ()]
    assert ids_rejected(bad) == [8]
    assert [one.gone for one in retry(bad)] == [(8,)]
    bad.host.execute("DELETE FROM webhookd_rejected")
    assert retry(bad) == []


def test_what_was_rejected_after_it_began_is_left_to_the_next_one(
    bad: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejected, "AT_ONCE", 1)
    with Session(bad.path, write=True) as session:
        again = Retry(
            session, default_tenant="", max_payload=100, ids_never_reused=False, clock=lambda: NOW
        ).all()
        seen = [next(again)]
        bad.put("bad type")
        bad.ingest()
        bad.host.execute("DELETE FROM webhookd_rejected WHERE outbox_id = 5")
        bad.host.execute("UPDATE webhookd_file SET rejected = rejected - 1")
        seen += list(again)
    assert [row.outbox_id for one in seen for row in one.rejected] == [2, 3]
    assert ids_rejected(bad) == [2, 3, 6]


def test_a_fan_out_ends_a_transaction(bad: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "DELIVERIES_A_BATCH", 1)
    mend(bad, 2, 3)
    bad.host.execute("DELETE FROM outbox WHERE id = 5")
    done = retry(bad)
    assert [(one.events, one.gone) for one in done] == [((2,), ()), ((3,), (5,))]


@pytest.mark.parametrize(
    ("apart", "expected"),
    [(False, [[2, 3, 5, 6, 7], [8]]), (True, [[2, 3, 5, 7, 9], [11]])],
)
def test_G7_large_rows_come_few_at_a_time(
    bad: Box, monkeypatch: pytest.MonkeyPatch, apart: bool, expected: list[list[int]]
) -> None:
    for _ in range(3):
        if apart:
            bad.put("good.one")
        bad.put("bad type", tenant="x" * 1_000)  # a column that nobody would think of
    bad.ingest_all()
    for module in (rejected, outbox):
        monkeypatch.setattr(module, "BATCH_BYTES", 1_500)
    assert [[row.outbox_id for row in one.rejected] for one in retry(bad)] == expected


def test_the_lowest_and_the_highest_id(box: Box) -> None:
    ids = [-(2**63) + 1, -5, 0, 2**63 - 1]
    for number in ids:
        box.put("bad type", id=number)
    box.ingest_all()
    assert ids_rejected(box) == ids
    mend(box, *ids)
    assert [one.events for one in retry(box)] == [tuple(ids)]
    assert ids_rejected(box) == []


def test_A7_a_row_that_sqlite_cannot_read(bad: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_big(self: outbox.Outbox, connection: object, first: int, *_: object) -> object:
        return [self._too_big(connection, first, first)], True  # type: ignore[arg-type]

    monkeypatch.setattr(outbox.Outbox, "batch", too_big)
    done = retry(bad, [2, 3])
    assert [[row.reason for row in one.rejected] for one in done] == [["payload_too_large"]] * 2


def test_a_subscription_that_is_added_meanwhile_counts(
    bad: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejected, "AT_ONCE", 1)
    mend(bad, 2, 3, 5)
    loads = []
    load = rejected.terms.load
    monkeypatch.setattr(
        rejected.terms, "load", lambda *given, **named: loads.append(1) or load(*given, **named)
    )
    with Session(bad.path, write=True) as session:
        again = Retry(
            session, default_tenant="", max_payload=100, ids_never_reused=False, clock=lambda: NOW
        ).these([2, 3, 5])
        assert next(again).deliveries == 1
        bad.subscribe("second")
        assert next(again).deliveries == 2
        with Session(bad.path, write=True) as other, other.write() as transaction:
            subscriptions.remove(transaction, 1, NOW)  # type: ignore[arg-type]
        assert next(again).deliveries == 1
    assert loads


def test_one_that_is_added_in_the_last_instant_counts_too(
    bad: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    mend(bad, 2)
    ahead = Retry._load_terms_ahead

    def slow(self: Retry) -> None:
        ahead(self)
        bad.subscribe("second")

    monkeypatch.setattr(Retry, "_load_terms_ahead", slow)
    assert retry(bad, [2])[0].deliveries == 2


def test_the_daemon_s_store_goes_on_beside_it(bad: Box) -> None:
    mend(bad, 2)
    known = bad.store.mark()["sequence"]
    retry(bad, [2])
    bad.put("good.two")
    assert bad.ingest().events == 1
    assert bad.store.mark()["sequence"] == known + 4, "the numbers went on from the command's"


def test_what_was_done_before_the_host_held_the_lock_is_done(
    bad: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejected, "AT_ONCE", 1)
    mend(bad, 2, 3)
    with Session(bad.path, write=True) as session:
        session.connection.execute("PRAGMA busy_timeout = 0")
        again = Retry(
            session, default_tenant="", max_payload=100, ids_never_reused=False, clock=lambda: NOW
        ).all()
        assert next(again).events == (2,)
        bad.host.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            next(again)
        bad.host.execute("ROLLBACK")
    assert ids_rejected(bad) == [3, 5]


def test_two_commands_at_once_make_each_event_once(
    bad: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejected, "AT_ONCE", 2)
    for _ in range(40):
        bad.put("bad type")
    bad.ingest_all()
    bad.host.execute("UPDATE outbox SET event_type = 'mended', payload = NULL, event_id = NULL")
    made: list[int] = []

    def work() -> None:
        made.extend(number for one in retry(bad) for number in one.events)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(made) == [2, 3, *range(5, 46)]
    assert ids_rejected(bad) == []
    assert bad.one("SELECT count(DISTINCT sequence) FROM webhookd_events") == 45


def test_an_outbox_that_is_not_as_agreed(bad: Box) -> None:
    bad.host.execute("DROP TABLE outbox")
    with pytest.raises(OutboxUnreadable, match="schema: table outbox missing"):
        retry(bad)
    bad.host.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY, event_type, aggregate_type,"
                     " aggregate_id, tenant, payload, occurred_at, event_id)")  # fmt: skip
    with pytest.raises(DatabaseError, match="is no INTEGER PRIMARY KEY AUTOINCREMENT"):
        retry(bad)
    assert ids_rejected(bad) == [2, 3, 5]


def test_an_outbox_that_was_made_anew_has_other_rows_under_these_ids(bad: Box) -> None:
    sql = bad.one("SELECT sql FROM sqlite_master WHERE name = 'outbox'")
    bad.host.execute("DROP TABLE outbox")
    bad.host.execute(sql)
    for _ in range(3):
        bad.put("another.row")
    with pytest.raises(OutboxUnreadable, match="was made anew"):
        retry(bad)
    assert ids_rejected(bad) == [2, 3, 5]
    assert bad.one("SELECT count(*) FROM webhookd_events") == 2
