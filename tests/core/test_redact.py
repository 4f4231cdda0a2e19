from webhookd.core.model import Answer, Fault, FaultKind, Phase
from webhookd.core.redact import redact, redact_result, redact_text

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_C32_what_a_receiver_echoes_of_ours_is_masked():
    excerpt = f'{{"got": "{SECRET}", "and": "v1,c2lnbmF0dXJl"}}'.encode()
    assert redact(excerpt, [SECRET, "v1,c2lnbmF0dXJl"]) == b'{"got": "***", "and": "***"}'


def test_one_that_the_end_of_the_excerpt_cuts_off_is_masked_too():
    assert redact(b"secret: " + SECRET[:20].encode(), [SECRET]) == b"secret: ***"


def test_what_is_not_ours_stays():
    assert redact(b'{"ok": true}', [SECRET]) == b'{"ok": true}'
    assert redact(b"whsec_M", [SECRET]) == b"whsec_M", "too short to tell"
    assert redact(b"a token of the user's", ["a"]) == b"a token of the user's"


def test_a_part_does_not_leave_the_rest_of_the_whole_standing():
    assert redact(b"got Bearer SECRETTOKEN123!", ["SECRETTOKEN123", "Bearer SECRETTOKEN123"]) == (
        b"got ***!"
    )


def test_what_only_begins_like_ours_stays():
    assert redact(b"aaaaaaaaaaaa!", ["a" * 15 + "b"]) == b"aaaaaaaaaaaa!"
    assert redact(b"!aaaaaaaaaaa", ["a" * 15 + "b"]) == b"!***"


def test_C32_a_line_that_quotes_what_came_shows_nothing_of_ours():
    quoted = f"an odd status line: {f'HTTP/1.1 200 {SECRET}'[:32].encode()!r}"
    assert redact_text(quoted, [SECRET]) == "an odd status line: b'HTTP/1.1 200 ***'"
    assert redact_text(f"{SECRET}{SECRET}, {SECRET[:12]}", [SECRET]) == "******, ***"
    assert redact_text("got a token of 9", ["got", "token of 9"]) == "got a ***"
    assert redact_text("to https://other.example/", ["https://ours.example/"]) == (
        "to https://other.example/"
    )


def test_C32_nothing_in_a_result_echoes_ours():
    answer = Answer(302, "5", f"https://{SECRET}/", SECRET.encode(), f"body broken: {SECRET}")
    assert redact_result(answer, {SECRET}) == Answer(
        302, "5", "https://***/", b"***", "body broken: ***"
    )
    fault = Fault(FaultKind.PROTOCOL, f"illegal: {SECRET}", Phase.HEAD, may_be_ours=True)
    assert redact_result(fault, {SECRET}) == Fault(
        FaultKind.PROTOCOL, "illegal: ***", Phase.HEAD, may_be_ours=True
    )


def test_a_line_that_quotes_one_of_two_that_begin_alike() -> None:
    """A value, and the same as JSON may write it."""
    value = "v1,BAkWWuOWDlzNLiM0/p0sgB432TGFrdGB"
    needles = {value, value.replace("/", "\\/")}
    assert redact_text(f"odd: {value[:25]} and so on", needles) == "odd: *** and so on"
    assert redact_text(f"odd: {value[:19]}\\/p0s", needles) == "odd: ***"
    assert redact_text(f"{value}{value}", needles) == "******"
