"""How `drain` compares the daemon with its references."""

from bench.drain import BARE, WRK, Found


def test_what_runs_before_each_daemon_is_compared_with_that_one_alone() -> None:
    found = Found(daemon={1: [10.0, 20.0], 50: [30.0, 40.0]})
    for endpoints, rate in ((1, 5.0), (50, 10.0), (1, 4.0), (50, 8.0)):
        found.precede(BARE, endpoints, rate)
    assert found.shares() == {BARE: {1: [2.0, 5.0], 50: [3.0, 5.0]}}
    assert found.reference(BARE) == [5.0, 4.0, 10.0, 8.0]


def test_what_runs_once_a_round_is_kept_once_and_compared_with_every_daemon() -> None:
    found = Found(daemon={1: [10.0], 50: [30.0]}, once={WRK: [5.0]})
    assert found.shares() == {WRK: {1: [2.0], 50: [6.0]}}
    assert found.reference(WRK) == [5.0]
