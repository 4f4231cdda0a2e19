"""Outcomes on their way into the file."""

import pytest

from tests.store.conftest import NOW, Box
from webhookd.core.delivery import Happening, IllegalTransition, Move
from webhookd.core.model import DeliveryId, DeliveryState, Reason, SubscriptionKey
from webhookd.core.storage import Record, Step
from webhookd.core.times import to_text
from webhookd.store import subscriptions
from webhookd.store.record import BODY_CHANGED


@pytest.fixture
def one(box: Box) -> Box:
    """One delivery, number 2."""
    box.subscribe()
    box.put(aggregate_id="S-1", payload="{}")
    box.ingest()
    return box


def test_a_success(one: Box) -> None:
    done = one.succeed(2)
    standing = done.standings[DeliveryId(2)]
    assert (standing.state, standing.attempts, standing.tries) == (DeliveryState.DELIVERED, 1, 1)
    assert done.body_changed == ()
    (row,) = one.results()
    assert row["sequence"] == 3
    assert (row["state"], row["reason"], row["attempts"]) == ("delivered", None, 1)
    assert (row["last_status"], row["last_error"], row["next_attempt_at"]) == (200, None, None)
    assert (row["first_attempt_at"], row["finished_at"]) == (to_text(NOW - 20), to_text(NOW))
    assert one.rows("SELECT * FROM webhookd_attempts") == [
        (2, 1, to_text(NOW - 20), 15, 200, "", "", "", b"ok")
    ]
    assert one.rows(
        "SELECT last_status, last_error, last_attempt_at, last_success_at FROM webhookd_counters"
    ) == [(200, "", to_text(NOW - 20), to_text(NOW - 5))]


def test_a_retry_shows_when_it_comes_again(one: Box) -> None:
    one.retry(2, after=5_000)
    (row,) = one.results()
    assert (row["state"], row["last_status"], row["last_error"]) == ("pending", 500, "http 500")
    assert row["next_attempt_at"] == to_text(NOW + 5_000)
    assert one.due(1, NOW + 4_999) == []
    assert one.due(1, NOW + 5_000) == [2]
    assert one.one("SELECT last_success_at FROM webhookd_counters") is None


def test_a_record_that_is_applied_twice_counts_once(one: Box) -> None:
    made = one.outcome(2, Happening.FAILED, reason=Reason.EXHAUSTED)
    first = one.record(made)
    again = one.record(made)
    assert again.standings == first.standings
    assert again.ready == {1}, "who was ready may have been lost with the first answer"
    assert one.one("SELECT count(*) FROM webhookd_attempts") == 1
    assert one.one("SELECT failed FROM webhookd_counters") == 1
    assert one.results()[0]["sequence"] == 3


def test_a_record_twice_within_one_batch(one: Box) -> None:
    made = one.outcome(2, Happening.SUCCEEDED, status=200)
    one.record(made, made)
    assert one.one("SELECT count(*) FROM webhookd_attempts") == 1
    assert one.one("SELECT delivered FROM webhookd_counters") == 1


def test_an_ending_without_an_attempt_twice(one: Box) -> None:
    made = Record(DeliveryId(2), Move(Happening.FAILED, NOW, Reason.UNRENDERABLE), None)
    one.record(made)
    before = one.results()
    one.now += 1_000
    one.record(made)
    assert one.results() == before, "the feed stands still when nothing in it changes"
    assert before[0]["sequence"] == 3
    assert before[0]["reason"] == "unrenderable"
    assert one.one("SELECT sequence FROM webhookd_file") == 3


def test_a_delivery_that_is_put_off_does_not_move_in_the_feed(one: Box) -> None:
    later = Record(DeliveryId(2), Move(Happening.RETRY, NOW, retry_at=NOW + 9_000), None)
    before = one.results()
    one.record(later)
    assert one.results() == before
    assert one.store.next_due(1) == NOW + 9_000
    assert one.one("SELECT retry_at FROM webhookd_deliveries") == to_text(NOW + 9_000)


def test_a_delivery_that_is_gone_is_passed_over(one: Box) -> None:
    gone = one.outcome(2, Happening.SUCCEEDED, status=200)
    done = one.record(gone._replace(delivery=DeliveryId(99)), gone)
    assert list(done.standings) == [2]


@pytest.mark.parametrize(
    ("happening", "state", "moves"),
    [
        (Happening.SUCCEEDED, "delivered", True),
        (Happening.RETRY, "cancelled", True),
        (Happening.FAILED, "cancelled", True),
    ],
)
def test_E12_an_outcome_meets_a_row_that_was_cancelled(
    one: Box, happening: Happening, state: str, moves: bool
) -> None:
    made = one.outcome(
        2,
        happening,
        reason=Reason.EXHAUSTED if happening is Happening.FAILED else None,
        retry_at=NOW + 1 if happening is Happening.RETRY else None,
    )
    one.cancel(2)
    one.record(made)
    (row,) = one.results()
    assert (row["state"], row["attempts"], row["sequence"]) == (state, 1, 4)
    assert row["reason"] == (None if state == "delivered" else "operator")
    assert one.rows("SELECT due_at, retry_at FROM webhookd_deliveries") == [(None, None)]
    assert one.one(f"SELECT {state} FROM webhookd_counters") == 1
    assert one.one("SELECT pending FROM webhookd_counters") == 0


