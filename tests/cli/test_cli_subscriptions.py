"""`subscriptions`: what can be made, shown, changed and taken away; and that secrets stay so."""

import re

import pytest

from webhookd.cli.commands import subscription_changes
from webhookd.cli.definition import POLICY
from webhookd.core.policy import PARSERS

SECRET = "whsec_" + "QUFB" * 8
OTHER = "whsec_" + "QkJC" * 8
SUMMARY = {
    *("id", "name", "url", "events", "tenant", "profile", "method", "state", "state_reason"),
    *("managed_by", "created_at"),
}
HUSH = ["--header", "X-Key: HUSHHUSH", "--header", "Authorization: Bearer HUSHHUSH"]


def stored(cli, column="value", table="webhookd_secrets"):
    rows = cli.sql(f"SELECT {column} FROM {table} ORDER BY key")
    return [row[0] for row in rows]


def owe(cli, count=3):
    for number in range(count):
        cli.emit("thing.made", "--aggregate-id", str(number))
    cli.ingest()


def test_add_json(webhookd):
    shown = webhookd.json(
        *("subscriptions", "add", "https://Partner.Example:443/in?key=HUSHHUSH"),
        *("--events", "supplier.*, order.created", "--tenant", "north", "--profile", "standard"),
    )
    assert set(shown) == SUMMARY | {"secret", "mode", "headers", "policy"}
    assert re.fullmatch(r"wh_[A-Za-z0-9_-]{22}", shown["id"])
    assert shown["name"] == "partner.example"
    assert shown["url"] == "https://partner.example/in?***"
    assert shown["events"] == ["supplier.*", "order.created"]
    assert (shown["tenant"], shown["state"], shown["method"]) == ("north", "enabled", "POST")
    assert stored(webhookd) == [shown["secret"]]
    assert stored(webhookd, "url", "webhookd_subscriptions") == [
        "https://partner.example/in?key=HUSHHUSH"
    ]


def test_add_in_words_shows_the_made_secret_once(webhookd):
    said = webhookd("subscriptions", "add", "https://partner.example/").stdout
    (secret,) = stored(webhookd)
    assert f"secret        {secret}  (shown this once" in said
    for command in ("list", "show partner.example", "pause partner.example"):
        for json in ([], ["--json"]):
            result = webhookd("subscriptions", *command.split(), *json)
            assert secret not in result.output


FLORIDAY = ("--profile", "floriday", "--tenant", "north")


def test_a_format_that_does_without_gets_no_secret(webhookd):
    assert webhookd.add(*FLORIDAY)["secret"] is None
    assert stored(webhookd) == []
    said = webhookd("subscriptions", "add", "https://x.example/", *FLORIDAY).stdout
    assert "\nsecret        -\n" in said
    asked = ("subscriptions", "add", "https://y.example/", *FLORIDAY, "--secret", "-")
    assert "\nsecret        given\n" in webhookd(*asked, stdin=SECRET).stdout
    assert stored(webhookd) == [SECRET]


