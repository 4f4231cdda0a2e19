"""A subscription's health: every sentence of the theory at the top of `webhookd.core.health`."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.delivery import Happening, Move
from webhookd.core.health import (
    OPEN,
    PROBE,
    WELL,
    Change,
    Health,
    Opening,
    Rule,
    Verdict,
    after,
    enabled,
    opening,
    shifted,
)
from webhookd.core.model import Answer, Fault, FaultKind, Phase, Policy, Reason, Result
from webhookd.core.outcomes import Signs, judge, signs

NOW = 1_750_000_000_000
POLICY = Policy(timeout=15_000, retry_delays=(5_000, 300_000))
ILL = Signs(ill=True)
NEITHER = Signs()
GONE = Signs(gone=True)


def retry(at: int = NOW) -> Move:
    return Move(Happening.RETRY, at, None, at - 10, 500, "http 500", at + 5_000)


def failed(reason: Reason = Reason.EXHAUSTED, at: int = NOW) -> Move:
    return Move(Happening.FAILED, at, reason, at - 10, 500, "http 500")


def succeeded(at: int = NOW) -> Move:
    return Move(Happening.SUCCEEDED, at, attempted_at=at - 10, status=200)


def told(policy: Policy, *attempts: tuple[Move, Signs | None]) -> Verdict:
    """What the last of some attempts means, from a subscription that was well."""
    verdict = Verdict(WELL)
    for happened, said in attempts:
        verdict = after(verdict.health, happened, said, policy)
    return verdict


# Failing


@pytest.mark.parametrize("failing_after", [1, 2, 5])
def test_so_many_ill_attempts_in_a_row_and_it_is_failing(failing_after: int) -> None:
    policy = replace(POLICY, failing_after=failing_after)
    ill = [(retry(NOW + number), ILL) for number in range(failing_after)]
    before = told(policy, *ill[:-1])
    assert (before.health.failing_since, before.changes) == (None, ())
    verdict = told(policy, *ill)
    assert verdict.changes == (Change.FAILING,)
    assert verdict.health.failing_since == NOW + failing_after - 1
    assert verdict.health.ill == failing_after


def test_it_began_to_fail_once() -> None:
    verdict = told(POLICY, *((retry(NOW + number), ILL) for number in range(9)))
    assert verdict.changes == ()
    assert verdict.health.failing_since == NOW + 4
    assert verdict.health.ill == 9


def test_an_attempt_that_is_neither_says_nothing_of_it() -> None:
    verdict = told(POLICY, *[(retry(), ILL)] * 4, *[(retry(), NEITHER)] * 9)
    assert (verdict.health.ill, verdict.health.failing_since) == (4, None)
    verdict = after(verdict.health, retry(), ILL, POLICY)
    assert verdict.changes == (Change.FAILING,), "in a row: no success between, whatever else"


def test_a_fault_of_this_machine_changes_nothing_at_all() -> None:
    local = Move(Happening.RETRY, NOW, error="local", retry_at=NOW)
    known = told(POLICY, *[(retry(), ILL)] * 6).health
    assert after(known, local, None, POLICY) == Verdict(known)
    never_asked = Move(Happening.FAILED, NOW, Reason.UNRENDERABLE)
    strict = replace(POLICY, disable_after_failures=1, disable_after=1)
    assert after(known, never_asked, None, strict) == Verdict(known)


def test_a_policy_that_became_stricter_is_judged_at_the_next_attempt() -> None:
    known = told(POLICY, *[(retry(), ILL)] * 3).health
    verdict = after(known, retry(), NEITHER, replace(POLICY, failing_after=2))
    assert verdict.changes == (Change.FAILING,)


# Recovered


def test_a_success_clears_all_of_it() -> None:
    known = Health(7, NOW - 9, 3, NOW - 8, NOW - 7, NOW)
    assert after(known, succeeded(), None, POLICY) == Verdict(WELL, (Change.RECOVERED,))


def test_a_success_that_was_under_way_does_not_end_a_hold() -> None:
    known = Health(7, NOW - 9, 3, NOW - 8, NOW - 7, NOW + 60_000)
    verdict = after(known, succeeded(), None, POLICY)
    assert verdict == Verdict(Health(held_until=NOW + 60_000), (Change.RECOVERED,))


def test_when_the_clock_jumps_what_has_lasted_so_long_has_still() -> None:
    known = Health(7, NOW - 9, 3, NOW - 8, NOW - 7, NOW + 5)
    day = 86_400_000
    moved = Health(7, NOW - 9 + day, 3, NOW - 8, NOW - 7 + day, NOW + 5)
    assert shifted(known, day, NOW + day) == moved
    assert shifted(moved, -day, NOW) == known
    assert shifted(WELL, day, NOW) == WELL


def test_what_the_new_clock_has_set_is_not_moved() -> None:
    day = 86_400_000
    known = Health(no_success_since=NOW + day - 2_000)
    assert shifted(known, day, NOW + day) == known
    assert shifted(Health(no_success_since=NOW - 2_000), -day, NOW) == Health(
        no_success_since=NOW - 2_000
    )


def test_who_did_not_fail_has_not_recovered() -> None:
    known = Health(ill=4, failures=3, failures_since=NOW, no_success_since=NOW, held_until=NOW)
    assert after(known, succeeded(), None, POLICY) == Verdict(WELL)
    assert after(WELL, succeeded(), None, POLICY) == Verdict(WELL)


# Failures and the rules that disable


@pytest.mark.parametrize("reason", [Reason.EXHAUSTED, Reason.PERMANENT_STATUS, Reason.GONE])
def test_so_many_deliveries_in_a_row_that_ended_failed(reason: Reason) -> None:
    policy = replace(POLICY, disable_after_failures=3)
    first = [(failed(reason, NOW + number), NEITHER) for number in range(2)]
    verdict = told(policy, *first)
    assert (verdict.changes, verdict.rule) == ((), None)
    assert (verdict.health.failures, verdict.health.failures_since) == (2, NOW)
    verdict = told(policy, *first, (failed(reason), NEITHER))
    assert (verdict.changes, verdict.rule) == ((Change.DISABLED,), Rule.FAILURES)
    assert verdict.rule == "disable_after_failures"


@pytest.mark.parametrize("reason", [Reason.EXPIRED, Reason.UNRENDERABLE])
def test_what_expired_or_could_not_be_rendered_does_not_count(reason: Reason) -> None:
    policy = replace(POLICY, disable_after_failures=1)
    for said in (None, NEITHER):
        verdict = told(policy, *[(failed(reason), said)] * 5)
        assert (verdict.health.failures, verdict.rule) == (0, None)


def test_an_attempt_that_is_tried_again_is_no_failure() -> None:
    verdict = told(replace(POLICY, disable_after_failures=1), *[(retry(), ILL)] * 30)
    assert (verdict.health.failures, verdict.health.failures_since) == (0, None)
    assert verdict.rule is None


def test_any_success_resets_the_count() -> None:
    policy = replace(POLICY, disable_after_failures=2)
    verdict = told(policy, (failed(), ILL), (succeeded(), None), (failed(at=NOW + 1), ILL))
    assert verdict.rule is None
    assert (verdict.health.failures, verdict.health.failures_since) == (1, NOW + 1)


def test_without_success_since_the_first_failed_attempt_after_the_last_one() -> None:
    verdict = told(POLICY, (retry(NOW), NEITHER), (retry(NOW + 1), ILL), (failed(at=NOW + 2), ILL))
    assert verdict.health.no_success_since == NOW
    verdict = after(verdict.health, succeeded(), None, POLICY)
    assert verdict.health.no_success_since is None
    assert after(WELL, retry(NOW + 9), NEITHER, POLICY).health.no_success_since == NOW + 9


def test_so_long_without_a_success_judged_at_a_failed_attempt() -> None:
    policy = replace(POLICY, disable_after=60_000)
    assert told(policy, (retry(NOW), ILL), (retry(NOW + 59_999), ILL)).rule is None
    verdict = told(policy, (retry(NOW), ILL), (retry(NOW + 60_000), ILL))
    assert (verdict.changes, verdict.rule) == ((Change.DISABLED,), Rule.NO_SUCCESS)
    # Who was asked nothing for a year cannot fail: the clock alone disables nobody.
    verdict = told(policy, (retry(NOW), ILL), (retry(NOW + 31_536_000_000), None))
    assert verdict.rule is None


def test_the_first_failed_attempt_alone_is_never_too_long() -> None:
    assert told(replace(POLICY, disable_after=1), (retry(), ILL)).rule is None


def test_a_clock_that_was_set_back_disables_nobody() -> None:
    policy = replace(POLICY, disable_after=60_000)
    assert told(policy, (retry(NOW), ILL), (retry(NOW - 86_400_000), ILL)).rule is None


@pytest.mark.parametrize(("disables", "rule"), [(True, Rule.GONE), (False, None)])
def test_C7_a_410_disables_where_the_policy_says_so(disables: bool, rule: Rule | None) -> None:
    verdict = told(replace(POLICY, gone_disables=disables), (retry(), GONE))
    assert verdict.rule is rule
    assert verdict.changes == ((Change.DISABLED,) if disables else ())


def test_both_at_once_are_told_in_their_order() -> None:
    policy = replace(POLICY, failing_after=1, disable_after_failures=1)
    verdict = told(policy, (failed(), ILL))
    assert verdict.changes == (Change.FAILING, Change.DISABLED)


def test_no_rule_is_on_by_default() -> None:
    verdict = told(POLICY, *[(failed(at=NOW + 86_400_000 * day), GONE) for day in range(400)])
    assert verdict.rule is None


# Held back


def test_held_back_while_a_retry_after_runs() -> None:
    health = told(POLICY, (retry(), Signs(ill=True, held_until=NOW + 60_000))).health
    assert health.holds(NOW, POLICY) == NOW + 60_000
    assert health.holds(NOW + 59_999, POLICY) == NOW + 60_000
    assert health.holds(NOW + 60_000, POLICY) is None
    assert WELL.holds(NOW, POLICY) is None


def test_a_shorter_wish_does_not_shorten_a_longer_one() -> None:
    long, short = Signs(held_until=NOW + 60_000), Signs(held_until=NOW + 5_000)
    assert told(POLICY, (retry(), long), (retry(), short)).health.held_until == NOW + 60_000
    assert told(POLICY, (retry(), short), (retry(), long)).health.held_until == NOW + 60_000
    assert told(POLICY, (retry(), long), (retry(), ILL)).health.held_until == NOW + 60_000


def test_E4_what_a_clock_set_back_since_has_left_holds_nobody_back() -> None:
    ahead = Health(held_until=NOW + 86_400_000)
    assert ahead.holds(NOW, POLICY) is None
    health = after(ahead, retry(), Signs(held_until=NOW + 60_000), POLICY).health
    assert health.holds(NOW, POLICY) == NOW + 60_000, "and hides no wish of now"


def test_the_longest_wish_holds_to_its_end() -> None:
    longest = NOW + POLICY.retry_after_max
    assert Health(held_until=longest).holds(NOW, POLICY) == longest
    assert Health(held_until=longest + 1).holds(NOW, POLICY) is None


# Enabled by an operator


def test_enabling_lets_the_rules_count_anew_and_probing_go_on() -> None:
    known = Health(7, NOW - 9, 3, NOW - 8, NOW - 7, NOW + 60_000)
    assert enabled(known) == Health(ill=7, failing_since=NOW - 9)
    assert enabled(WELL) == WELL


# How many at once


def test_it_opens_by_two_four_and_eight() -> None:
    policy = replace(POLICY, concurrency=16)
    found = opening(Health(failing_since=NOW))
    assert found == PROBE
    limits = [found.limit(policy)]
    for _ in range(6):
        found = found.after(WELL, succeeded=True, policy=policy)
        limits.append(found.limit(policy))
    assert limits == [1, 2, 4, 8, 16, 16, 16]
    assert found == OPEN


def test_who_is_well_is_wide_open() -> None:
    assert opening(WELL) == OPEN
    assert OPEN.limit(POLICY) == POLICY.concurrency
    for succeeded_ in (True, False):
        assert OPEN.after(WELL, succeeded=succeeded_, policy=POLICY) == OPEN


def test_a_failure_that_is_not_failing_leaves_the_room_as_it_is() -> None:
    assert Opening(4).after(Health(ill=1), succeeded=False, policy=POLICY) == Opening(4)


@pytest.mark.parametrize("room", [None, 1, 4])
def test_who_fails_is_probed_with_one(room: int | None) -> None:
    failing = Health(failing_since=NOW)
    for succeeded_ in (True, False):
        assert Opening(room).after(failing, succeeded=succeeded_, policy=POLICY) == PROBE
    assert PROBE.limit(POLICY) == 1


def test_a_concurrency_that_was_lowered_since_is_kept_to() -> None:
    assert Opening(4).limit(replace(POLICY, concurrency=3)) == 3


# Whatever happens

POLICIES = st.builds(
    Policy,
    timeout=st.just(15_000),
    retry_delays=st.sampled_from([(), (5_000,), (5_000, 300_000)]),
    concurrency=st.integers(1, 20),
    retry_after_max=st.sampled_from([0, 60_000, 3_600_000]),
    permanent_statuses=st.sampled_from([(), ("4xx",), ("410", "500")]),
    gone_disables=st.booleans(),
    failing_after=st.integers(1, 6),
    disable_after_failures=st.integers(0, 4),
    disable_after=st.sampled_from([0, 1, 60_000, 86_400_000]),
)
RESULTS = st.builds(
    Answer,
    st.sampled_from([200, 204, 302, 400, 404, 408, 410, 425, 429, 500, 503, 999]),
    retry_after=st.sampled_from(["", "30", "7200", "garbage"]),
) | st.builds(Fault, st.sampled_from(FaultKind), st.just(""), st.just(Phase.HEAD))
ATTEMPTS = st.lists(
    st.tuples(RESULTS, st.integers(0, 3), st.sampled_from([0, 1_000, 60_000, 86_400_000, -5_000])),
    max_size=40,
)


def lived(policy: Policy, attempts: list[tuple[Result, int, int]]) -> list[tuple[Move, Verdict]]:
    """A subscription's life: what each attempt came to, and what it meant."""
    now, health = NOW, WELL
    found = []
    for result, tries, later in attempts:
        now += later
        happened = judge(result, policy, tries=tries, started=now - 10, now=now, jitter=0.0)
        verdict = after(health, happened, signs(result, policy, now), policy)
        health = verdict.health
        found.append((happened, verdict))
    return found