def test_E12_what_cannot_be_sent_and_was_taken_back_stays_as_it_is(one: Box) -> None:
    """The operator's word came first, and no request was made: the feed has nothing to tell."""
    one.cancel(2)
    before = one.results()
    found = Move(Happening.FAILED, NOW, Reason.UNRENDERABLE, error="it has been erased")
    one.record(Record(DeliveryId(2), found, None))
    assert one.results() == before


def test_attempts_go_on_counting_after_a_reopening(one: Box) -> None:
    one.retry(2)
    one.fail(2)
    one.reopen_delivery(2)
    assert one.rows("SELECT attempts, tries FROM webhookd_deliveries") == [(2, 0)]
    one.succeed(2)
    assert one.rows("SELECT attempts, tries FROM webhookd_deliveries") == [(3, 1)]
    assert one.rows("SELECT number FROM webhookd_attempts") == [(1,), (2,), (3,)]


def test_another_body_than_at_the_first_attempt_is_noted(one: Box) -> None:
    one.retry(2)
    made = one.outcome(2, Happening.RETRY, retry_at=NOW + 1, body=b"x" * 32)
    (changed,) = one.record(made).body_changed
    assert changed.delivery == 2
    assert [(changed.subscription, changed.event)] == one.rows(
        "SELECT s.name, e.event_id FROM webhookd_subscriptions AS s, webhookd_events AS e"
        " WHERE e.sequence = (SELECT event FROM webhookd_deliveries WHERE id = 2)"
    )
    assert one.one("SELECT body_hash FROM webhookd_deliveries") == b"h" * 32
    assert one.one("SELECT note FROM webhookd_attempts WHERE number = 2") == BODY_CHANGED
    made = one.outcome(2, Happening.RETRY, retry_at=NOW + 1, body=b"x" * 32)
    assert made.attempt is not None
    one.record(made._replace(attempt=made.attempt._replace(note="body cut")))
    noted = one.one("SELECT note FROM webhookd_attempts WHERE number = 3")
    assert noted == f"body cut; {BODY_CHANGED}"
    made = one.outcome(2, Happening.SUCCEEDED, status=200, body=b"")
    assert one.record(made).body_changed == (), "none was built"


def test_an_illegal_move_is_a_bug_and_writes_nothing(one: Box) -> None:
    made = Record(DeliveryId(2), Move(Happening.RETRY, NOW), None)
    one.store.begin()
    with pytest.raises(IllegalTransition):
        one.store.record([made], NOW)
    one.store.rollback()
    assert one.results()[0]["sequence"] == 2


def test_a_removed_subscription_is_owed_nothing_more(box: Box) -> None:
    one = box.subscribe()
    for _ in range(5):
        box.put(aggregate_id="S-1")
    box.ingest()
    box.command(lambda t: subscriptions.remove(t, one.key, NOW))
    for expected in (Step(5, more=True), Step(0)):
        box.store.begin()
        assert box.store.carry_out(NOW) == expected
        box.store.commit()
    assert {row["reason"] for row in box.results()} == {"subscription_removed"}
    assert box.rows("SELECT pending, cancelled FROM webhookd_counters") == [(0, 5)]
    box.put(aggregate_id="S-1")
    assert box.ingest().deliveries == 0


def test_an_outcome_from_before_it_was_opened_again_is_only_counted(one: Box) -> None:
    (was,) = one.store.due(SubscriptionKey(1), NOW, 10, ())
    late = one.outcome(2, Happening.FAILED, reason=Reason.EXHAUSTED)._replace(since=was.since)
    one.now += 1_000
    one.cancel(2)
    one.reopen_delivery(2)
    assert one.record(late).ready == {1}
    (row,) = one.results()
    assert (row["state"], row["attempts"], row["last_error"]) == ("pending", 1, "http 500")
    assert one.one("SELECT tries FROM webhookd_deliveries") == 0
    assert one.due(1) == [2], "the schedule begins again, at once"


def test_what_expired_before_it_was_opened_again_has_not_ended(one: Box) -> None:
    (was,) = one.store.due(SubscriptionKey(1), NOW, 10, ())
    ended = Move(Happening.FAILED, NOW, Reason.EXPIRED)
    one.now += 1_000
    one.cancel(2)
    one.reopen_delivery(2)
    done = one.record(Record(DeliveryId(2), ended, None, since=was.since))
    assert done.ready == {1}
    assert one.results()[0]["state"] == "pending"


def test_a_success_from_before_it_was_opened_again_is_a_success(one: Box) -> None:
    (was,) = one.store.due(SubscriptionKey(1), NOW, 10, ())
    made = one.outcome(2, Happening.SUCCEEDED, status=200)._replace(since=was.since)
    one.now += 1_000
    one.cancel(2)
    one.reopen_delivery(2)
    one.record(made)
    assert one.results()[0]["state"] == "delivered"