def test_names_are_made_of_the_host_and_unique(webhookd):
    names = [
        webhookd.json("subscriptions", "add", "https://partner.example/")["name"] for _ in range(3)
    ]
    assert names == ["partner.example", "partner.example-2", "partner.example-3"]
    line = webhookd.fails(
        "subscriptions", "add", "https://x.example/", "--name", "partner.example-2", code=1
    )
    assert line == ("there is a subscription 'partner.example-2' already; choose another --name")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["ftp://x.example/"], 2, "URL: its scheme is neither https nor http"),
        (["partner"], 2, "URL: it does not begin with https://"),
        (["https://u:HUSHHUSH@x.example/"], 2, "URL: it holds a user name or password"),
        (["https://x.example/#f"], 2, "URL: it holds a fragment"),
        (["http://x.example/"], 1, "URL: blocked: x.example needs https"),
        (["https://10.1.2.3/"], 1, 'if it is meant, say [egress] allow = ["10.1.2.3"] in /'),
        (["https://169.254.169.254/"], 1, "is cloud metadata"),
        (["https://x.example/", "--events", ""], 2, "--events: an event pattern is empty"),
        (["https://x.example/", "--profile", "ntropi"], 2, "--profile: no profile 'ntropi'; did"),
        (
            ["https://x.example/", "--profile", "ntropy", "--events", "a.*"],
            2,
            "--events: 'a.*': profile ntropy takes exact event types",
        ),
        (["https://x.example/", "--method", "PUT"], 2, "--method: profile standard takes POST"),
        (["https://x.example/", "--header", "HUSHHUSH"], 2, "--header: takes a name, a colon"),
        (["https://x.example/", "--header", "Host: HUSHHUSH"], 2, "webhookd sets it itself"),
        (["https://x.example/", "--header", "X: HUSHHUSH\x07"], 2, "must be visible ASCII"),
        (["https://x.example/", "--timeout", "1h"], 2, "--timeout: takes 1ms to 2m"),
        (["https://x.example/", "--retry-delays", "5s,x"], 2, "--retry-delays: 'x': a duration is"),
        (["https://x.example/", "--jitter", "7"], 2, "--jitter: takes a share"),
        (["https://x.example/", "--concurrency", "0"], 2, "--concurrency: takes a whole number"),
        (["https://x.example/", "--ordering", "some"], 2, "'some' is not one of"),
        (["https://x.example/", "--name", "wh_x"], 2, "--name: cannot begin with wh_"),
        (["https://x.example/", "--tenant", "a\nb"], 2, "--tenant: takes at most 512"),
        (["https://x.example/", "--secret", "HUSHHUSH"], 2, "--secret: the secret must begin"),
        (["https://x.example/", "--secret", "whsec_HUSHHUSH"], 2, "--secret: the secret must hold"),
    ],
)
def test_what_is_unfit_is_one_line_without_secrets(webhookd, args, code, said):
    line = webhookd.fails("subscriptions", "add", *args, code=code)
    assert said in line
    assert "HUSH" not in line
    assert webhookd.sql("SELECT * FROM webhookd_subscriptions") == []


def test_egress_allows_what_the_operator_named(webhookd):
    webhookd.configure('[egress]\nallow = ["127.0.0.1", "erp-gw.local"]\ndeny = ["bad.example"]\n')
    webhookd("subscriptions", "add", "http://127.0.0.1:8765/")
    webhookd("subscriptions", "add", "http://erp-gw.local/")
    line = webhookd.fails("subscriptions", "add", "https://bad.example/", code=1)
    assert "[egress] deny" in line


def test_a_secret_on_the_command_line_is_taken_with_a_warning(webhookd):
    result = webhookd("subscriptions", "add", "https://x.example/", "--secret", SECRET, "--json")
    assert "--secret - reads it from standard input" in result.stderr
    assert SECRET not in result.output
    assert '"secret": null' in result.stdout
    assert stored(webhookd) == [SECRET]


def test_a_secret_from_standard_input(webhookd):
    result = webhookd(
        "subscriptions", "add", "https://x.example/", "--secret", "-", stdin=f"{SECRET}\n"
    )
    assert result.stderr == ""
    assert stored(webhookd) == [SECRET]
    line = webhookd.fails(
        "subscriptions", "add", "https://x.example/", "--secret", "-", code=2, stdin="x" * 70_000
    )
    assert "over 65536 characters" in line


def test_E13_a_reference_is_kept_as_one(webhookd, monkeypatch):
    monkeypatch.setenv("PARTNER_KEY", SECRET)
    shown = webhookd.json(
        "subscriptions", "add", "https://x.example/", "--secret", "env:PARTNER_KEY"
    )
    assert shown["secret"] == "env:PARTNER_KEY"
    assert stored(webhookd) == ["env:PARTNER_KEY"]
    assert stored(webhookd, "is_reference") == [1]
    assert "env:PARTNER_KEY" in webhookd("subscriptions", "show", "x.example").stdout
    webhookd("check")


