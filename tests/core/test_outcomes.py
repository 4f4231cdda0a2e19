import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core import outcomes
from webhookd.core.delivery import Happening, Move, move, opened
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
from webhookd.core.outcomes import MAX_ERROR, error_class, judge

STARTED, NOW = 1_000_000, 1_000_250
POLICY = Policy(timeout=15_000, retry_delays=(5_000, 300_000), jitter=0.1)
TIMEOUT = Fault(FaultKind.TIMEOUT, "no answer within 15s", Phase.HEAD)


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


@pytest.mark.parametrize("kind", FaultKind)
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
    assert after.attempts == 1
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