@given(POLICIES, ATTEMPTS)
def test_a_success_always_leads_to_well(
    policy: Policy, attempts: list[tuple[Result, int, int]]
) -> None:
    """But for what its receiver has asked for: a hold runs on to its end."""
    before = WELL
    for happened, verdict in lived(policy, attempts):
        if happened.happening is Happening.SUCCEEDED:
            runs = before.holds(happened.at, policy)
            assert verdict.health == replace(WELL, held_until=runs)
            assert verdict.rule is None
        before = verdict.health


@given(POLICIES, ATTEMPTS)
def test_failing_is_told_exactly_once_between_recoveries(
    policy: Policy, attempts: list[tuple[Result, int, int]]
) -> None:
    was_failing = False
    for _, verdict in lived(policy, attempts):
        is_failing = verdict.health.failing_since is not None
        assert (Change.FAILING in verdict.changes) == (is_failing and not was_failing)
        assert (Change.RECOVERED in verdict.changes) == (was_failing and not is_failing)
        assert len(set(verdict.changes)) == len(verdict.changes)
        was_failing = is_failing


@given(POLICIES, ATTEMPTS)
def test_what_is_counted_is_what_happened_since_the_last_success(
    policy: Policy, attempts: list[tuple[Result, int, int]]
) -> None:
    ill = ended = 0
    counted = {Reason.EXHAUSTED, Reason.PERMANENT_STATUS, Reason.GONE}
    first: int | None = None
    lives = lived(policy, attempts)
    for (result, _, _), (happened, verdict) in zip(attempts, lives, strict=True):
        said = signs(result, policy, happened.at)
        if happened.happening is Happening.SUCCEEDED:
            ill, ended, first = 0, 0, None
        elif said is not None:
            ill += said.ill
            ended += happened.reason in counted
            first = happened.at if first is None else first
        health = verdict.health
        assert (health.ill, health.failures, health.no_success_since) == (ill, ended, first)
        assert (health.failures_since is None) == (ended == 0)
        assert (verdict.rule is not None) == (Change.DISABLED in verdict.changes)
        if verdict.rule is not None:
            assert said is not None
            assert happened.happening is not Happening.SUCCEEDED, "judged at a failed attempt"
        held = health.holds(happened.at, policy)
        assert held is None or happened.at < held <= happened.at + policy.retry_after_max


@given(POLICIES, ATTEMPTS)
def test_opening_doubles_and_never_exceeds_the_concurrency(
    policy: Policy, attempts: list[tuple[Result, int, int]]
) -> None:
    found = OPEN
    for happened, verdict in lived(policy, attempts):
        before = found.limit(policy)
        good = happened.happening is Happening.SUCCEEDED
        found = found.after(verdict.health, succeeded=good, policy=policy)
        limit = found.limit(policy)
        assert 1 <= limit <= policy.concurrency
        if verdict.health.failing_since is not None:
            assert limit == 1
        elif good:
            assert limit == min(2 * before, policy.concurrency)
        else:
            assert limit == before
