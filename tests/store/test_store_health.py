"""The health of subscriptions as outcomes move it, and what a rule does in the same transaction."""

from typing import Any

import pytest

from tests.store.conftest import NOW, Box
from webhookd.core.delivery import Happening, Move
from webhookd.core.health import WELL, Change, Health, Rule
from webhookd.core.model import (
    DeliveryId,
    DeliveryState,
    Reason,
    SubscriptionKey,
    SubscriptionState,
)
from webhookd.core.outcomes import Signs
from webhookd.core.storage import Notice, Record, Recorded
from webhookd.core.times import to_text
from webhookd.store import checkup, health, subscriptions

ILL = Signs(ill=True)
GONE = Signs(gone=True)
ONE = SubscriptionKey(1)


def owing(box: Box, count: int, name: str = "one", **policy: Any) -> SubscriptionKey:
    """A subscription that is owed `count`, each of an aggregate of its own: 2, 4, 6 ..."""
    own = {"gone_disables": False, "disable_after": 0} | policy
    key = box.subscribe(name, policy=own).key
    for number in range(count):
        box.put(aggregate_id=f"S-{number}")
    box.ingest()
    return key


def failure(box: Box, delivery: int, signs: Signs | None = ILL) -> Record:
    made = box.outcome(delivery, Happening.FAILED, reason=Reason.EXHAUSTED)
    return made._replace(signs=signs)


def retry(box: Box, delivery: int, signs: Signs | None = ILL, number: int | None = None) -> Record:
    made = box.outcome(delivery, Happening.RETRY, retry_at=box.now, number=number)
    return made._replace(signs=signs)


def success(box: Box, delivery: int) -> Record:
    return box.outcome(delivery, Happening.SUCCEEDED, status=200)


def state(box: Box, name: str = "one") -> tuple[str, str, str | None]:
    (found,) = box.rows(
        "SELECT state, state_reason, disabled_at FROM webhookd_subscriptions WHERE name = ?", name
    )
    return found


def pause(box: Box, key: SubscriptionKey) -> None:
    box.command(
        lambda t: subscriptions.set_state(t, key, SubscriptionState.PAUSED, "operator", box.now)
    )


def enable(box: Box, key: SubscriptionKey) -> None:
    box.command(lambda t: subscriptions.set_state(t, key, SubscriptionState.ENABLED, "", box.now))


def moves(box: Box) -> tuple[int, int]:
    seen = box.store.outlook()
    return seen.control, seen.roll


def test_what_is_recorded_is_read_again(box: Box) -> None:
    key = owing(box, 1)
    assert box.store.health(key) == WELL
    box.record(retry(box, 2, Signs(ill=True, held_until=NOW + 60_000)))
    assert box.store.health(key) == Health(1, no_success_since=NOW, held_until=NOW + 60_000)
    box.now += 1_000
    box.record(failure(box, 2))
    known = Health(2, None, 1, NOW + 1_000, NOW, NOW + 60_000)
    assert box.store.health(key) == known
    box.reopen()
    assert box.store.health(key) == known, "it outlives the daemon"
    assert box.store.health(SubscriptionKey(99)) == WELL


def test_E4_a_jump_of_the_clock_shifts_all_health_once_in_batches(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "SHIFTED_AT_ONCE", 3)
    keys = [box.subscribe(f"s{number}").key for number in range(8)]
    unwell = [key for key in keys if key != 4]
    for key in unwell:
        box.command(lambda t, key=key: health.write(t.connection, key, Health(failing_since=NOW)))
    hour = 3_600_000
    box.now += hour + 60_000

    def step() -> bool:
        box.store.begin()
        more = box.store.shift_health(hour, box.now).more
        box.store.commit()
        return more

    assert step()
    box.store.begin()  # one that was undone comes again
    box.store.shift_health(hour, box.now)
    box.store.rollback()
    assert [step(), step()] == [True, False]
    shifted = [box.store.health(key).failing_since for key in keys]
    assert shifted == [NOW + hour if key in unwell else None for key in keys]
    box.now += hour + 60_000
    while step():  # the next jump begins with the first again
        pass
    assert [box.store.health(key).failing_since for key in unwell] == [NOW + 2 * hour] * 7


