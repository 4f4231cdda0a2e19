from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core import outcomes
from webhookd.core.delivery import Happening, Move, move, opened
from webhookd.core.health import Health
from webhookd.core.model import (
    Answer,
    DeliveryState,
    Fault,
    FaultKind,
    Phase,
    Policy,
    Reason,
    Result,
)
from webhookd.core.outcomes import MAX_ERROR, Signs, error_class, judge, signs

STARTED, NOW = 1_000_000, 1_000_250
POLICY = Policy(timeout=15_000, retry_delays=(5_000, 300_000), jitter=0.1)
TIMEOUT = Fault(FaultKind.TIMEOUT, "no answer within 15s", Phase.HEAD)

OURS = {FaultKind.LOCAL, FaultKind.INTERNAL}


def judged(result: Result, tries: int = 0, jitter: float = 0.0) -> Move:
    return judge(result, POLICY, tries=tries, started=STARTED, now=NOW, jitter=jitter)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
@pytest.mark.parametrize("note", ["", "body cut at 64 KiB"])
def test_C1_C2_any_2xx_has_succeeded(status: int, note: str) -> None:
    answer = Answer(status, retry_after="60", location="https://elsewhere/", note=note)
    assert judged(answer, tries=99) == Move(
        Happening.SUCCEEDED, at=NOW, attempted_at=STARTED, status=status
    )
    assert error_class(answer) == ""


@pytest.mark.parametrize(
    ("status", "shown_class"),
    [
        (400, "http_4xx"),
        (401, "http_4xx"),
        (404, "http_4xx"),
        (408, "http_4xx"),
        (410, "http_4xx"),
        (413, "http_4xx"),
        (429, "http_4xx"),
        (499, "http_4xx"),
        (500, "http_5xx"),
        (503, "http_5xx"),
        (599, "http_5xx"),
        (600, "status"),
        (999, "status"),
        (199, "status"),
    ],
)
def test_C6_C8_C10_C11_any_other_status_is_tried_again(status: int, shown_class: str) -> None:
    answer = Answer(status)
    assert judged(answer) == Move(
        Happening.RETRY,
        at=NOW,
        attempted_at=STARTED,
        status=status,
        error=f"http {status}",
        retry_at=NOW + 5_000,
    )
    assert error_class(answer) == shown_class


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("", ""),
        ("https://example.com/new?token=abc#x", " → https://example.com"),
        ("HTTP://169.254.169.254/latest/meta-data", " → HTTP://169.254.169.254"),
        ("https://example.com:8443", " → https://example.com:8443"),
        ("https://user:pass@example.com/x", " → https://***@example.com"),
        ("https://us@er:pass@example.com/x", " → https://***@example.com"),
        ("//example.com/x", " → //example.com"),
        ("//user:pass@example.com/x", " → //***@example.com"),
        ("  /login?next=/hook&key=secret  ", " → /login"),
        ("/login#key=secret", " → /login"),
        ("?key=secret", " → "),
        ("/users/someone@example.com", " → ***@example.com"),
        ("user:pass@example.com/x", " → ***@example.com/x"),
        ("https://evil\\@example.com", " → https://evil"),
        ("/a\r\nX-Evil: 1\x1b[31m\u202e", " → /a\\r\\nX-Evil: 1\\x1b[31m\\u202e"),
        ("/" + "a" * 10_000, " → /" + "a" * 118 + "…"),
        ("https://" + "a" * 10_000, " → https://" + "a" * 111 + "…"),
    ],
    ids=lambda value: ascii(value)[:40],
)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_C5_C31_a_redirect_is_a_failure_that_shows_where_to(
    status: int, location: str, shown: str
) -> None:
    answer = Answer(status, location=location)
    happened = judged(answer)
    assert happened.happening is Happening.RETRY
    assert happened.error == f"redirect {status}{shown}"
    assert error_class(answer) == "redirect"


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind is not FaultKind.LOCAL])
def test_a_fault_is_tried_again(kind: FaultKind) -> None:
    fault = Fault(kind, "what happened", Phase.CONNECT)
    assert judged(fault) == Move(
        Happening.RETRY,
        at=NOW,
        attempted_at=STARTED,
        error=f"{kind.value}: what happened",
        retry_at=NOW + 5_000,
    )
    assert error_class(fault) == kind.value


@pytest.mark.parametrize("tries", [0, 99])
def test_B32_a_fault_of_this_machine_is_no_attempt(tries: int) -> None:
    """Due again as soon as the machine is well, however much of the schedule has been used up."""
    fault = Fault(FaultKind.LOCAL, "too many open files", Phase.CONNECT)
    happened = judged(fault, tries, jitter=0.9)
    assert happened == Move(
        Happening.RETRY, at=NOW, error="local: too many open files", retry_at=NOW
    )
    before = opened(0)._replace(attempts=tries, tries=tries)
    after = move(before, happened)
    assert (after.attempts, after.tries, after.first_attempt_at) == (tries, tries, None)
    assert signs(fault, POLICY, NOW) is None


