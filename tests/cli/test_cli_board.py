"""The board of `status`: what is on it, how much of it, and how a terminal gets it."""

import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl

import pytest

from tests.cli.test_cli_status import daemon
from webhookd.cli import board as boards
from webhookd.cli.board import Colour, Line, board, fitted, has_colours
from webhookd.core.status import Status
from webhookd.core.times import to_text


def insert_subscriptions(webhookd, count):
    webhookd.add(name="s0000")
    webhookd.sql(
        "INSERT INTO webhookd_subscriptions (id, name, url, events, tenant, profile, mode, method,"
        " headers, policy, state, state_reason, managed_by, created_at) WITH RECURSIVE n(i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT printf('wh_%022d', i),"
        " printf('s%04d', i), url, events, tenant, profile, mode, method, headers, policy, state,"
        " state_reason, managed_by, created_at FROM webhookd_subscriptions, n WHERE key = 1",
        count - 1,
    )
    webhookd.sql(
        "INSERT INTO webhookd_counters (subscription, numbers, pending, delivered, failed,"
        " cancelled, superseded, last_error) SELECT key, 0, 0, 0, 0, 0, 0, ''"
        " FROM webhookd_subscriptions WHERE key > 1"
    )


def test_the_last_hour_is_on_it(webhookd):
    webhookd.add()
    webhookd.emit("a.b")
    now = time.time_ns() // 1_000_000
    webhookd.ingest(now=now)
    webhookd.sql(
        "INSERT INTO webhookd_recent VALUES (?1 % 13, 1, ?1, 41, 2, 0, 0, 0, 0, 40, 0, 0, 0, 0, 0,"
        " 3, 0, 0, 0, 0, 0)",
        now // 300_000,
    )
    with daemon(webhookd):
        first, *said = webhookd("status").stdout.splitlines()
    assert first == "webhookd is well"
    heading, row = said[-2:]
    cells = dict(zip(heading.split("  "), row.split("  "), strict=False))
    assert heading.split() == [
        *("NAME", "STATE", "OWED", "OLDEST", "OK", "1H", "FAILED", "1H", "P50", "P95", "LAST"),
        *("LAST", "SUCCESS", "NEXT", "ATTEMPT"),
    ]
    assert cells["NAME"].strip() == "partner"
    assert row.split()[1:8] == ["enabled", "1", "0s", "41", "2", "98ms", "5.3s"]
    assert any(line.startswith("due         the oldest has been due for ") for line in said)


def test_the_worst_come_first_and_the_rest_is_counted(webhookd):
    insert_subscriptions(webhookd, 60)
    stamp = "2026-01-31T12:00:00.000Z"
    webhookd.sql(
        "UPDATE webhookd_subscriptions SET state = 'disabled', state_reason = 'gone',"
        " disabled_at = ? WHERE name > 's0055'",
        stamp,
    )
    webhookd.sql("UPDATE webhookd_subscriptions SET state = 'paused' WHERE name = 's0040'")
    webhookd.sql("UPDATE webhookd_counters SET failing_since = ? WHERE subscription = 31", stamp)
    with daemon(webhookd):
        said = webhookd("status", code=1).stdout.splitlines()
        few = webhookd("status", "--limit", "2", code=1).stdout.splitlines()
        assert len(webhookd.json("status", code=1)["subscriptions"]) == 60
    assert said[0] == "webhookd needs attention: 4 problems"
    rows = said[next(at for at, line in enumerate(said) if line.startswith("NAME")) + 1 :]
    names = [row.split()[0] for row in rows[:20]]
    assert names[:6] == ["s0056", "s0057", "s0058", "s0059", "s0030", "s0040"]
    assert names[6:] == [f"s{number:04}" for number in range(14)]
    assert rows[0].split()[1:3] == ["disabled", "(gone)"]
    assert rows[4].split()[1] == "failing"
    assert rows[20] == "and 40 subscriptions more; --limit shows more of them, --json all"
    assert "and 2 problems more; --limit shows more of them, --json all" in few
    assert few[-1].startswith("and 58 subscriptions more")


def test_nagios_names_the_first_problems_and_counts_the_rest(webhookd):
    insert_subscriptions(webhookd, 30)
    webhookd.sql("UPDATE webhookd_subscriptions SET state = 'disabled', state_reason = 'gone'")
    with daemon(webhookd):
        said = webhookd("status", "--nagios", code=1).stdout
    assert said.count("subscription s") == 3
    words, bar, figures = said.partition(" | ")
    assert words.endswith("; and 27 problems more")
    assert bar
    assert figures.startswith("lag=0 ")
    assert len(said.splitlines()) == 1


def test_colours_only_where_a_terminal_can_and_nobody_minds():
    able = {"TERM": "xterm"}
    assert has_colours(able, terminal=True)
    assert has_colours(able | {"NO_COLOR": ""}, terminal=True)
    assert not has_colours(able, terminal=False)
    assert not has_colours(able | {"NO_COLOR": "1"}, terminal=True)
    assert not has_colours({"TERM": "dumb"}, terminal=True)
    assert not has_colours({}, terminal=True)