def test_failing_is_told_once_and_recovered_once(box: Box) -> None:
    owing(box, 9, failing_after=3)
    told = []
    for number in (2, 4, 6, 8, 10):
        told += box.record(retry(box, number)).notices
        box.now += 1_000
    assert told == [Notice(ONE, "one", Change.FAILING, None)]
    assert box.store.health(ONE).failing_since == NOW + 2_000
    assert box.record(success(box, 12)).notices == (Notice(ONE, "one", Change.RECOVERED, None),)
    assert box.store.health(ONE) == WELL
    assert box.record(success(box, 14)).notices == ()


def test_a_batch_is_judged_in_its_order(box: Box) -> None:
    owing(box, 6, failing_after=2)
    done = box.record(retry(box, 2), retry(box, 4), success(box, 6), retry(box, 8), retry(box, 10))
    assert [notice.change for notice in done.notices] == ["failing", "recovered", "failing"]
    assert box.store.health(ONE).ill == 2


def test_each_subscription_by_itself(box: Box) -> None:
    for name in ("one", "two"):
        box.subscribe(name, policy={"failing_after": 1})
    box.put()
    box.ingest()
    done = box.record(success(box, 2), retry(box, 3))
    assert done.notices == (Notice(SubscriptionKey(2), "two", Change.FAILING, None),)
    assert box.store.health(ONE) == WELL


def test_what_is_no_attempt_moves_no_health(box: Box) -> None:
    owing(box, 2, failing_after=1, disable_after_failures=1)
    local = Move(Happening.RETRY, NOW, error="local", retry_at=NOW)
    box.record(Record(DeliveryId(2), local, None, None))
    box.record(Record(DeliveryId(4), Move(Happening.FAILED, NOW, Reason.UNRENDERABLE), None))
    box.record(Record(DeliveryId(2), Move(Happening.FAILED, NOW, Reason.EXPIRED), None))
    assert box.store.health(ONE) == WELL
    assert state(box) == ("enabled", "", None)


def test_what_is_recorded_twice_counts_once(box: Box) -> None:
    owing(box, 1, failing_after=2)
    made = retry(box, 2)
    box.record(made, made)
    box.record(made)
    assert box.store.health(ONE).ill == 1


def test_E12_a_delivery_that_was_taken_back_meanwhile_has_not_failed(box: Box) -> None:
    owing(box, 2, disable_after_failures=1)
    made = failure(box, 2)
    box.cancel(2)
    assert box.record(made).notices == ()
    assert box.store.health(ONE) == Health(ill=1, no_success_since=NOW)
    assert state(box) == ("enabled", "", None)
    assert box.results()[0]["state"] == "cancelled"
    assert box.record(failure(box, 4)).notices[0].rule is Rule.FAILURES


def test_a_subscription_that_was_removed_meanwhile_concerns_nobody(box: Box) -> None:
    owing(box, 1, disable_after_failures=1, failing_after=1)
    made = failure(box, 2)
    box.command(lambda t: subscriptions.remove(t, ONE, NOW))
    assert box.record(made).notices == ()
    assert state(box) == ("enabled", "", None)
    assert box.store.health(ONE) == WELL


RULES = [
    ({"disable_after_failures": 1}, failure, "disable_after_failures", "failed"),
    ({"gone_disables": True}, lambda box, one: retry(box, one, GONE), "gone", "pending"),
]


@pytest.mark.parametrize(("policy", "made", "reason", "left"), RULES)
def test_C7_a_rule_disables_in_the_transaction_of_the_outcome(
    box: Box, policy: dict[str, Any], made: Any, reason: str, left: str
) -> None:
    owing(box, 2, **policy)
    before = moves(box)
    outcome = made(box, 2)
    box.store.begin()
    done: Recorded = box.store.record([outcome], NOW)
    assert state(box) == ("enabled", "", None), "nothing before the commit"
    box.store.rollback()
    assert (state(box), box.results()[0]["attempts"]) == (("enabled", "", None), 0)
    done = box.record(outcome)
    assert done.notices == (Notice(ONE, "one", Change.DISABLED, Rule(reason)),)
    assert state(box) == ("disabled", reason, to_text(NOW))
    assert box.results()[0]["state"] == left
    assert box.results()[1]["state"] == "pending", "what is owed stays owed"
    assert moves(box) == (before[0] + 1, before[1] + 1), "lanes obey, and terms are read again"
    (stored,) = box.store.subscriptions()
    assert (stored.state, stored.state_reason) == (SubscriptionState.DISABLED, reason)