def test_a_bug_of_ours_is_an_attempt_that_says_nothing_of_the_endpoint() -> None:
    fault = Fault(FaultKind.INTERNAL, "", Phase.SEND)
    assert judged(fault).attempted_at == STARTED
    assert judged(fault, tries=2).reason is Reason.EXHAUSTED
    assert signs(fault, POLICY, NOW) is None


@pytest.mark.parametrize(
    ("permanent", "status", "ends"),
    [
        (("404",), 404, True),
        (("404",), 400, False),
        (("404",), 500, False),
        (("4xx",), 400, True),
        (("4xx",), 404, True),
        (("4xx",), 499, True),
        (("4xx",), 399, False),
        (("4xx",), 500, False),
        (("5xx",), 503, True),
        (("3xx", "401"), 301, True),
        (("3xx", "401"), 401, True),
        (("3xx", "401"), 402, False),
        ((), 400, False),
        # These ask to be tried again: a class never has them, only their own number ends them.
        (("4xx",), 408, False),
        (("4xx",), 425, False),
        (("4xx",), 429, False),
        (("408",), 408, True),
        (("425",), 425, True),
        (("429", "4xx"), 429, True),
    ],
)
def test_a_permanent_status_ends_it_at_once(
    permanent: tuple[str, ...], status: int, ends: bool
) -> None:
    policy = replace(POLICY, permanent_statuses=permanent)
    answer = Answer(status, retry_after="60")
    happened = judge(answer, policy, tries=0, started=STARTED, now=NOW, jitter=0.0)
    if ends:
        error = judged(answer).error
        assert happened == Move(
            Happening.FAILED, NOW, Reason.PERMANENT_STATUS, STARTED, status, error
        )
    else:
        assert happened == judged(answer)
        assert happened.happening is Happening.RETRY


def test_no_permanent_status_ends_a_fault_or_a_success() -> None:
    policy = replace(POLICY, permanent_statuses=("3xx", "4xx", "5xx"))
    for result, happening in ((TIMEOUT, Happening.RETRY), (Answer(200), Happening.SUCCEEDED)):
        happened = judge(result, policy, tries=0, started=STARTED, now=NOW, jitter=0.0)
        assert happened.happening is happening


@pytest.mark.parametrize("permanent", [(), ("410",), ("4xx",)])
@pytest.mark.parametrize("tries", [0, 99])
def test_C7_where_410_disables_the_delivery_stays_owed(
    permanent: tuple[str, ...], tries: int
) -> None:
    policy = replace(POLICY, gone_disables=True, permanent_statuses=permanent)
    happened = judge(Answer(410), policy, tries=tries, started=STARTED, now=NOW, jitter=0.5)
    assert happened == Move(Happening.RETRY, NOW, None, STARTED, 410, "http 410", NOW)
    assert move(opened(0), happened).state is DeliveryState.PENDING


@pytest.mark.parametrize(
    ("permanent", "tries", "reason"),
    [
        ((), 0, None),
        ((), 2, Reason.EXHAUSTED),
        (("410",), 0, Reason.GONE),
        (("4xx",), 0, Reason.GONE),
        (("404",), 0, None),
    ],
)
def test_C7_where_it_does_not_it_is_an_ordinary_4xx(
    permanent: tuple[str, ...], tries: int, reason: Reason | None
) -> None:
    policy = replace(POLICY, permanent_statuses=permanent)
    happened = judge(Answer(410), policy, tries=tries, started=STARTED, now=NOW, jitter=0.0)
    assert happened.reason is reason
    assert happened.happening is (Happening.RETRY if reason is None else Happening.FAILED)
    assert happened.status == 410


