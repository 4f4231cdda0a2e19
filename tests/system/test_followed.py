"""G6 with nothing simulated: whoever follows the feeds ends with what they say, whatever is killed.

A poller in a process of its own reads all three feeds without rest, while the daemon delivers,
retries and takes away what is done with after some tenths of a second. Both are killed at random
moments and started again.
"""

import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import SECRET
from tests.system.programs.follower import FEEDS

AGGREGATES = 40
SHORT = "short.toml"
CONFIG = """
[retention]
delivered = "400ms"
cancelled = "300ms"
superseded = "200ms"
failed = "700ms"
attempts = "300ms"
events = "500ms"
rejected = "500ms"
outbox = "200ms"
"""
QUICK = "100ms, 200ms" + 40 * ", 300ms"
SUBSCRIPTIONS = {
    "all": {"events": "*", "retry_delays": QUICK},
    "flaky": {"events": "*", "retry_delays": QUICK, "coalesce": True},
    "picky": {"events": "order.*", "retry_delays": QUICK, "permanent_statuses": "404"},
    # What it is owed stays in the file, and so do its events.
    "late": {"events": "supplier.*", "retry_delays": "50ms, 1h"},
}
ANSWERS = {
    "flaky": {"status": 503, "fail_rate": 0.1},
    "picky": {"status": 404, "fail_rate": 0.3},
    "late": {"status": 503},
}


def config(receiver: Any, secret: Path) -> str:
    """Short spans, and a subscription for each of `SUBSCRIPTIONS`."""
    blocks = [CONFIG]
    for name, options in SUBSCRIPTIONS.items():
        blocks.append(
            f'[[subscriptions]]\nname = "{name}"\nurl = "{receiver.url("/" + name)}"\n'
            f'secret = "file:{secret}"\n'
        )
        for key, value in options.items():
            parts = value.split(", ") if key != "coalesce" else value
            blocks.append(f"{key} = {json.dumps(parts)}\n")
    return "".join(blocks)


class Followed:
    """The site, the poller's copy of its feeds, and who is killed."""

    def __init__(self, site: Any, program: Any, copy: Path, dice: random.Random) -> None:
        self.site = site
        self.program = program
        self.copy = copy
        self.dice = dice
        self.daemon = self.start_daemon()
        self.poller = self.start_poller()

    def start_daemon(self) -> Any:
        """webhookd, quick to take away."""
        return self.hasty("run")

    def hasty(self, *command: str) -> Any:
        """A command by the configuration with short spans."""
        return self.program("hasty", "--config", self.site.database.with_name(SHORT), *command)

    def start_poller(self) -> Any:
        """One with small pages, now and then."""
        limit = self.dice.choice((7, 50, 1_000))
        return self.program("follower", self.site.database, self.copy, limit)

    def kill_somebody(self) -> None:
        """The daemon, the poller or both; the poller stays away for a while."""
        who = self.dice.choice(("daemon", "poller", "both"))
        if who != "poller":
            self.daemon.kill()
            assert self.daemon.complaints() == []
            self.daemon = self.start_daemon()
        if who != "daemon":
            self.poller.kill()
            assert self.poller.said() == []
            time.sleep(self.dice.choice((0, 0, 0.5)))
            self.poller = self.start_poller()

    def stay_away(self, until: Callable[..., Any]) -> None:
        """No poller, for as long as it takes to miss something for ever."""
        self.poller.kill()
        assert self.poller.said() == []
        until(self.has_missed, "something is gone that was not polled")
        self.poller = self.start_poller()

    def has_missed(self) -> bool:
        """Whether retention has come past the place of the poller."""
        places = dict(self.kept("SELECT feed, max(cursor, floor) FROM places"))
        return any(
            lowest > places.get(feed, 0)
            for feed, lowest in self.site.rows("SELECT feed, minimum_cursor FROM webhook_feeds")
        )

    def command(self) -> None:
        """An operator's command, which writes numbers of its own."""
        ids = [str(one) for (one,) in self.site.rows("SELECT delivery_id FROM webhook_results")]
        some = self.dice.sample(ids, min(5, len(ids))) or ["1"]
        command = self.dice.choice(
            (
                ("replay", "--subscription", "all", "--since", "1s"),
                ("deliveries", "cancel", *some),
                ("deliveries", "retry", *some),
                ("events", "erase", "--aggregate-id", "order-1", "--include-pending"),
                ("prune",),
            )
        )
        done = self.hasty(*command)
        # What it is about may be gone, or in another state, by now.
        assert done.wait() in (0, 1), done.said()

    def kept(self, sql: str) -> list[Any]:
        """What the poller's copy says."""
        with closing(sqlite3.connect(self.copy, timeout=60)) as copy:
            return copy.execute(sql).fetchall()

    def has_all(self) -> bool:
        """Whether the poller is where the feeds are."""
        ends = self.site.rows(
            "SELECT feed, max(maximum_sequence, minimum_cursor) FROM webhook_feeds ORDER BY feed"
        )
        places = self.kept("SELECT feed, max(cursor, floor) FROM places ORDER BY feed")
        return len(places) == 3 and all(
            at >= end for (_, at), (_, end) in zip(places, ends, strict=True)
        )

    def is_at_rest(self) -> bool:
        """Whether all is taken in and nothing is owed."""
        untaken = "SELECT max(id) > (SELECT cursor FROM webhookd_file) FROM outbox"
        owed = (
            "SELECT count(*) FROM webhook_results WHERE state = 'pending'"
            " AND subscription_name <> 'late'"
        )
        return not self.site.value(untaken) and not self.site.value(owed)

    def has_pruned(self) -> bool:
        """Whether retention has taken something out of the feeds that lose rows."""
        return self.site.rows(
            "SELECT feed FROM webhook_feeds WHERE minimum_cursor > 0 ORDER BY feed"
        ) == [("events",), ("results",)]

    def check(self) -> None:
        """The copy is what the feeds say, but for what was finished when it was pruned."""
        assert self.kept("SELECT * FROM faults") == []
        for feed, key in FEEDS.items():
            names = [
                row[0]
                for row in self.site.rows(f"SELECT name FROM pragma_table_info('webhook_{feed}')")
            ]
            rows = self.site.rows(f"SELECT * FROM webhook_{feed} ORDER BY sequence")
            there = [dict(zip(names, row, strict=True)) for row in rows]
            copied = [
                json.loads(row)
                for (row,) in self.kept(f"SELECT row FROM copies WHERE feed = '{feed}'")
            ]
            mine = {tuple(row[name] for name in key): row for row in copied}
            theirs = {tuple(row[name] for name in key): row for row in there}
            assert {name: mine.get(name) for name in theirs} == theirs
            (lowest,) = self.site.rows(
                "SELECT minimum_cursor FROM webhook_feeds WHERE feed = ?", feed
            )
            gone = [row for name, row in mine.items() if name not in theirs]
            assert all(row["sequence"] <= lowest[0] for row in gone)
            assert Counter(row.get("state") for row in gone)["pending"] == 0
            if feed == "changes":
                assert gone == [], "aggregates stay"


