"""What docs/profiles.md shows is so: its requests, and its code for receivers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_formats import EVENT, NOW, SECRET, send
from webhookd.core import policy
from webhookd.core.model import Secret
from webhookd.core.profiles import BUILT_IN
from webhookd.core.profiles.own import KEYS

HERE = Path(__file__).parent
DOCS = (HERE.parents[1] / "docs" / "profiles.md").read_text("utf-8")
VECTORS = json.loads((HERE / "vectors" / "wire.json").read_text("utf-8"))["vectors"]
KEY = "a-hash-key-of-the-customer-0001"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)


def test_the_requests_are_golden_ones() -> None:
    shown: set[str] = set()
    for block in blocks("http"):
        head, _, body = block.partition("\n\n")
        headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
        found = {
            one["profile"]
            for one in VECTORS
            if one["expect"]["headers"].items() <= headers.items()
            and one["expect"]["body"] == body.rstrip("\n")
        }
        assert len(found) == 1, head
        assert int(headers["Content-Length"]) == len(body.rstrip("\n").encode())
        shown |= found
    assert shown == set(BUILT_IN.by_name)


@pytest.mark.parametrize(
    ("name", "section", "secret"),
    [("standard", 0, SECRET), ("ntropy", 1, SECRET), ("onestock", 2, KEY)],
)
def test_the_code_for_receivers_does_what_it_says(
    name: str, section: int, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = [block for block in blocks("python") if "def is_genuine" in block][section]
    place: dict[str, Any] = {}
    exec(compile(code, "docs/profiles.md", "exec"), place)  # noqa: S102 - our own docs
    monkeypatch.setattr("time.time", lambda: NOW / 1000)
    made = send(name, EVENT, secrets=(Secret(secret),))
    headers = {key.lower(): value for key, value in made.headers}
    given = [secret] if name == "onestock" else secret
    assert place["is_genuine"](given, headers, made.body)
    assert not place["is_genuine"](given, headers, made.body + b" ")
    if name != "ntropy":
        monkeypatch.setattr("time.time", lambda: NOW / 1000 + 301)
        assert not place["is_genuine"](given, headers, made.body)


def test_every_key_of_ones_own_profiles_is_told() -> None:
    section = DOCS.partition("## Profiles of one's own")[2]
    assert [key for key in KEYS if f"`{key}`" not in section] == []


@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        (5.0, "5/s"),
        (2.5, "150/m"),
        (1.5 / 60, "90/h"),
        (1 / 86_400, "1/d"),
        (0.0000123, "0.0000123/s"),
    ],
)
def test_a_rate_in_the_unit_in_which_it_is_whole(rate: float, shown: str) -> None:
    assert policy.show_rate(rate) == shown