def test_E13_a_reference_that_leads_nowhere_yet_is_a_warning(webhookd, monkeypatch):
    monkeypatch.delenv("PARTNER_KEY", raising=False)
    result = webhookd("subscriptions", "add", "https://x.example/", "--secret", "env:PARTNER_KEY")
    assert result.stderr == (
        "webhookd: warning: env:PARTNER_KEY: no such environment variable; set it where webhookd"
        " starts; until it is there, nothing is sent\n"
    )
    assert stored(webhookd) == ["env:PARTNER_KEY"]


def test_E14_a_reference_to_something_unusable_is_refused(webhookd, monkeypatch, tmp_path):
    monkeypatch.setenv("PARTNER_KEY", "HUSHHUSH")
    add = ("subscriptions", "add", "https://x.example/", "--secret")
    line = webhookd.fails(*add, "env:PARTNER_KEY", code=3)
    assert line == "env:PARTNER_KEY: the secret must begin with whsec_"
    path = tmp_path / "key"
    path.write_text(SECRET)
    path.chmod(0o644)
    assert "mode 0644 lets others at it" in webhookd.fails(*add, f"file:{path}", code=3)
    path.chmod(0o600)
    webhookd(*add, f"file:{path}")


def test_list_and_show_json(webhookd):
    added = webhookd.add(*HUSH, "--timeout", "3s", "--ordering", "none")
    owe(webhookd)
    (listed,) = webhookd.json("subscriptions", "list")
    assert set(listed) == SUMMARY | {"owed"}
    assert (listed["id"], listed["owed"]) == (added["id"], 3)
    shown = webhookd.json("subscriptions", "show", added["id"])
    assert set(shown) == SUMMARY | {"owed", "mode", "headers", "secrets", "policy"}
    assert shown["headers"] == {"X-Key": "***", "Authorization": "***"}
    assert shown["policy"]["timeout"] == "3s"
    assert shown["policy"]["ordering"] == "none"
    (secret,) = shown["secrets"]
    assert set(secret) == {"reference", "created_at", "expires_at"}
    assert (secret["reference"], secret["expires_at"]) == (None, None)
    assert "partner  wh_" in webhookd("subscriptions", "list").stdout


@pytest.mark.parametrize(
    "command",
    [
        *("show", "update --timeout 1s", "enable", "pause", "remove --yes"),
        *("rotate-secret", "rotate-secret --activate"),
    ],
)
def test_an_unknown_subscription_exits_1(webhookd, command):
    name, *options = command.split()
    line = webhookd.fails("subscriptions", name, "nobody", *options, code=1)
    assert line == "no subscription 'nobody'; `webhookd subscriptions list` shows them all"


def test_update(webhookd):
    added = webhookd.add(*HUSH, "--timeout", "3s", "--jitter", "0.5")
    control = webhookd.sql("SELECT control FROM webhookd_file")[0][0]
    shown = webhookd.json(
        *("subscriptions", "update", "partner", "--url", "https://new.example/?k=HUSHHUSH"),
        *("--events", "a,b", "--name", "renamed", "--header", "X-New: HUSHHUSH"),
        *("--timeout", "default", "--retry-delays", "1s,2s"),
    )
    assert set(shown) == SUMMARY | {"mode", "headers", "policy"}
    assert shown["id"] == added["id"]
    assert (shown["name"], shown["url"]) == ("renamed", "https://new.example/?***")
    after = webhookd.json("subscriptions", "show", "renamed")
    assert after["events"] == ["a", "b"]
    assert after["headers"] == {"X-New": "***"}
    assert after["policy"]["timeout"] == "15s"
    assert after["policy"]["jitter"] == 0.5
    assert after["policy"]["retry_delays"] == ["1s", "2s"]
    assert webhookd.sql("SELECT control FROM webhookd_file")[0][0] > control
    webhookd("subscriptions", "update", "renamed", "--no-headers", "--method", "post")
    assert webhookd.json("subscriptions", "show", "renamed")["headers"] == {}


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 2, "nothing is to be changed"),
        (["--url", "https://10.0.0.1/"], 1, "URL: blocked: 10.0.0.1 is private"),
        (["--name", "second"], 1, "there is a subscription 'second' already"),
        (["--events", " "], 2, "--events: an event pattern is empty"),
        (["--header", "A: b", "--no-headers"], 2, "--no-headers: takes away"),
        (["--timeout", "never"], 2, "--timeout: a duration is"),
        (["--profile", "ntropy"], 2, "No such option"),
        (["--ordering", "strict"], 2, "'strict' is not one of"),
    ],
)
def test_an_update_that_will_not_do_changes_nothing(webhookd, options, code, said):
    webhookd.add()
    webhookd.add(name="second")
    before = webhookd.json("subscriptions", "show", "partner")
    assert said in webhookd.fails("subscriptions", "update", "partner", *options, code=code)
    assert webhookd.json("subscriptions", "show", "partner") == before


