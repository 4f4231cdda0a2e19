from webhookd.core.redact import redact

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
