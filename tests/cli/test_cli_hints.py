"""What commands say of a likely mistake: where a setting belongs, what a name was, what to type."""

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from webhookd.cli.main import cli
from webhookd.core.times import to_text
from webhookd.store.lockfile import LockFile

ADD = ("subscriptions", "add")


def without_config(webhookd, *args):
    return CliRunner().invoke(cli, ["--database", str(webhookd.database), *args])


def test_the_remedy_for_egress_names_the_file_that_was_read(webhookd):
    line = webhookd.fails(*ADD, "https://10.1.2.3/", code=1)
    assert line == (
        "URL: blocked: 10.1.2.3 is private; if it is meant, say"
        f' [egress] allow = ["10.1.2.3"] in {webhookd.config}'
    )
    result = without_config(webhookd, *ADD, "https://10.1.2.3/")
    assert result.exit_code == 1
    assert result.stderr.endswith(
        'say [egress] allow = ["10.1.2.3"] in a file named by --config or WEBHOOKD_CONFIG\n'
    )
    webhookd("subscriptions", "add", "https://x.example/", "--name", "x")
    webhookd.sql("UPDATE webhookd_subscriptions SET url = 'https://10.1.2.3/'")
    assert f"in {webhookd.config}\n" in webhookd("check", code=1).stdout


def test_check_says_that_no_file_was_named(webhookd):
    said = without_config(webhookd, "check").stdout.splitlines()[0]
    assert said == (
        f"ok       config: defaults (no file named); the database is {webhookd.database}"
    )


@pytest.mark.parametrize("fault", ["missing", "directory", "rights"])
def test_a_configuration_that_cannot_be_read_is_one_line_and_exits_3(bare, monkeypatch, fault):
    said = {
        "missing": "No such file or directory",
        "directory": "Is a directory",
        "rights": "Permission denied",
    }[fault]
    if fault != "rights":
        bare.config.unlink()
    if fault == "directory":
        bare.config.mkdir()
    if fault == "rights":  # as it is for all but root, whom no mode keeps out
        bare.config.chmod(0)
        monkeypatch.setattr(os, "access", lambda *_args, **_options: False)

        def refused(_path):
            raise PermissionError(13, said)

        monkeypatch.setattr(Path, "read_bytes", refused)
    line = bare.fails("status", code=3)
    assert line == (
        f"{bare.config}: cannot be read: {said}; see --config; `webhookd --database PATH COMMAND` "
        "goes on with the file all the same"
    )


@pytest.mark.parametrize("pattern", ["a b", "üml", "supplier.created,sup plier"])
def test_a_pattern_that_nothing_matches_is_refused(webhookd, pattern):
    line = webhookd.fails(*ADD, "https://x.example/", "--events", pattern, code=2)
    assert line.startswith("--events: no event can match ")
    webhookd.add()
    line = webhookd.fails("subscriptions", "update", "partner", "--events", pattern, code=2)
    assert line.startswith("--events: no event can match ")


def test_a_pattern_of_another_language_is_taken_with_a_warning(webhookd):
    said = (
        'webhookd: warning: --events: "sup?" has ?: only * stands for other characters here, all'
        " else for itself\n"
    )
    result = webhookd(*ADD, "https://x.example/", "--name", "x", "--events", "a.b,sup?", "--json")
    assert result.stderr == said
    assert json.loads(result.stdout)["events"] == ["a.b", "sup?"]
    assert webhookd("subscriptions", "update", "x", "--events", "sup?").stderr == said
    assert webhookd("subscriptions", "update", "x", "--timeout", "2s").stderr == ""


