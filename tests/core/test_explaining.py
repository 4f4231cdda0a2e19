from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.explaining import (
    PATTERNS_SHOWN,
    Asked,
    Cause,
    Happened,
    Head,
    Line,
    Waiting,
    Why,
    judge,
    waits,
)
from webhookd.core.matching import Interest, Matcher
from webhookd.core.model import SubscriptionKey, SubscriptionState
from webhookd.core.times import from_text

MADE, TAKEN, LATER = (f"2026-01-31T12:00:0{n}.000Z" for n in range(3))
NOW = from_text(TAKEN)

EVENT = Happened("supplier.created", "supplier", "north", TAKEN)
OWN = Happened("webhookd.subscription.failing", "", "", TAKEN)


def asked(*events: str, tenant: str = "", created_at: str = MADE) -> Asked:
    return Asked(events, tenant, created_at)


@pytest.mark.parametrize(
    ("event", "wanted", "why", "text"),
    [
        (
            *(EVENT, asked("*", tenant="south"), Why.OTHER_TENANT),
            "the tenant differs: the event's is north, the subscription's is south",
        ),
        (
            *(replace(EVENT, tenant=""), asked("*", tenant="south"), Why.OTHER_TENANT),
            "the tenant differs: the event's is absent, the subscription's is south",
        ),
        (
            *(EVENT, asked("order.*", "supplier", tenant="north"), Why.OTHER_TYPE),
            "no pattern of [order.*, supplier] matches supplier.created",
        ),
        (
            *(replace(EVENT, event_type="ping", aggregate_type=""), asked("x"), Why.OTHER_TYPE),
            "no pattern of [x] matches ping",
        ),
        (
            *(OWN, asked("*", "web*"), Why.OWN_EVENT),
            (
                "webhookd.* events go only to subscriptions without a tenant that name them; "
                "no pattern of [*, web*] begins with webhookd."
            ),
        ),
        (
            *(OWN, asked("webhookd.*", tenant="north"), Why.OWN_EVENT),
            (
                "webhookd.* events go only to subscriptions without a tenant that name them; "
                "this one's tenant is north"
            ),
        ),
        (
            *(OWN, asked("webhookd.x"), Why.OTHER_TYPE),
            "no pattern of [webhookd.x] matches webhookd.subscription.failing",
        ),
        (
            *(EVENT, asked("*", created_at=LATER), Why.MADE_LATER),
            (
                f"the subscription was made at {LATER}, after the event was taken in at {TAKEN}; "
                "it matches now: `webhookd replay` makes what is missing"
            ),
        ),
        (
            *(EVENT, asked("*"), Why.NOT_THEN),
            (
                "its patterns were others when the event was taken in; "
                "it matches now: `webhookd replay` makes what is missing"
            ),
        ),
        (
            *(replace(EVENT, pruned=True), asked("*"), Why.MAY_BE_PRUNED),
            (
                "it matches, and the delivery that it had, if any, was pruned: nobody can tell "
                "now; `webhookd replay` would make it anew and send it, delivered before or not"
            ),
        ),
        (
            *(replace(EVENT, pruned=True), asked("*", created_at=LATER), Why.MADE_LATER),
            (
                f"the subscription was made at {LATER}, after the event was taken in at {TAKEN}; "
                "it matches now: `webhookd replay` makes what is missing"
            ),
        ),
        (
            *(replace(EVENT, pruned=True), asked("order.*"), Why.OTHER_TYPE),
            "no pattern of [order.*] matches supplier.created",
        ),
    ],
)
def test_why_not(event: Happened, wanted: Asked, why: Why, text: str) -> None:
    judged = judge(event, wanted, owed=False)
    assert (judged.why, judged.text, judged.matched) == (why, text, False)


def test_why() -> None:
    judged = judge(EVENT, asked("order.*", "supplier.*", "*"), owed=True)
    assert judged.matched
    assert (judged.why, judged.text) == (Why.MATCHED, "its pattern supplier.* asks for it")
    judged = judge(EVENT, asked("order.*"), owed=True)
    assert judged.matched
    assert judged.why is Why.MATCHED_THEN
    assert judged.text.startswith("it matched when the event was taken in; as the subscription is")
    assert judged.text.endswith(": no pattern of [order.*] matches supplier.created")


def test_a_subscription_of_the_same_millisecond_counts_as_made_later() -> None:
    assert judge(EVENT, asked("*", created_at=TAKEN), owed=False).why is Why.MADE_LATER


def test_a_sentence_stays_short_and_printable() -> None:
    many = asked(*(f"a{number}" for number in range(PATTERNS_SHOWN + 3)))
    assert "a19, and 3 more] matches" in judge(EVENT, many, owed=False).text
    few = asked(*(f"a{number}" for number in range(PATTERNS_SHOWN)))
    assert "a19] matches" in judge(EVENT, few, owed=False).text
    odd = judge(replace(EVENT, tenant="x\u202e" * 300), asked("*", tenant="y" * 512), owed=False)
    assert odd.text.isprintable()
    assert len(odd.text) < 400


