"""The state machine against a second writing of it: every pair, every reason, any history."""

import itertools

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from webhookd.core.delivery import (
    REASONS,
    TRANSITIONS,
    Happening,
    IllegalTransition,
    Move,
    Standing,
    move,
    opened,
)
from webhookd.core.model import DeliveryState, Reason

AT = 1_000_000

AFTER = {
    # happening:    pending, delivered, failed, cancelled, superseded
    "SUCCEEDED": "delivered delivered delivered delivered delivered",
    "RETRY": "pending delivered failed cancelled superseded",
    "FAILED": "failed delivered failed cancelled superseded",
    "NOTED": "pending delivered failed cancelled superseded",
    "CANCELLED": "cancelled - - - -",
    "SUPERSEDED": "superseded - - - -",
    "REOPENED": "- pending pending pending pending",
}
PAIRS = [
    (Happening[name], state, None if after == "-" else DeliveryState(after))
    for name, row in AFTER.items()
    for state, after in zip(DeliveryState, row.split(), strict=True)
]
LEGAL = [(happening, state, after) for happening, state, after in PAIRS if after is not None]
ILLEGAL = [(happening, state) for happening, state, after in PAIRS if after is None]

WHY = {
    Happening.FAILED: "exhausted permanent_status gone expired unrenderable",
    Happening.CANCELLED: "operator backlog_skipped newest_only subscription_removed",
    Happening.SUPERSEDED: "coalesced",
}
HAD = {
    DeliveryState.FAILED: Reason.GONE,
    DeliveryState.CANCELLED: Reason.NEWEST_ONLY,
    DeliveryState.SUPERSEDED: Reason.COALESCED,
}


def standing(state: DeliveryState) -> Standing:
    """A delivery with a history of seven attempts, two of them since it was last opened."""
    pending = state is DeliveryState.PENDING
    return Standing(
        state=state,
        reason=HAD.get(state),
        attempts=7,
        tries=2,
        last_status=500,
        last_error="http 500",
        first_attempt_at=AT - 9_000,
        finished_at=None if pending else AT - 1_000,
        due_at=AT - 500 if pending else None,
    )


def bare(happening: Happening) -> Move:
    """The happening with what it must have, and no attempt."""
    reason = Reason(WHY[happening].split()[0]) if happening in WHY else None
    retry_at = AT + 5_000 if happening is Happening.RETRY else None
    return Move(happening, at=AT, reason=reason, retry_at=retry_at)


def attempted(happening: Happening) -> Move:
    status, error = (202, "") if happening is Happening.SUCCEEDED else (None, "timeout: late")
    return bare(happening)._replace(attempted_at=AT - 250, status=status, error=error)


def test_every_pair_is_named_here() -> None:
    assert len(PAIRS) == len(Happening) * len(DeliveryState)
    assert {(h, s): a for h, s, a in LEGAL} == {
        (happening, state): after
        for happening, row in TRANSITIONS.items()
        for state, after in row.items()
    }


def test_a_new_delivery_is_due_at_once() -> None:
    assert opened(AT) == Standing(
        state=DeliveryState.PENDING,
        reason=None,
        attempts=0,
        tries=0,
        last_status=None,
        last_error="",
        first_attempt_at=None,
        finished_at=None,
        due_at=AT,
    )


@pytest.mark.parametrize(("happening", "state", "after"), LEGAL)
def test_legal_pairs(happening: Happening, state: DeliveryState, after: DeliveryState) -> None:
    before = standing(state)
    moved = move(before, bare(happening))
    assert moved.state is after
    assert (moved.finished_at is None) == (moved.due_at is not None)
    assert (moved.due_at is not None) == (after is DeliveryState.PENDING)
    assert (moved.reason is None) == (after in (DeliveryState.PENDING, DeliveryState.DELIVERED))
    assert moved.attempts == 7
    if after is state and after is not DeliveryState.PENDING:
        assert moved == before


@pytest.mark.parametrize(("happening", "state"), ILLEGAL)
def test_illegal_pairs(happening: Happening, state: DeliveryState) -> None:
    before = standing(state)
    with pytest.raises(IllegalTransition, match=f"{happening.name} cannot happen to {state}"):
        move(before, bare(happening))
    assert before == standing(state)


