"""The handshake of CloudEvents: what is asked, and which answers agree."""

import pytest

from webhookd.core import handshake
from webhookd.core.handshake import Agreed, Declined, judge

NAME = "erp.example.com"


@pytest.mark.parametrize(("rate", "asked"), [(0, "*"), (2.0, "120"), (0.5, "30"), (0.001, "1")])
def test_what_is_asked(rate: float, asked: str) -> None:
    assert handshake.request(NAME, rate) == (
        ("WebHook-Request-Origin", NAME),
        ("WebHook-Request-Rate", asked),
    )


@pytest.mark.parametrize(
    ("headers", "agreed"),
    [
        ({"WebHook-Allowed-Origin": NAME, "WebHook-Allowed-Rate": "120"}, Agreed(NAME, 2.0)),
        ({"webhook-allowed-origin": "ERP.example.com "}, Agreed(NAME, None)),
        ({"WEBHOOK-ALLOWED-ORIGIN": "*", "webhook-allowed-rate": "*"}, Agreed(NAME, None)),
        ({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "1"}, Agreed(NAME, 1 / 60)),
    ],
)
def test_who_agrees(headers: dict[str, str], agreed: Agreed) -> None:
    assert judge(NAME, 200, headers) == judge(NAME, 204, headers) == agreed


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (405, {"WebHook-Allowed-Origin": "*"}, "answered OPTIONS with 405"),
        (302, {"WebHook-Allowed-Origin": "*"}, "answered OPTIONS with 302"),
        (200, {}, "has no WebHook-Allowed-Origin"),
        (200, {"WebHook-Allowed-Origin": " "}, "has no WebHook-Allowed-Origin"),
        (200, {"WebHook-Allowed-Origin": "a\x1b.example"}, r"allows a\\x1b.example and not erp"),
        (200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "0"}, "Rate is 0, and not"),
        (200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "1/s"}, "Rate is 1/s"),
        (200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "9" * 8}, "not a number"),
    ],
)
def test_who_does_not(status: int, headers: dict[str, str], said: str) -> None:
    with pytest.raises(Declined, match=said) as declined:
        judge(NAME, status, headers)
    assert str(declined.value).isprintable()


@pytest.mark.parametrize("text", ["", "a b", "é", "a\n", "-a", "a" * 254, "http://a/"])
def test_a_name_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is the name of the system"):
        handshake.check_origin(text)


@pytest.mark.parametrize("text", [NAME, "erp", "ERP-01", "a"])
def test_a_name(text: str) -> None:
    assert handshake.check_origin(text) == text


def test_the_header_takes_the_place_of_an_earlier_one() -> None:
    held = (("webhook-request-origin", "old"), ("X-Key", "1"))
    assert handshake.with_origin(held, NAME) == (("X-Key", "1"), ("WebHook-Request-Origin", NAME))