@given(
    st.lists(st.text(alphabet="ab.*", min_size=1, max_size=5), min_size=1, max_size=3),
    st.sampled_from(["", "n", "s"]),
    st.sampled_from(["a", "a.b", "b.a", "webhookd.a"]),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["", "n", "s"]),
    st.booleans(),
)
def test_it_says_what_the_matcher_does(
    events: list[str], tenant: str, event_type: str, aggregate: str, whose: str, names: bool
) -> None:
    patterns = (*events, "webhookd.*") if names else tuple(events)
    found = Matcher([Interest(SubscriptionKey(1), patterns, tenant)]).match(
        event_type, aggregate, whose
    )
    happened = Happened(event_type, aggregate, whose, TAKEN)
    judged = judge(happened, asked(*patterns, tenant=tenant), owed=False)
    assert (judged.why is Why.NOT_THEN) == bool(found)
    assert (judge(happened, asked(*patterns, tenant=tenant), owed=True).why is Why.MATCHED) == bool(
        found
    )


READY = Waiting("acme", SubscriptionState.ENABLED, "", False, False, None, None, TAKEN, None)
HEAD = Head(7, 0, "", TAKEN, Line.AGGREGATE)


def said(one: Waiting, *, running: bool = True) -> list[tuple[Cause, str]]:
    return [(wait.cause, wait.text) for wait in waits(one, running=running, now=NOW)]


def test_what_is_due_waits_for_its_turn() -> None:
    assert said(READY) == [(Cause.PLACE, "it is due: it is sent as soon as a place is free")]


def test_one_whose_subscription_is_held_back() -> None:
    again = "once that is mended the daemon sends by itself, within a minute"
    assert said(replace(READY, held_back="env:KEY: no such environment variable")) == [
        (
            Cause.HELD_BACK,
            f"its subscription is held back: env:KEY: no such environment variable; {again}",
        )
    ]


def test_a_daemon_that_does_not_run() -> None:
    assert said(READY, running=False) == [
        (Cause.DAEMON, "the daemon does not run: nothing is sent"),
    ]


def test_the_time_of_the_next_attempt() -> None:
    assert said(replace(READY, due_at=LATER)) == [
        (Cause.TIME, f"the next attempt is due at {LATER}"),
    ]


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (HEAD, f"aggregate (not attempted yet; due at {TAKEN})"),
        (
            Head(7, 1, "status 500", LATER, Line.AGGREGATE),
            f"aggregate (1 attempt; the last: status 500; due at {LATER})",
        ),
        (
            Head(7, 2, "", None, Line.SUBSCRIPTION),
            "subscription, whose deliveries go one by one (2 attempts)",
        ),
        (Head(7, 0, "", None, Line.OWN), "line of webhookd's own events (not attempted yet)"),
    ],
)
def test_behind_another_one(head: Head, text: str) -> None:
    waiting = replace(READY, due_at=None, head=head)
    assert said(waiting) == [(Cause.BEHIND, f"behind delivery 7 of the same {text}")]


@pytest.mark.parametrize(
    ("state", "reason", "cause", "text"),
    [
        (SubscriptionState.PAUSED, "operator", Cause.PAUSED, "paused (operator)"),
        (SubscriptionState.DISABLED, "gone", Cause.DISABLED, "disabled (gone)"),
        (SubscriptionState.PAUSED, "", Cause.PAUSED, "paused"),
    ],
)
def test_a_subscription_that_is_not_enabled(
    state: SubscriptionState, reason: str, cause: Cause, text: str
) -> None:
    found = said(replace(READY, state=state, state_reason=reason))
    enable = "`webhookd subscriptions enable acme` sends what it is owed"
    assert found == [(cause, f"its subscription is {text}: {enable}")]


def test_everything_that_is_in_the_way_is_said() -> None:
    crowded = replace(
        READY,
        state=SubscriptionState.PAUSED,
        instructed=True,
        failing_since=MADE,
        held_until=LATER,
        due_at=None,
        head=HEAD,
    )
    assert [cause for cause, _ in said(crowded, running=False)] == [
        *(Cause.PAUSED, Cause.INSTRUCTED, Cause.FAILING, Cause.HELD, Cause.BEHIND, Cause.DAEMON),
    ]
    assert said(replace(crowded, removed=True), running=False) == [
        (Cause.REMOVED, "its subscription was removed: it is about to be cancelled"),
    ]


def test_a_retry_after_that_is_over_holds_nobody() -> None:
    assert said(replace(READY, held_until=TAKEN)) == said(READY)
    (held,) = said(replace(READY, held_until=LATER))
    assert held == (
        Cause.HELD,
        (
            f"its receiver asked (Retry-After) to be left alone until {LATER}; "
            "`webhookd subscriptions enable acme` ends that"
        ),
    )


def test_a_receiver_that_is_unwell() -> None:
    assert said(replace(READY, failing_since=MADE)) == [
        (
            Cause.FAILING,
            (
                f"its receiver has been failing since {MADE}: it is tried with one request at a "
                "time, until one succeeds; `webhookd subscriptions enable acme` asks at once"
            ),
        ),
    ]


def test_a_rate_limit_is_named_where_only_its_turn_is_missing() -> None:
    ((cause, text),) = said(replace(READY, rate_limit="10/s"))
    assert cause is Cause.PLACE
    assert text.endswith("as soon as a place is free, within the rate limit of 10/s")