@pytest.mark.parametrize(
    ("happening", "reason"), list(itertools.product(Happening, [None, *Reason]))
)
def test_each_ending_has_its_own_reasons(happening: Happening, reason: Reason | None) -> None:
    state = DeliveryState.FAILED if happening is Happening.REOPENED else DeliveryState.PENDING
    happened = bare(happening)._replace(reason=reason)
    expected = WHY[happening].split() if happening in WHY else [None]
    if reason in expected:
        assert move(standing(state), happened).reason is reason
    else:
        with pytest.raises(IllegalTransition, match=f"{happening.name} cannot have reason"):
            move(standing(state), happened)


def test_every_reason_belongs_to_one_ending() -> None:
    assert sorted(itertools.chain.from_iterable(REASONS.values())) == sorted(Reason)


@pytest.mark.parametrize("happening", Happening)
def test_a_time_to_try_again_goes_with_a_retry_alone(happening: Happening) -> None:
    state = DeliveryState.FAILED if happening is Happening.REOPENED else DeliveryState.PENDING
    wrong = None if happening is Happening.RETRY else AT
    with pytest.raises(IllegalTransition, match="retry_at"):
        move(standing(state), bare(happening)._replace(retry_at=wrong))


def test_an_attempt_of_an_opening_that_is_over_uses_up_nothing_of_the_new_one() -> None:
    before = standing(DeliveryState.PENDING)
    moved = move(before, attempted(Happening.NOTED))
    assert moved == before._replace(attempts=8, last_status=None, last_error="timeout: late")


@pytest.mark.parametrize("state", DeliveryState)
@pytest.mark.parametrize("happening", [Happening.SUCCEEDED, Happening.RETRY, Happening.FAILED])
def test_an_attempt_is_counted_whatever_the_row_says(
    happening: Happening, state: DeliveryState
) -> None:
    happened = attempted(happening)
    moved = move(standing(state), happened)
    assert (moved.attempts, moved.tries) == (8, 3)
    assert (moved.last_status, moved.last_error) == (happened.status, happened.error)
    assert moved.first_attempt_at == AT - 9_000


def test_the_first_attempt_is_remembered() -> None:
    first = move(opened(0), attempted(Happening.RETRY))
    assert first.first_attempt_at == AT - 250
    assert first.due_at == AT + 5_000
    assert first.finished_at is None


def test_an_ending_without_an_attempt_counts_none() -> None:
    moved = move(opened(0), Move(Happening.FAILED, at=AT, reason=Reason.UNRENDERABLE))
    assert moved.attempts == 0
    assert moved.first_attempt_at is None
    assert moved.finished_at == AT


def test_E12_a_success_turns_a_cancelled_row_into_delivered() -> None:
    cancelled = move(opened(0), bare(Happening.CANCELLED))
    moved = move(cancelled, attempted(Happening.SUCCEEDED))
    assert moved.state is DeliveryState.DELIVERED
    assert moved.reason is None
    assert moved.finished_at == AT
    assert moved.attempts == 1


@pytest.mark.parametrize("happening", [Happening.RETRY, Happening.FAILED])
def test_E12_any_other_outcome_of_a_cancelled_row_only_adds_the_attempt(
    happening: Happening,
) -> None:
    cancelled = standing(DeliveryState.CANCELLED)
    moved = move(cancelled, attempted(happening))
    assert moved == cancelled._replace(
        attempts=8, tries=3, last_status=None, last_error="timeout: late"
    )


@pytest.mark.parametrize("state", [s for s in DeliveryState if s is not DeliveryState.PENDING])
@pytest.mark.parametrize("happening", [Happening.RETRY, Happening.FAILED])
def test_E12_what_was_not_attempted_changes_nothing_of_what_is_finished(
    happening: Happening, state: DeliveryState
) -> None:
    finished = standing(state)
    assert move(finished, bare(happening)._replace(error="no network")) == finished


@pytest.mark.parametrize("happening", [Happening.RETRY, Happening.FAILED])
def test_what_was_not_attempted_says_why_of_what_is_pending(happening: Happening) -> None:
    moved = move(opened(0), bare(happening)._replace(error="no network"))
    assert (moved.attempts, moved.last_error) == (0, "no network")


