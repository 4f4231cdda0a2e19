import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.rate import Bucket, capacity, started


def test_after_a_start_there_is_one_and_no_burst() -> None:
    bucket = started(100.0)
    assert bucket.wait(10.0, 100.0) == 0.0
    assert bucket.take(10.0, 100.0).wait(10.0, 100.0) == pytest.approx(0.1)


def test_a_second_of_rest_saves_a_second_s_worth_and_no_more() -> None:
    bucket = started(0.0).take(10.0, 0.0)
    for rest in (1.0, 3_600.0):
        saved = bucket
        for _ in range(10):
            assert saved.wait(10.0, rest) == 0.0
            saved = saved.take(10.0, rest)
        assert saved.wait(10.0, rest) == pytest.approx(0.1)


@pytest.mark.parametrize(("rate", "most"), [(1 / 3_600, 1.0), (1.0, 1.0), (10.0, 10.0)])
def test_a_bucket_holds_at_least_one(rate: float, most: float) -> None:
    assert capacity(rate) == most
    assert Bucket(0.0, 0.0).wait(rate, 1 / rate) == 0.0


def test_a_clock_that_goes_back_fills_nothing_and_takes_nothing() -> None:
    assert Bucket(0.5, 100.0).wait(1.0, 50.0) == 0.5
    assert Bucket(0.5, 100.0).wait(1.0, 100.25) == 0.25


@given(
    st.floats(1e-3, 1e4),
    st.lists(st.floats(0, 10), min_size=1, max_size=50),
)
def test_never_more_than_the_rate_and_one_burst(rate: float, pauses: list[float]) -> None:
    now = 0.0
    bucket = started(now)
    for taken, pause in enumerate(pauses, 1):
        now += pause
        wait = bucket.wait(rate, now)
        assert 0.0 <= wait <= 1 / rate + 1e-9
        now += wait
        assert bucket.wait(rate, now) <= 1e-6, "who waited for so long has one"
        bucket = bucket.take(rate, now)
        assert bucket.tokens >= 0.0
        assert taken <= capacity(rate) + now * rate + 1e-3