def follow(
    site: Any,
    receiver: Any,
    program: Any,
    until: Callable[..., Any],
    *,
    seed: int,
    rows: int,
    seconds: float,
    kills: int,
    commands: bool,
) -> Followed:
    """Let it all happen for so long, and judge the end; `seed` decides on the kills."""
    dice = random.Random(seed)
    receiver.answer(**ANSWERS)
    secret = site.database.with_name("secret")
    secret.write_text(SECRET)
    secret.chmod(0o600)
    site.database.with_name(SHORT).write_text(site.config.read_text() + config(receiver, secret))
    site.prepare()
    followed = Followed(site, program, site.database.with_name("copy.db"), dice)
    host = program("host", site.database, rows, AGGREGATES, seconds, seed)
    for kill in range(kills):
        if dice.random() < 0.7:
            followed.daemon.until_logged("daemon.ready")
        time.sleep(dice.uniform(0.1, 1.0))
        if kill == kills // 2:
            followed.stay_away(until)
        else:
            followed.kill_somebody()
        if commands and dice.random() < 0.3:
            followed.command()
    followed.daemon.until_logged("daemon.ready")
    assert host.wait(120) == 0, host.said()
    until(followed.is_at_rest, "nothing is owed but to one", 60)
    until(followed.has_pruned, "much is gone")
    assert followed.daemon.stop() == 0, followed.daemon.said()[-3:]
    until(followed.has_all, "the poller at the end")
    followed.poller.kill()
    assert followed.poller.said() == []
    followed.check()
    assert site.intact()
    # What was committed was accepted, whatever has been taken away since.
    committed = {n for (n,) in site.rows("SELECT n FROM business")}
    sent = [one for one in receiver.requests("/all") if one["status"] == 200]
    if not commands:  # what was erased before it was sent is not sent
        assert {json.loads(one["body"])["data"]["n"] for one in sent} == committed
    return followed


def test_G6_feeds_are_followed_through_kills_and_retention(
    site: Any, receiver: Any, program: Any, until: Any
) -> None:
    followed = follow(
        site, receiver, program, until, seed=3, rows=300, seconds=3.0, kills=3, commands=False
    )
    assert followed.kept("SELECT feed FROM copies GROUP BY feed ORDER BY feed") == [
        ("changes",), ("events",), ("results",)
    ]  # fmt: skip
    assert max(begun for (begun,) in followed.kept("SELECT begun FROM places")) > 1


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_G6_feeds_are_followed_for_long(
    site: Any, receiver: Any, program: Any, until: Any, seed: int
) -> None:
    follow(
        site, receiver, program, until, seed=seed, rows=4_000, seconds=40.0, kills=25, commands=True
    )