def test_pause_and_enable_say_what_is_owed(webhookd):
    webhookd.add()
    paused = webhookd.json("subscriptions", "pause", "partner")
    assert set(paused) == SUMMARY | {"owed"}
    assert (paused["state"], paused["state_reason"], paused["owed"]) == ("paused", "operator", 0)
    owe(webhookd)
    assert webhookd("subscriptions", "pause", "partner").stdout == (
        "partner is paused; 3 deliveries are owed, and what comes is added; "
        "`webhookd subscriptions enable partner` sends them\n"
    )
    assert webhookd("subscriptions", "enable", "partner").stdout == (
        "partner is enabled; 3 deliveries are owed and will be sent once the daemon runs\n"
    )
    enabled = webhookd.json("subscriptions", "enable", "partner")
    assert (enabled["state"], enabled["state_reason"], enabled["owed"]) == ("enabled", None, 3)


def test_remove_cancels_what_is_owed(webhookd):
    webhookd.add()
    owe(webhookd, 1)
    line = webhookd.fails("subscriptions", "remove", "partner", code=2)
    assert "partner: 1 delivery is owed and would be cancelled; say --yes" in line
    gone = webhookd("subscriptions", "remove", "partner", "--yes")
    assert gone.stdout == "partner is removed; 1 delivery is cancelled\n"
    assert webhookd.json("subscriptions", "list") == []
    (delivery,) = webhookd.json("deliveries", "list")
    assert (delivery["state"], delivery["reason"]) == ("cancelled", "subscription_removed")
    assert stored(webhookd) == []


def test_remove_cancels_more_than_a_batch(webhookd):
    added = webhookd.add()
    webhookd.insert(420)
    webhookd.ingest()
    gone = webhookd.json("subscriptions", "remove", "partner", "--yes")
    assert gone == {"id": added["id"], "name": "partner", "cancelled": 420}
    assert webhookd.sql("SELECT pending, cancelled FROM webhookd_counters") == [(0, 420)]


def test_remove_of_what_is_owed_nothing_needs_no_yes(webhookd, monkeypatch):
    webhookd.add()
    gone = webhookd("subscriptions", "remove", "partner")
    assert gone.stdout == "partner is removed; 0 deliveries are cancelled\n"
    webhookd.add()
    owe(webhookd, 1)
    # Looked at a moment before something was owed.
    monkeypatch.setattr(subscription_changes, "_owed", lambda *_: 0)
    line = webhookd.fails("subscriptions", "remove", "partner", code=2)
    assert "1 delivery is owed and would be cancelled; say --yes" in line
    assert len(webhookd.json("subscriptions", "list")) == 1


def test_remove_asks_at_a_terminal(webhookd, monkeypatch):
    webhookd.add()
    asked = []

    def confirm(question, **_options):
        asked.append(question)

    monkeypatch.setattr(subscription_changes.click, "confirm", confirm)
    monkeypatch.setattr(subscription_changes, "is_asked", lambda: True)
    webhookd("subscriptions", "remove", "partner")
    assert asked == ["partner: 0 deliveries are owed and will be cancelled. Remove it?"]


