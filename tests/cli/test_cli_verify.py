"""`verify`: a captured request, and which part of it is wrong."""

import json

import pytest

from webhookd.core.profiles import BUILT_IN

SECRET = "whsec_" + "QUFB" * 8
AT = "2026-11-22T08:15:30Z"
SECONDS = "1795335330"
BODY = b'{"type":"a.b"}'


def captured(
    profile="standard", secret=SECRET, body=BODY, event_id="evt_1", end=b"\r\n", seconds=SECONDS
):
    made = BUILT_IN.get(profile)
    value = made.scheme.sign([made.check_secret(secret)], event_id, seconds, body)
    head = [
        "POST /in?a=b HTTP/1.1",
        f"webhook-id: {event_id}",
        f"webhook-timestamp: {seconds}",
        f"{made.scheme.header}: {value}",
        f"Content-Length: {len(body)}",
    ]
    return end.join(line.encode() for line in head) + end + end + body


@pytest.fixture
def kept(tmp_path):
    def keep(data):
        path = tmp_path / "captured.http"
        path.write_bytes(data)
        return str(path)

    return keep


def judged(webhookd, *args, secret=SECRET, at=AT, code=0):
    result = webhookd("verify", *args, "--secret", "-", "--at", at, stdin=secret, code=code)
    return result.stdout.strip()


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("profile", ["standard", "ntropy", "floriday", "onestock", "cloudevents"])
def test_a_genuine_request(webhookd, kept, profile, end):
    path = kept(captured(profile, end=end))
    said = judged(webhookd, path, "--profile", profile)
    assert said == ("genuine (its time is not signed)" if profile == "ntropy" else "genuine")


def test_what_it_could_not_vouch_for(webhookd, kept):
    path = kept(captured("onestock"))
    asked = ("verify", path, "--profile", "onestock", "--secret", "-", "--at", AT)
    result = webhookd(*asked, stdin=SECRET)
    warning = "webhookd: warning: not signed, so this says nothing of them: webhook-id\n"
    assert (result.stdout, result.stderr) == ("genuine\n", warning)
    shown = json.loads(webhookd(*asked, "--json", stdin=SECRET).stdout)
    assert shown == {
        "verdict": "genuine",
        "detail": None,
        "time_signed": True,
        "unsigned": ["webhook-id"],
    }


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_body_with_empty_lines_of_its_own(webhookd, kept, end):
    body = b'{"type":"a.b",\r\n\r\n"data":\n\n1}'
    assert judged(webhookd, kept(captured(body=body, end=end))) == "genuine"


def test_a_line_of_listen(webhookd, kept):
    head, _, body = captured().partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    path = kept(json.dumps({"headers": headers, "body": body.decode()}).encode() + b"\n")
    assert judged(webhookd, path) == "genuine"


def test_headers_and_body_apart(webhookd, kept, tmp_path):
    head, _, body = captured().partition(b"\r\n\r\n")
    headers = [part for line in head.decode().split("\r\n")[1:] for part in ("--header", line)]
    assert judged(webhookd, *headers, "--body", kept(body)) == "genuine"
    assert judged(webhookd, *headers, code=1).startswith("body: the body has 0 bytes")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (captured(secret="whsec_" + "QUFC" * 8), "signature: header webhook-signature does not"),
        (captured() + b"\n", "body: the body has 15 bytes, and Content-Length says 14"),
        (captured(event_id="a b"), "genuine"),
        (captured().replace(b"evt_1", b"e t_1"), "id: header webhook-id has characters"),
        (captured().replace(b"webhook-id", b"webhook-no"), "missing_header: header webhook-id"),
        (captured().replace(SECONDS.encode(), b"soon"), "timestamp: header webhook-timestamp has"),
    ],
)
def test_which_part_is_wrong(webhookd, kept, data, said):
    result = judged(webhookd, kept(data), code=0 if said == "genuine" else 1)
    assert result.startswith(said)


def test_E6_an_old_one(webhookd, kept):
    path, late = kept(captured()), "2026-11-22T08:21:00Z"
    line = judged(webhookd, path, at=late, code=1)
    assert line == "timestamp: header webhook-timestamp is 330 s old; 300 s are allowed"
    assert judged(webhookd, path, "--tolerance", "6m", at=late) == "genuine"
    path = kept(captured(seconds="1577836800"))
    now = webhookd("verify", path, "--secret", "-", "--json", stdin=SECRET, code=1)
    assert json.loads(now.stdout)["verdict"] == "timestamp"


def test_a_profile_of_ones_own(webhookd, kept, tmp_path):
    webhookd.config.write_text(
        webhookd.config.read_text() + '[profiles.mine]\nbase = "standard"\nsecret = "utf8"\n'
        'signature_header = "X-Mine"\nlayout = "{signature}"\n'
    )
    data = captured().replace(b"webhook-signature", b"X-Mine")
    line = judged(webhookd, kept(data), "--profile", "mine", code=1)
    assert line.startswith("signature: header X-Mine does not match")


def test_without_a_secret_where_none_is_needed(webhookd, kept):
    result = webhookd("verify", kept(captured("floriday")), "--profile", "floriday")
    assert result.stdout == "genuine: no secret is given: nothing to verify\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "name a FILE with the request, or give --header and --body"),
        (("-",), "--secret: profile standard signs every request: its secret is needed"),
        (("-", "--secret", "-"), "-: only one thing can come from standard input"),
        (("-", "--body", "x"), "--body: goes with --header"),
        (("/no/such",), "FILE /no/such: cannot be read: No such file"),
        (("-", "--profile", "standart"), "--profile: no profile 'standart'; did you mean"),
        (("-", "--profile", "floriday", "--secret", "HUSHHUSH"), "--secret: the secret must begin"),
    ],
)
def test_usage(webhookd, args, said):
    line = webhookd.fails("verify", *args, code=2, stdin="A: b\n\n")
    assert said in line
    assert "HUSH" not in line


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"POST / HTTP/1.1\r\nA: b", "FILE: no empty line between headers and body"),
        (b"POST / HTTP/1.1\r\nno header\r\n\r\n", "FILE: line 2 is no header"),
        (b'{"headers": 1}', "FILE: not such a line of JSON"),
        (b"{", "FILE: not such a line of JSON"),
    ],
)
def test_what_is_no_request(webhookd, kept, data, said):
    line = webhookd.fails("verify", kept(data), "--profile", "floriday", code=2)
    assert said in line


def test_an_ed25519_key_by_its_public_half(webhookd, kept):
    private = "whsk_" + "QUFB" * 10 + "QUE="
    public = "whpk_"
    from webhookd.core.secrets import public_half

    public = public_half(private)
    path = kept(captured(secret=private))
    assert judged(webhookd, path, secret=public) == "genuine"
    assert judged(webhookd, path, secret=private) == "genuine"
    assert judged(webhookd, path, secret=public_half("whsk_" + "QUFC" * 10 + "QUE="), code=1)
