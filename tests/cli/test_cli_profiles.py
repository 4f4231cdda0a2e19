"""Subscriptions by their profile: what each asks for, and profiles of one's own."""

import base64
import json

import pytest

PRIVATE = "whsk_" + base64.b64encode(bytes(range(32))).decode()
PUBLIC = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
ADD = ("subscriptions", "add", "https://x.example/")
MINE = """
[profiles.mine]
base = "standard"
signature_header = "X-Mine"
layout = "{signature}"
timeout = "3s"
"""


def configure(webhookd, text):
    webhookd.config.write_text(webhookd.config.read_text() + text)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--profile", "floriday"), "--tenant: profile floriday is for one tenant"),
        (
            ("--profile", "floriday", "--tenant", "o", "--events", "SALESORDER.*"),
            "--events: 'SALESORDER.*': profile floriday takes '*' alone",
        ),
        (("--mode", "binary"), "--mode: profile standard has no modes"),
        (("--profile", "cloudevents", "--mode", "b"), "takes structured or binary, not b"),
        (("--profile", "onestock", "--method", "GET"), "takes POST or PUT or PATCH, not GET"),
        (("--profile", "onestoc"), "did you mean 'onestock'?"),
        (("--profile", "cloudevents", "--header", "ce-id: 1"), "header ce-id: webhookd sets it"),
        (("--header", "WebHook-Request-Origin: x"), "webhookd sets it itself"),
    ],
)
def test_what_a_profile_does_not_take(webhookd, args, said):
    assert said in webhookd.fails(*ADD, *args, code=2)


def test_a_short_hash_key_is_refused(webhookd):
    line = webhookd.fails(*ADD, "--profile", "onestock", "--secret", "-", stdin="HUSHHUSH", code=2)
    assert line == "--secret: the secret must have at least 16 characters, and has 8"


@pytest.mark.parametrize(("mode", "shown"), [("", "structured"), ("binary", "binary")])
def test_a_mode(webhookd, mode, shown):
    webhookd.add("--profile", "cloudevents", "--mode", mode)
    assert webhookd.json("subscriptions", "show", "partner")["mode"] == shown


def test_a_mode_is_told_when_it_is_chosen(webhookd):
    add = (*ADD, "--profile", "cloudevents", "--mode", "binary")
    assert "\nmode          binary\n" in webhookd(*add).stdout
    assert "\nmode " not in webhookd(*ADD).stdout


def test_a_method(webhookd):
    assert webhookd.add("--profile", "onestock", "--method", "put")["method"] == "PUT"


def test_a_public_key_is_shown_and_its_private_one_never(webhookd):
    with_key = ("--secret", "-", "--json")
    made = json.loads(webhookd(*ADD, "--name", "a", *with_key, stdin=PRIVATE).stdout)
    assert (made["secret"], made["public_key"]) == (None, PUBLIC)
    (secret,) = webhookd.json("subscriptions", "show", "a")["secrets"]
    assert secret["public_key"] == PUBLIC
    assert PUBLIC in webhookd("subscriptions", "show", "a").stdout
    webhookd.add(name="b")
    rotated = webhookd("subscriptions", "rotate-secret", "b", "--secret", "-", stdin=PRIVATE)
    assert f"public_key  {PUBLIC}  (give it to the receiver)" in rotated.stdout
    assert "with the new and the old secret" in rotated.stdout
    again = webhookd("subscriptions", "rotate-secret", "b", *with_key, stdin=PRIVATE)
    assert json.loads(again.stdout)["public_key"] == PUBLIC
    for command in ("show a", "show b", "list"):
        assert PRIVATE not in webhookd("subscriptions", *command.split(), "--json").output


def test_a_profile_of_ones_own_and_what_is_left_when_it_goes(webhookd):
    before = webhookd.config.read_text()
    configure(webhookd, MINE)
    webhookd.add("--profile", "mine")
    shown = webhookd.json("subscriptions", "show", "partner")
    assert (shown["profile"], shown["policy"]["timeout"]) == ("mine", "3s")
    rotated = webhookd("subscriptions", "rotate-secret", "partner").stdout
    assert "signed with the old secret for 1d" in rotated
    webhookd.json("subscriptions", "update", "partner", "--timeout", "4s")
    assert "X-Mine: webhookd sets it" in webhookd.fails(
        "subscriptions", "update", "partner", "--header", "X-Mine: 1", code=2
    )

    webhookd.config.write_text(before)
    shown = webhookd.json("subscriptions", "show", "partner")
    assert shown["policy"]["problem"].startswith("no profile 'mine'; ")
    assert "no profile 'mine'" in webhookd("subscriptions", "show", "partner").stdout
    for command in (["update", "partner", "--timeout", "1s"], ["rotate-secret", "partner"]):
        line = webhookd.fails("subscriptions", *command, code=1)
        assert line.startswith("partner: no profile 'mine'; ")
        assert str(webhookd.config) in line
    assert "held back until then: define it again" in webhookd("check", code=1).stdout
    webhookd("subscriptions", "pause", "partner")
    webhookd("subscriptions", "enable", "partner")
