"""E6: this machine's clock is wrong by more than signatures bear, say those who answer."""

from email.utils import formatdate

import pytest

from webhookd.core.model import Answer
from webhookd.core.other_clocks import APART, ahead_by, at_odds, date_of, judge, nobody_agrees, told

NOW = 1_790_000_000_000
FAR = APART + 1_000


@pytest.mark.parametrize("by", [0, 1_000, FAR, -FAR, 10 * 365 * 86_400_000])
def test_E6_how_far_we_are_ahead(by: int) -> None:
    assert ahead_by(formatdate((NOW - by) / 1_000, usegmt=True), NOW) == by


@pytest.mark.parametrize(
    "text", ["", "now", "2026-09-21T14:13:20Z", "Mon, 99 Sep 2026 14:13:20 GMT"]
)
def test_E6_what_is_no_date_says_nothing(text: str) -> None:
    assert ahead_by(text, NOW) is None


@pytest.mark.parametrize("side", [1, -1])
def test_E6_two_that_agree_convict_our_clock(side: int) -> None:
    said = {"b.example": side * FAR, "a.example": side * (FAR + 2_000)}
    assert judge(said) == (max(said.values()), ["a.example", "b.example"])


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"a": FAR},  # it may be wrong itself
        {"a": FAR, "b": -FAR},  # one of them is
        {"a": APART, "b": APART},  # that much a signature bears
        {"a": FAR, "b": FAR, "c": 0, "d": 900},  # as many say that it is right
        {"a": 360_000, "b": 3 * 86_400_000},  # they do not agree with each other either
        {"a": FAR, "b": 2 * FAR, "c": 3 * FAR},
    ],
)
def test_E6_otherwise_nobody_knows(said: dict[str, int]) -> None:
    assert judge(said) is None


def test_E6_a_majority_will_do_and_the_middle_of_what_it_says_counts() -> None:
    said = {"a": FAR, "b": FAR + APART, "c": FAR + 2_000, "d": 0, "e": -FAR}
    assert judge(said) == (FAR + 2_000, ["a", "b", "c"])


@pytest.mark.parametrize("odd", [-9 * FAR, 9 * FAR])
def test_E6_those_who_agree_convict_whatever_another_one_says(odd: int) -> None:
    assert judge({"a": FAR, "b": odd, "c": FAR}) == (FAR, ["a", "c"])


@pytest.mark.parametrize(
    ("status", "counts"), [(200, True), (503, True), (502, False), (504, False)]
)
def test_E6_who_answers_in_place_of_others_is_no_witness(status: int, counts: bool) -> None:
    assert date_of(Answer(status, date="then")) == ("then" if counts else "")


@pytest.mark.parametrize(
    ("said", "nobody"),
    [({"a": FAR}, True), ({"a": FAR, "b": -FAR}, True), ({"a": FAR, "b": 0}, False)],
)
def test_E6_whether_anybody_bears_our_clock_out(said: dict[str, int], nobody: bool) -> None:
    assert nobody_agrees(said) is nobody


def test_E6_the_line_says_how_far_who_and_what_to_do() -> None:
    line = told(725_000, ["a.example", "b.example"])
    assert line.startswith(
        "this machine's clock is 12m ahead of the time, say 2 receivers (a.example, b.example); "
    )
    assert "5m off" in line
    assert "timedatectl" in line
    assert "is 2h behind the time, say 4 receivers (a, b, c, ...);" in told(-7_200_000, [*"abcd"])


def test_E6_one_alone_is_told_of_as_what_it_is() -> None:
    (line,) = at_odds({"b.example": -FAR, "a.example": APART})
    assert line.startswith("this machine's clock is 5m behind that of b.example: one of the two")
    assert at_odds({"a.example": 0}) == []