def test_rotate_secret(webhookd):
    first = webhookd.add()["secret"]
    shown = webhookd.json("subscriptions", "rotate-secret", "partner", "--overlap", "2h")
    assert set(shown) == {"id", "name", "secret", "overlap_until"}
    assert stored(webhookd) == [first, shown["secret"]]
    assert stored(webhookd, "expires_at") == [shown["overlap_until"], None]
    said = webhookd("subscriptions", "show", "partner").stdout
    assert f"until {shown['overlap_until']}" in said
    assert first not in said
    assert shown["secret"] not in said


def test_rotate_secret_in_words(webhookd):
    webhookd.add()
    said = webhookd("subscriptions", "rotate-secret", "partner").stdout
    assert "(shown this once: give it to the receiver)" in said
    assert "partner: signed with the new and the old secret for 1d, until " in said
    said = webhookd("subscriptions", "rotate-secret", "partner", "--overlap", "0").stdout
    assert said.endswith("partner: signed with the new secret alone from now on\n")
    assert len(stored(webhookd)) == 1


def test_rotate_secret_of_a_format_with_one_signature(webhookd):
    webhookd.add("--profile", "ntropy")
    said = webhookd("subscriptions", "rotate-secret", "partner").stdout
    assert "signed with the old secret for 1d" in said
    assert "rotate-secret partner --activate` changes over now" in said
    assert webhookd("subscriptions", "rotate-secret", "partner", "--activate").stdout == (
        "partner: signed with the newest secret alone\n"
    )
    assert len(stored(webhookd)) == 1
    shown = webhookd.json("subscriptions", "rotate-secret", "partner", "--activate")
    assert (shown["secret"], shown["overlap_until"]) == (None, None)


def test_rotate_to_a_given_secret(webhookd):
    webhookd.add()
    result = webhookd("subscriptions", "rotate-secret", "partner", "--secret", "-", stdin=OTHER)
    assert OTHER not in result.output
    assert stored(webhookd)[-1] == OTHER


def test_activate_stands_alone(webhookd):
    webhookd.add()
    for other in (["--secret", "-"], ["--overlap", "1h"]):
        line = webhookd.fails(
            "subscriptions", "rotate-secret", "partner", "--activate", *other, code=2
        )
        assert "--activate: stands alone" in line
    webhookd.sql("DELETE FROM webhookd_secrets")
    line = webhookd.fails("subscriptions", "rotate-secret", "partner", "--activate", code=1)
    assert "has no secret" in line


EVERYTHING = [
    ["subscriptions", "list"],
    ["subscriptions", "show", "partner"],
    ["subscriptions", "update", "partner", "--timeout", "2s"],
    ["subscriptions", "pause", "partner"],
    ["subscriptions", "enable", "partner"],
    ["subscriptions", "rotate-secret", "partner", "--activate"],
    ["status"],
    ["status", "--nagios"],
    ["check"],
    ["events", "list"],
    ["events", "show", "3"],
    ["deliveries", "list"],
    ["deliveries", "show", "4"],
    ["deliveries", "retry", "4"],
    ["results"],
    ["changes"],
    ["feed-events"],
    ["init"],
    ["subscriptions", "remove", "partner", "--yes"],
]


def test_G11_no_command_tells_a_secret(webhookd):
    secret = webhookd.json(
        *("subscriptions", "add", "https://partner.example/in?key=HUSHHUSH"),
        *("--name", "partner", *HUSH),
    )["secret"]
    given = webhookd("subscriptions", "rotate-secret", "partner", "--secret", "-", stdin=OTHER)
    assert OTHER not in given.output
    owe(webhookd, 2)
    for args in EVERYTHING:
        for json in ([], ["--json"]):
            if json and args[-1] in ("--nagios", "--yes"):
                continue
            result = webhookd.invoke(*args, *json)
            assert result.exit_code in (0, 2, 6), result.output
            for hushed in ("HUSHHUSH", secret, OTHER, secret.removeprefix("whsec_")[:12]):
                assert hushed not in result.output, args


def test_every_key_of_the_policy_has_an_option() -> None:
    assert {*POLICY, "ordering"} == set(PARSERS)