@pytest.mark.parametrize(
    ("retry_after", "held_until"),
    [
        ("60", NOW + 60_000),
        ("3600", NOW + 3_600_000),
        ("3601", NOW + 3_600_000),
        ("315360000", NOW + 3_600_000),
        ("9" * 400, NOW + 3_600_000),
        ("Thu, 01 Jan 1970 00:17:00 GMT", 1_020_000),
        ("Thursday, 01-Jan-70 00:17:00 GMT", 1_020_000),
        ("Thu Jan  1 00:17:00 1970", 1_020_000),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", NOW + 3_600_000),
        ("0", None),
        ("-60", None),
        ("1.5", None),
        ("garbage", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_C9_C10_with_a_retry_after_these_speak_for_the_whole_endpoint(
    status: int, retry_after: str, held_until: int | None
) -> None:
    said = signs(Answer(status, retry_after=retry_after), POLICY, NOW)
    assert said == Signs(ill=True, held_until=held_until)


@pytest.mark.parametrize("status", [302, 400, 408, 410, 425, 500, 501, 505, 999])
def test_C9_with_any_other_status_it_is_the_deliverys_own(status: int) -> None:
    said = signs(Answer(status, retry_after="60"), POLICY, NOW)
    assert said is not None
    assert said.held_until is None
    assert said.gone is (status == 410)
    assert judged(Answer(status, retry_after="60")).retry_at == NOW + 60_000


def test_what_no_receiver_may_ask_for() -> None:
    policy = replace(POLICY, retry_after_max=0)
    said = signs(Answer(503, retry_after="60"), policy, NOW)
    assert said is not None
    assert Health(held_until=said.held_until).holds(NOW, policy) is None


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind not in OURS])
def test_a_fault_holds_nobody_back(kind: FaultKind) -> None:
    fault = Fault(kind, "", Phase.CONNECT)
    assert signs(fault, POLICY, NOW) == Signs(ill=kind is not FaultKind.BLOCKED)


@pytest.mark.parametrize(
    ("detail", "error"),
    [
        ("", "timeout"),
        ("a\nb\x1b[0m", "timeout: a\\nb\\x1b[0m"),
        ("x" * 1000, "timeout: " + "x" * 290 + "…"),
    ],
    ids=["empty", "control characters", "long"],
)
def test_C31_a_faults_text_is_one_printable_line(detail: str, error: str) -> None:
    assert judged(Fault(FaultKind.TIMEOUT, detail, Phase.HEAD)).error == error


@pytest.mark.parametrize(("result", "status"), [(Answer(503), 503), (TIMEOUT, None)])
def test_the_schedule_to_its_end(result: Result, status: int | None) -> None:
    first, second, third = (judged(result, tries, jitter=0.5) for tries in range(3))
    assert (first.happening, first.retry_at) == (Happening.RETRY, NOW + 5_250)
    assert (second.happening, second.retry_at) == (Happening.RETRY, NOW + 315_000)
    assert third == Move(
        Happening.FAILED,
        at=NOW,
        reason=Reason.EXHAUSTED,
        attempted_at=STARTED,
        status=status,
        error=first.error,
    )


@pytest.mark.parametrize(
    ("retry_after", "wait"),
    [
        ("60", 60_000),
        ("1", 5_000),
        ("Thu, 01 Jan 1970 00:17:00 GMT", 19_750),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 5_000),
        ("315360000", 3_600_000),
        ("garbage", 5_000),
        ("-60", 5_000),
        ("", 5_000),
    ],
)
@pytest.mark.parametrize("status", [302, 429, 503])
def test_C9_retry_after_only_lengthens_up_to_its_cap(
    status: int, retry_after: str, wait: int
) -> None:
    assert judged(Answer(status, retry_after=retry_after)).retry_at == NOW + wait
    assert judged(Answer(status, retry_after=retry_after), tries=2).reason is Reason.EXHAUSTED


RESULTS = st.builds(
    Answer, st.integers(100, 999), retry_after=st.text(max_size=20), location=st.text()
) | st.builds(Fault, st.sampled_from(FaultKind), st.text(), st.sampled_from(Phase))


@given(RESULTS, st.integers(0, 4), st.floats(0, 1, exclude_max=True))
def test_any_result_is_a_legal_move_with_one_printable_line(
    result: Result, tries: int, jitter: float
) -> None:
    happened = judged(result, tries, jitter)
    after = move(opened(0), happened)
    is_local = isinstance(result, Fault) and result.kind is FaultKind.LOCAL
    assert after.attempts == (not is_local)
    assert after.state is not DeliveryState.CANCELLED
    assert (happened.error == "") == (happened.happening is Happening.SUCCEEDED)
    assert (error_class(result) == "") == (happened.happening is Happening.SUCCEEDED)
    assert happened.error.isprintable()
    assert len(happened.error) <= MAX_ERROR


@pytest.mark.parametrize(
    ("result", "ill"),
    [
        (Answer(200), False),
        (Answer(400), False),
        (Answer(404), False),
        (Answer(302), False),
        (Answer(408), True),
        (Answer(425), True),
        (Answer(429), True),
        (Answer(500), True),
        (Answer(999), True),
        (Fault(FaultKind.TIMEOUT, "", Phase.HEAD), True),
        (Fault(FaultKind.REFUSED, "", Phase.CONNECT), True),
        (Fault(FaultKind.DNS, "", Phase.RESOLVE), True),
        (Fault(FaultKind.LOCAL, "", Phase.CONNECT), False),
        (Fault(FaultKind.INTERNAL, "", Phase.SEND), False),
        (Fault(FaultKind.BLOCKED, "", Phase.RESOLVE), False),
    ],
)
def test_what_speaks_of_ill_health(result: Result, ill: bool) -> None:
    assert outcomes.is_ill(result) is ill