def test_a_second_success_does_not_move_the_end() -> None:
    delivered = standing(DeliveryState.DELIVERED)
    moved = move(delivered, attempted(Happening.SUCCEEDED))
    assert moved.finished_at == delivered.finished_at
    assert moved.attempts == 8


@pytest.mark.parametrize("state", [s for s in DeliveryState if s is not DeliveryState.PENDING])
def test_reopened_the_schedule_starts_again_and_attempts_go_on_counting(
    state: DeliveryState,
) -> None:
    before = standing(state)
    moved = move(before, Move(Happening.REOPENED, at=AT))
    assert moved == before._replace(
        state=DeliveryState.PENDING,
        reason=None,
        tries=0,
        finished_at=None,
        due_at=AT,
    )
    again = move(moved, attempted(Happening.RETRY))
    assert (again.attempts, again.tries) == (8, 1)


class Histories(RuleBasedStateMachine):
    """Any history at all, with the counts kept a second time beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.standing = opened(0)
        self.attempts = 0
        self.tries = 0
        self.first: int | None = None
        self.accepted = False

    def _step(self) -> int:
        self.now += 1_000
        return self.now

    def _attempt(self, happened: Move) -> None:
        self.standing = move(self.standing, happened)
        self.attempts += 1
        self.tries += 1
        self.first = happened.attempted_at if self.first is None else self.first

    @rule()
    def succeeds(self) -> None:
        at = self._step()
        self._attempt(Move(Happening.SUCCEEDED, at, attempted_at=at - 9, status=200))
        assert self.standing.state is DeliveryState.DELIVERED
        assert (self.standing.last_status, self.standing.last_error) == (200, "")
        self.accepted = True

    @rule(delay=st.integers(0, 10_000))
    def fails_for_now(self, delay: int) -> None:
        at, state = self._step(), self.standing.state
        self._attempt(Move(Happening.RETRY, at, None, at - 9, 503, "http 503", retry_at=at + delay))
        assert self.standing.state is state
        assert self.standing.due_at == (at + delay if state is DeliveryState.PENDING else None)

    @rule(reason=st.sampled_from(WHY[Happening.FAILED].split()))
    def fails_for_good(self, reason: str) -> None:
        at, before = self._step(), self.standing
        self._attempt(Move(Happening.FAILED, at, Reason(reason), at - 9, None, "reset: gone"))
        if before.state is DeliveryState.PENDING:
            assert self.standing.state is DeliveryState.FAILED
            assert self.standing.reason == reason
        else:
            assert (self.standing.state, self.standing.reason) == (before.state, before.reason)

    @rule(happening=st.sampled_from([Happening.CANCELLED, Happening.SUPERSEDED]))
    def is_taken_back(self, happening: Happening) -> None:
        happened = bare(happening)._replace(at=self._step())
        if self.standing.state is DeliveryState.PENDING:
            self.standing = move(self.standing, happened)
            assert self.standing.reason is happened.reason
        else:
            with pytest.raises(IllegalTransition):
                move(self.standing, happened)

    @precondition(lambda self: self.standing.state is not DeliveryState.PENDING)
    @rule()
    def is_reopened(self) -> None:
        self.standing = move(self.standing, Move(Happening.REOPENED, self._step()))
        assert self.standing.due_at == self.now
        self.tries = 0
        self.accepted = False

    @invariant()
    def counts_are_right(self) -> None:
        assert self.standing.attempts == self.attempts
        assert self.standing.tries == self.tries
        assert self.standing.first_attempt_at == self.first

    @invariant()
    def what_a_receiver_accepted_stays_delivered(self) -> None:
        assert (self.standing.state is DeliveryState.DELIVERED) == self.accepted

    @invariant()
    def the_row_is_whole(self) -> None:
        pending = self.standing.state is DeliveryState.PENDING
        assert (self.standing.due_at is not None) == pending
        assert (self.standing.finished_at is None) == pending
        assert (self.standing.reason in WHY_OF[self.standing.state]) is True


WHY_OF = {
    DeliveryState.PENDING: [None],
    DeliveryState.DELIVERED: [None],
    DeliveryState.FAILED: WHY[Happening.FAILED].split(),
    DeliveryState.CANCELLED: WHY[Happening.CANCELLED].split(),
    DeliveryState.SUPERSEDED: WHY[Happening.SUPERSEDED].split(),
}

TestHistories = Histories.TestCase
