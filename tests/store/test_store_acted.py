"""Which deliveries operators changed: found by what they left, a few subscriptions at a time."""

import pytest

from tests.store.conftest import Box
from webhookd.core.model import SubscriptionKey
from webhookd.store import acted, deliveries

BEGIN = SubscriptionKey(0)


@pytest.mark.parametrize("page", [1, 2, 3, 250])
def test_what_was_hastened_is_found_whatever_a_page_holds(
    box: Box, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(acted, "PAGE", page)
    keys = [box.subscribe(f"s{n}").key for n in range(5)]
    box.put()
    box.ingest()
    owed = {key: box.due(key)[0] for key in keys}
    for key in keys[1:]:
        box.retry(owed[key], after=3_600_000)
    since = box.now
    for key in (keys[1], keys[4]):
        box.command(lambda t, number=owed[key]: deliveries.retry(t, number, box.now))

    def found(limit: int) -> list[int]:
        place, all_of_them = BEGIN, []
        while place is not None:
            some, place = box.store.hastened(place, since, box.now, limit)
            assert len(some) <= min(limit, page)
            all_of_them += some
        return all_of_them

    assert found(20) == [owed[keys[1]], owed[keys[4]]]
    assert set(found(1)) <= {owed[keys[1]], owed[keys[4]]}
    assert box.store.acted_on(0, 20) == [], "neither opened nor cancelled"
    box.cancel(owed[keys[2]])
    assert box.store.acted_on(0, 20) == [owed[keys[2]]]


def test_a_page_costs_the_same_with_any_number_of_subscriptions(box: Box) -> None:
    def steps() -> int:
        count = 0

        def step() -> None:
            nonlocal count
            count += 1

        reader = box.store._reader
        reader.set_progress_handler(step, 1)
        box.store.hastened(BEGIN, box.now, box.now, 20)
        reader.set_progress_handler(None, 1)
        return count

    for n in range(acted.PAGE + 10):
        box.subscribe(f"s{n}")
    box.put()
    box.ingest()
    few = steps()
    for n in range(3 * acted.PAGE):
        box.subscribe(f"t{n}")
    box.put()
    box.ingest()
    assert steps() <= 1.1 * few