def test_http_to_a_name_is_taken_with_a_warning(webhookd):
    webhookd.configure('[egress]\nallow = ["10.0.0.0/8"]\n')
    said = (
        "webhookd: warning: URL: http to gw.example is blocked at each attempt, unless an address"
    )
    result = webhookd(*ADD, "http://gw.example/")
    assert result.stderr.startswith(said)
    assert len(result.stderr.splitlines()) == 1
    update = ("subscriptions", "update", "gw.example")
    assert webhookd(*update, "--url", "http://gw.example/in").stderr.startswith(said)
    assert webhookd(*update, "--events", "a.b").stderr == ""
    assert webhookd(*update, "--url", "https://gw.example/in").stderr == ""


def test_deliveries_of_what_never_was_exit_1(webhookd):
    added = webhookd.add()
    webhookd.emit("a.b", "--event-id", "one")
    webhookd.emit("a.b", "--event-id", "two", "--tenant", "north")
    webhookd.ingest()
    listing = ("deliveries", "list")
    assert webhookd.fails(*listing, "--subscription", "nosuch", code=1) == (
        "no subscription 'nosuch'; `webhookd subscriptions list` shows them all"
    )
    assert webhookd.fails(*listing, "--event", "nosuch", "--json", code=1) == (
        "no event 'nosuch'; `webhookd events list` shows the newest"
    )
    assert webhookd.json(*listing, "--event", "one", "--state", "failed") == []
    webhookd("subscriptions", "update", "partner", "--name", "renamed")
    for known in ("partner", "renamed", added["id"]):
        assert len(webhookd.json(*listing, "--subscription", known)) == 2
    webhookd("subscriptions", "remove", "renamed", "--yes")
    assert len(webhookd.json(*listing, "--subscription", added["id"])) == 2


def test_a_removed_subscription_that_was_owed_nothing_has_an_empty_listing(webhookd):
    added = webhookd.add()
    webhookd("subscriptions", "remove", "partner", "--yes")
    assert webhookd.json("deliveries", "list", "--subscription", added["id"]) == []


@pytest.mark.parametrize("feed", ["results", "changes", "feed-events"])
def test_G6_a_cursor_of_another_epoch_exits_7(webhookd, feed):
    webhookd.add()
    webhookd.emit("a.b", "--aggregate-id", "7")
    webhookd.ingest()
    page = webhookd(feed, "--epoch", "1")
    after = page.stderr.removeprefix("next: ").split()
    assert webhookd(feed, *after).stdout == ""
    webhookd.sql("UPDATE webhookd_file SET epoch = 2")
    line = webhookd.fails(feed, *after, code=7)
    assert line.endswith("restored or copied; start again with --after 0 --epoch 2")
    again = webhookd(feed, *line.partition("again with ")[2].split())
    assert (again.stdout, again.stderr) == (page.stdout, page.stderr.replace("ch 1", "ch 2"))


@pytest.mark.parametrize("feed", ["results", "changes", "feed-events"])
def test_G6_a_cursor_ahead_of_the_file_is_told(webhookd, feed):
    webhookd.add()
    webhookd.emit("a.b", "--aggregate-id", "7")
    webhookd.ingest()
    ahead = webhookd(feed, "--after", "3")
    named = feed.removeprefix("feed-")
    assert ahead.stderr == (
        f"webhookd: warning: {named}: cursor 3 is ahead of the file, which has come to 2: it is "
        "another file's, or this one was restored; --after 0 --epoch 1 begins again\n"
        "next: --after 3 --epoch 1\n"
    )
    assert ahead.stdout == ""
    last = webhookd(feed, "--after", "2")
    assert last.stderr == "next: --after 2 --epoch 1\n", "all feeds have one counter"