def test_disable_after_is_judged_at_a_failed_attempt(box: Box) -> None:
    owing(box, 3, disable_after=60_000)
    box.record(retry(box, 2))
    box.now += 60_000
    assert box.record(success(box, 4)).notices == ()
    box.record(retry(box, 2))
    box.now += 60_000
    (notice,) = box.record(retry(box, 2)).notices
    assert notice.rule is Rule.NO_SUCCESS
    assert state(box) == ("disabled", "disable_after", to_text(NOW + 120_000))


def test_nothing_moves_where_no_rule_applied(box: Box) -> None:
    owing(box, 2, failing_after=1)
    before = moves(box)
    box.record(retry(box, 2))
    box.record(success(box, 4))
    assert moves(box) == before


def test_what_is_disabled_already_is_told_once(box: Box) -> None:
    owing(box, 3, disable_after_failures=1)
    before = moves(box)
    done = box.record(failure(box, 2), failure(box, 4))
    assert [notice.rule for notice in done.notices] == [Rule.FAILURES]
    box.now += 5_000
    assert box.record(failure(box, 6)).notices == ()
    assert state(box) == ("disabled", "disable_after_failures", to_text(NOW))
    assert moves(box) == (before[0] + 1, before[1] + 1)


def test_paused_by_an_operator_stays_paused(box: Box) -> None:
    owing(box, 1, disable_after_failures=1)
    made = failure(box, 2)
    pause(box, ONE)
    before = moves(box)
    assert box.record(made).notices == ()
    assert state(box) == ("paused", "operator", None)
    assert moves(box) == before
    assert box.store.health(ONE).failures == 1, "what it says of the endpoint is true all the same"


def test_a_success_in_flight_does_not_enable(box: Box) -> None:
    owing(box, 2, disable_after_failures=1)
    box.record(failure(box, 2))
    assert box.record(success(box, 4)).standings[DeliveryId(4)].state is DeliveryState.DELIVERED
    assert state(box)[0] == "disabled"
    assert box.store.health(ONE) == WELL


def test_to_enable_lets_the_rules_count_anew(box: Box) -> None:
    owing(box, 6, disable_after_failures=2, disable_after=3_600_000, failing_after=2)
    box.record(failure(box, 2))
    box.record(failure(box, 4, Signs(ill=True, held_until=NOW + 60_000)))
    assert state(box)[:2] == ("disabled", "disable_after_failures")
    enable(box, ONE)
    assert state(box) == ("enabled", "", None)
    assert box.store.health(ONE) == Health(ill=2, failing_since=NOW), "its endpoint is not well yet"
    box.now += 10 * 3_600_000
    assert box.record(failure(box, 6)).notices == ()
    (notice,) = box.record(failure(box, 8)).notices
    assert notice.rule is Rule.FAILURES


def test_to_enable_what_is_enabled_ends_a_holding_back(box: Box) -> None:
    key = owing(box, 1)
    box.record(retry(box, 2, Signs(held_until=NOW + 60_000)))
    enable(box, key)
    assert box.store.health(key) == WELL


def test_since_when_it_is_disabled_is_forgotten_with_the_state(box: Box) -> None:
    key = owing(box, 1)
    disabled = SubscriptionState.DISABLED
    box.command(lambda t: subscriptions.set_state(t, key, disabled, "gone", NOW))
    assert state(box) == ("disabled", "gone", to_text(NOW))
    pause(box, key)
    assert state(box) == ("paused", "operator", None)
    box.command(lambda t: subscriptions.set_state(t, key, disabled, "gone"))
    assert state(box) == ("disabled", "gone", None), "nobody said when"
