"""A subscription's own headers: which may be, and what webhookd keeps for itself."""

from typing import Any

import pytest

from tests.core.test_formats import renderer_of
from tests.core.test_request import EVENT, PROFILES, get, renderer, request
from webhookd.core.profiles import BUILT_IN, Profile, own
from webhookd.core.redact import redact
from webhookd.core.request import check_header


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\n", "a\r\nX", "ä", "(a)", "a\x00"])
def test_E24_a_header_name_is_a_token(name: str) -> None:
    with pytest.raises(ValueError, match="no name can have") as refused:
        check_header(name, "v", get("standard"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        " s3cret",
        "s3cret ",
        "s3cret\n",
        "s3cret\r\nX: y",
        "s3cret\t1",
        "s3crét",
        "s3cret\x7f",
    ],
)
def test_E24_a_header_value_is_visible_and_never_told(value: str) -> None:
    with pytest.raises(
        ValueError, match=r"header X-Key: its value must be visible ASCII"
    ) as refused:
        check_header("X-Key", value, get("standard"))
    assert "s3cr" not in str(refused.value)
    assert "\n" not in str(refused.value)


RESERVED = [
    "Accept-Encoding",
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Expect",
    "Host",
    "HTTP2-Settings",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "webhookd-attempt",
    "webhookd-sequence",
    "webhookd-feed-sequence",
    "WebHook-Request-Origin",
]
SENT = {"Host", "Content-Length", "Content-Type", "Accept-Encoding"}
NTROPY_OWN = ["X-Webhook-Event", "X-Webhook-Id", "X-Webhook-Timestamp", "X-Webhook-Signature"]


@pytest.mark.parametrize("change", [str, str.lower, str.upper])
@pytest.mark.parametrize("name", RESERVED)
def test_E24_what_webhookd_sets_is_refused(name: str, change: Any) -> None:
    ours = name.lower().startswith("webhook") or name.title() in SENT
    why = "webhookd sets it itself" if ours else "webhookd never sends it"
    for profile in PROFILES.values():
        with pytest.raises(ValueError, match=why):
            check_header(change(name), "v", profile)


@pytest.mark.parametrize("name", NTROPY_OWN)
def test_E24_what_a_profile_sets_is_refused_there(name: str) -> None:
    with pytest.raises(ValueError, match="sets it itself"):
        check_header(name.upper(), "v", get("ntropy"))
    check_header(name, "v", get("standard"))


@pytest.mark.parametrize(
    "name", ["User-Agent", "Authorization", "X-Webhook-Token", "a!#$%&'*+-.^_`|~9"]
)
def test_other_headers_are_free(name: str) -> None:
    check_header(name, "Bearer a  b~", get("standard"))


@pytest.mark.parametrize(
    "headers",
    [
        (("Host", "other.example"),),
        (("X-Webhook-Id", "1"),),
        (("X-Key", "a\r\nX: y"),),
        (("X-Key", "1"), ("x-key", "2")),
        (("User-Agent", "1"), ("user-agent", "2")),
    ],
)
def test_E24_a_renderer_judges_headers_again(headers: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(ValueError, match=r"^header "):
        renderer("ntropy", headers=headers)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
@pytest.mark.parametrize("payload", [EVENT.payload, None])
def test_E24_all_that_goes_out_is_reserved(profile: Profile, payload: bytes | None) -> None:
    made = request(profile.name, EVENT._replace(payload=payload))
    for name, _ in made.headers:
        if name != "User-Agent":
            with pytest.raises(ValueError, match="sets it itself"):
                check_header(name, "v", profile)


def test_G11_C32_what_a_configuration_says_in_a_header_is_masked_in_an_echo() -> None:
    headers = {"X-Token": "Bearer HUSHHUSH", "X-Topic": "{type}", "X-Both": "HUSH-{id}"}
    mine = own.make("mine", {"base": "standard", "headers": headers}, BUILT_IN)
    assert mine.private_headers == {"x-token", "x-both"}
    made = renderer_of(mine)
    event = EVENT._replace(event_type="order.changed", event_id="evt_1234")
    sent = made.render(event, number=1, attempt=1, now=0)
    echo = b"you sent HUSHHUSH and HUSH-evt_1234 and order.changed"
    assert redact(echo, made.confidential(sent)) == b"you sent *** and *** and order.changed"
