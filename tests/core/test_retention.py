"""How long what is done with is kept."""

from dataclasses import fields

from webhookd.core.model import DeliveryState
from webhookd.core.retention import DAY, FINISHED, Retention, Work, before
from webhookd.core.times import EARLIEST, to_text


def test_what_is_owed_has_no_span_and_every_end_has_one() -> None:
    kept = Retention(delivered=1, cancelled=2, superseded=3, failed=4)
    assert kept.of(DeliveryState.PENDING) is None
    assert {state: kept.of(state) for state in FINISHED} == {
        DeliveryState.DELIVERED: 1,
        DeliveryState.CANCELLED: 2,
        DeliveryState.SUPERSEDED: 3,
        DeliveryState.FAILED: 4,
    }
    assert DeliveryState.PENDING not in FINISHED


def test_a_span_ends_at_a_moment_and_for_ever_at_none() -> None:
    now = 1_770_000_000_000
    assert before(None, now) is None
    assert before(DAY, now) == to_text(now - DAY)
    assert before(2 * now, now) == to_text(max(EARLIEST, -now))


def test_nothing_takes_aggregates_or_young_rows_by_default() -> None:
    kept = Retention()
    assert kept.changes is None
    spans = [getattr(kept, field.name) for field in fields(kept) if field.name != "changes"]
    assert min(spans) >= 7 * DAY
    assert kept.outbox is not None
    assert kept.events is not None
    assert kept.outbox <= kept.events, "by its event the age of a row is known"
    assert list(Work).index(Work.OUTBOX) < list(Work).index(Work.EVENTS)