def test_a_paused_subscription_has_no_next_attempt(webhookd):
    webhookd.add()
    webhookd.emit("a.b")
    webhookd.ingest(now=time.time_ns() // 1_000_000 - 60_000)
    (one,) = webhookd.json("status", code=6)["subscriptions"]
    assert one["next_attempt_at"] is not None
    webhookd("subscriptions", "pause", "partner")
    (row,) = [
        line
        for line in webhookd("status", code=6).stdout.splitlines()
        if line.startswith("partner ")
    ]
    assert row.endswith("  -")


def test_an_update_in_words_shows_what_was_changed(webhookd):
    webhookd.add("--timeout", "3s")

    def names(*options):
        said = webhookd("subscriptions", "update", "partner", *options).stdout
        return [tuple(line.split(None, 1)) for line in said.splitlines()][11:]

    assert names("--events", "a") == []
    assert names("--timeout", "4s", "--retry-delays", "1s,2s") == [
        ("timeout", "4s"),
        ("retry_delays", "1s,2s"),
    ]
    assert names("--timeout", "default") == [("timeout", "15s")]
    assert names("--header", "X-Key: HUSH") == [("headers", "X-Key: ***")]
    assert names("--no-headers", "--jitter", "0.5") == [("headers", "-"), ("jitter", "0.5")]


def test_an_addition_in_words_shows_what_was_given(webhookd):
    def names(*options):
        said = webhookd(*ADD, "https://x.example/", "--secret", "env:NONE", *options).stdout
        return [tuple(line.split(None, 1)) for line in said.splitlines()][11:]

    secret = ("secret", "env:NONE")
    assert names() == [secret]
    assert names("--timeout", "3", "--ordering", "none", "--header", "X-Key: HUSH") == [
        ("headers", "X-Key: ***"),
        secret,
        ("timeout", "3s"),
        ("ordering", "none"),
    ]


def test_a_plain_number_is_seconds_wherever_a_duration_is_an_option(webhookd):
    webhookd.add("--timeout", "5", "--retry-after-max", "0.5", "--max-age", "0")
    update = ("subscriptions", "update", "partner", "--json")
    policy = json.loads(webhookd(*update, "--retry-delays", "5,30s, 0.5").stdout)["policy"]
    assert (policy["timeout"], policy["retry_after_max"]) == ("5s", "500ms")
    assert policy["retry_delays"] == ["5s", "30s", "500ms"]
    assert policy["max_age"] == "off"
    rotated = webhookd("subscriptions", "rotate-secret", "partner", "--overlap", "1.5").stdout
    assert "the old secret for 1500ms, until " in rotated


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["deliveries", "retry", "abc"], "'abc': takes a whole number from 1; see"),
        (["deliveries", "list", "--limit", "0"], "'0': takes a whole number from 1 to 100000; see"),
        (["results", "--epoch", "x"], "'x': takes a whole number from 1; see"),
        (["listen", "--port", "x"], "'x': takes a whole number from 0 to 65535; see"),
        (["listen", "--fail-rate", "x"], "'x': takes a share from 0 to 1, like 0.5; see"),
    ],
)
def test_a_number_that_is_none_is_told_what_its_place_takes(bare, args, said):
    assert said in bare.fails(*args, code=2)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["status", "--database", "x"], "--database goes before the command: `webhookd --database"),
        (["status", "--config=x"], "--config goes before the command: `webhookd --config PATH st"),
        (["events", "list", "--database", "x"], "`webhookd --database PATH events list`"),
    ],
)
def test_a_global_option_behind_the_command_is_told_its_place(bare, args, said):
    assert said in bare.fails(*args, code=2)


def test_one_is_singular(webhookd):
    webhookd.add()
    webhookd.emit("a.b")
    webhookd.ingest()
    webhookd.emit("a.b")
    lock = LockFile.acquire(webhookd.database.resolve())
    now = to_text(time.time_ns() // 1_000_000)
    lock.write(pid=1, version="1", started_at=now, heartbeat_at=now, unrecorded=1)
    try:
        assert "unrecorded  1 outcome waits in memory" in webhookd("status").stdout
    finally:
        lock.release()
    webhookd.sql("UPDATE webhookd_file SET machine = 'another'")
    said = webhookd("check", "--accept-clone").stdout
    assert "accepted: 1 delivery cancelled, 1 waiting outbox row taken in for nobody" in said