def test_a_painted_line_ends_in_its_own_colour_s_end():
    assert Line("a", Colour.RED).painted() == "\x1b[31ma\x1b[0m"
    assert Line("a").painted() == "a"


def test_what_does_not_fit_is_cut():
    lines = [Line("x" * 200, Colour.RED) for _ in range(50)]
    found = fitted(lines, os.terminal_size((80, 24)))
    assert len(found) == 23
    assert {len(line.text) for line in found} == {79}
    assert len(fitted(lines, os.terminal_size((0, 0)))) == 1


def test_a_sentence_is_wrapped_and_not_cut():
    text = "! subscription one is disabled; `webhookd subscriptions enable one` sends them"
    found = boards.wrapped(text, Colour.RED, os.terminal_size((31, 24)))
    assert max(len(line.text) for line in found) <= 30
    assert " ".join(line.text.strip() for line in found) == text
    assert {line.colour for line in found} == {Colour.RED}


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(None, None), (7, "7ms"), (137, "140ms"), (996, "1.0s"), (1_449, "1.4s"), (15_400, "15s")],
)
def test_a_latency_has_two_figures(ms, shown):
    assert boards._latency(ms) == shown


@pytest.mark.parametrize("height", [10, 24, 60])
def test_problems_and_subscriptions_share_a_window(webhookd, height):
    insert_subscriptions(webhookd, 60)
    webhookd.sql("UPDATE webhookd_subscriptions SET state = 'disabled', state_reason = 'gone'")
    with daemon(webhookd):
        said = webhookd.json("status", code=1)
    size = os.terminal_size((300, height))
    found = board(Status(said, True, tuple(said["problems"])), 100, size)
    assert len(found) <= max(height, 6 + 2 * (boards.FEWEST + 3))
    assert sum(line.text.startswith("! ") for line in found) >= boards.FEWEST
    assert sum(line.text.startswith("s00") for line in found) >= boards.FEWEST


class Terminal:
    """A window with `status --watch` in it."""

    def __init__(self, database, **environ):
        self.ours, terminal = pty.openpty()
        self.resize(24, 100, terminal)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "webhookd", "--database", database, "status", "--watch"],
            stdout=terminal,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TERM": "xterm", **environ},
        )
        os.close(terminal)
        self.said = b""

    def resize(self, rows, columns, terminal=None):
        size = struct.pack("HHHH", rows, columns, 0, 0)
        ioctl(self.ours if terminal is None else terminal, termios.TIOCSWINSZ, size)

    def until(self, text):
        """What it says from here on, up to `text`."""
        while text not in self.said:
            assert select.select([self.ours], [], [], 30)[0], self.said
            self.said += os.read(self.ours, 4_096)
        found, _, self.said = self.said.partition(text)
        return found

    def end(self):
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=60)
        while True:
            try:
                self.said += os.read(self.ours, 4_096)
            except OSError:  # nobody has the other end any more
                break
        os.close(self.ours)
        return self.process.returncode, errors


def test_watch_stays_in_place_through_a_new_size_and_a_file_that_is_away(webhookd):
    insert_subscriptions(webhookd, 40)
    terminal = Terminal(webhookd.database)
    first = terminal.until(b"\x1b[J")
    assert first.startswith(b"\x1b[H\x1b[2J\x1b[31mwebhookd delivers nothing\x1b[0m\x1b[K\r\n")
    assert first.count(b"\r\n") <= 23
    second = terminal.until(b"\x1b[J")
    assert second.startswith(b"\x1b[H\x1b[31mwebhookd")
    terminal.resize(40, 250)
    while not (third := terminal.until(b"\x1b[J")).startswith(b"\x1b[H\x1b[2J"):
        pass
    assert third.count(b"\r\n") > first.count(b"\r\n")
    away = webhookd.database.with_suffix(".away")
    webhookd.database.rename(away)
    terminal.until(b"erp.db: no such file")
    away.rename(webhookd.database)
    terminal.until(b"webhookd delivers nothing")
    assert terminal.end() == (0, "")
    assert terminal.said.endswith(b"\r\n")


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_watch_without_colours(webhookd, environ):
    terminal = Terminal(webhookd.database, **environ)
    said = terminal.until(b"deliveries")
    if environ.get("TERM") == "dumb":
        assert b"\x1b" not in said
    else:
        assert b"\x1b[2J" in said
        assert b"\x1b[31m" not in said
    assert terminal.end() == (0, "")


def test_what_a_daemon_waits_for_is_said(webhookd):
    stamp = to_text(time.time_ns() // 1_000_000)
    with daemon(webhookd, caught_up_at=stamp, write_wait_seconds=3.5, unrecorded=1):
        said = webhookd("status").stdout
    assert "writing     has waited 3.5 s for the file's lock: another program holds it" in said
    assert "unrecorded  1 outcome waits in memory" in said
