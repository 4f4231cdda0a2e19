"""`events` and `deliveries`: what happened, what is owed, and what an operator does about it."""

import json
import subprocess
import sys
import time

import pytest

EVENT = {
    *("sequence", "outbox_id", "event_id", "tenant", "event_type", "aggregate_type"),
    *("aggregate_id", "occurred_at", "ingested_at"),
}
DELIVERY = {
    *("sequence", "delivery_id", "outbox_id", "event_id", "subscription_id"),
    *("subscription_name", "tenant", "event_type", "aggregate_type", "aggregate_id", "state"),
    *("reason", "attempts", "last_status", "last_error", "next_attempt_at", "created_at"),
    *("first_attempt_at", "finished_at"),
}


def rows(cli):
    return cli.sql(
        "SELECT event_type, aggregate_type, aggregate_id, tenant, payload, occurred_at, event_id"
        " FROM outbox ORDER BY id"
    )


def test_emit_inserts_a_row_and_prints_its_id(webhookd):
    assert webhookd("events", "emit", "supplier.created").stdout == "1\n"
    assert webhookd.json(
        *("events", "emit", "COMMITTED", "--aggregate-id", "7", "--aggregate-type", "SALESORDER"),
        *("--tenant", "north", "--payload", '{"a": 1.10}', "--event-id", "order-7"),
        *("--occurred-at", "2026-01-31 12:00:00"),
    ) == {"outbox_id": 2, "event_type": "COMMITTED", "event_id": "order-7"}
    assert rows(webhookd) == [
        ("supplier.created", None, None, None, None, None, None),
        (
            *("COMMITTED", "SALESORDER", "7", "north", '{"a": 1.10}', "2026-01-31 12:00:00"),
            "order-7",
        ),
    ]


def test_emit_takes_the_payload_from_a_file_or_standard_input(webhookd, tmp_path):
    path = tmp_path / "payload.json"
    path.write_text('{"name": "Müller"}', encoding="utf-8")
    webhookd("events", "emit", "a.b", "--payload", f"@{path}")
    webhookd("events", "emit", "a.b", "--payload", "-", stdin=b"[1, 2]\n")
    assert [row[4] for row in rows(webhookd)] == ['{"name": "Müller"}', "[1, 2]\n"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["a b"], 2, "event_type has characters that are not visible ASCII: a b; nothing was"),
        (["webhookd.x"], 2, "event_type begins with webhookd."),
        (["a.b", "--payload", "{"], 2, "payload: "),
        (["a.b", "--payload", ""], 2, "payload: "),
        (["a.b", "--payload", "[" + " " * 100 + "]"], 2, "outbox.max_payload is 50"),
        (["a.b", "--payload", "@/nowhere"], 2, "--payload @/nowhere: cannot be read: No such"),
        (["a.b", "--aggregate-id", "x\ny"], 2, "aggregate_id has the control character"),
        (["a.b", "--event-id", "no blank"], 2, "event_id has characters other than"),
        (["a.b", "--occurred-at", "soon"], 2, "occurred_at is no moment in ISO 8601"),
    ],
)
def test_emit_refuses_what_ingest_would_reject(webhookd, args, code, said):
    webhookd.configure("[outbox]\nmax_payload = 50\n")
    assert said in webhookd.fails("events", "emit", *args, code=code)
    assert rows(webhookd) == []


@pytest.mark.parametrize(
    ("payload", "said"), [(b"\xff", "not UTF-8 at byte 0"), (b"1" * 51, "over 50 bytes")]
)
def test_emit_refuses_a_payload_on_standard_input(webhookd, payload, said):
    webhookd.configure("[outbox]\nmax_payload = 50\n")
    result = webhookd("events", "emit", "a.b", "--payload", "-", stdin=payload, code=2)
    assert f"--payload -: {said}" in result.stderr


def test_emit_refuses_an_event_id_that_was_seen(webhookd):
    webhookd.emit("a.b", "--event-id", "one")
    webhookd.ingest()
    line = webhookd.fails("events", "emit", "a.b", "--event-id", "one", code=1)
    assert line == "event_id one is that of outbox row 1 already; choose another"


def test_emit_refuses_a_table_of_the_hosts(bare):
    script = (
        "import sqlite3, sys\n"
        "sqlite3.connect(sys.argv[1]).execute('CREATE TABLE outbox (id INTEGER PRIMARY KEY"
        " AUTOINCREMENT, event_type, aggregate_type, aggregate_id, tenant, payload,"
        " occurred_at, event_id)')"
    )
    subprocess.run([sys.executable, "-c", script, bare.database], check=True, timeout=60)
    bare("init")
    assert "is the host's own table" in bare.fails("events", "emit", "a.b", code=1)


def test_events_list(webhookd):
    for number in range(3):
        webhookd.emit(f"supplier.v{number}", "--aggregate-id", "7", "--tenant", "north")
    webhookd.emit("order.made", "--aggregate-id", "8")
    webhookd.ingest()
    listed = webhookd.json("events", "list")
    assert [one["event_type"] for one in listed] == [
        *("order.made", "supplier.v2", "supplier.v1", "supplier.v0"),
    ]
    assert all(set(one) == EVENT for one in listed)

    def types(*options):
        return [one["event_type"] for one in webhookd.json("events", "list", *options)]

    assert types("--type", "supplier.v1") == ["supplier.v1"]
    assert types("--aggregate-id", "8") == ["order.made"]
    assert types("--tenant", "north", "--limit", "2") == ["supplier.v2", "supplier.v1"]
    assert types("--since", "2027-01-15T07:59:59Z", "--until", "2027-01-15T08:00:01Z") != []
    assert types("--until", "2027-01-15") == []
    said = webhookd("events", "list").stdout.splitlines()
    assert said[0].split() == [
        *("SEQUENCE", "EVENT", "ID", "TYPE", "AGGREGATE", "TYPE", "AGGREGATE", "ID", "TENANT"),
        *("OCCURRED", "AT"),
    ]
    assert len(said) == 5
    none = webhookd("events", "list", "--type", "no.such")
    assert (none.stdout, none.stderr) == ("", "no such events\n")


def test_a_span_means_that_long_ago(webhookd):
    webhookd.emit("a.b")
    webhookd.ingest(now=time.time_ns() // 1_000_000 - 3_600_000)
    assert len(webhookd.json("events", "list", "--since", "2h")) == 1
    assert webhookd.json("events", "list", "--since", "30m") == []
    assert len(webhookd.json("events", "list", "--until", "30m", "--since", "36500d")) == 1


def test_events_list_rejected(webhookd):
    webhookd.sql("INSERT INTO outbox (event_type, payload) VALUES ('a.b', '{')")
    webhookd.ingest()
    (one,) = webhookd.json("events", "list", "--rejected")
    assert set(one) == {
        *("outbox_id", "outbox_key", "reason", "detail", "event_type", "rejected_at")
    }
    assert (one["outbox_id"], one["outbox_key"], one["reason"]) == (1, None, "bad_payload")
    assert "bad_payload" in webhookd("events", "list", "--rejected").stdout
    assert "--rejected: goes with" in webhookd.fails(
        "events", "list", "--rejected", "--tenant", "x", code=2
    )


def test_events_show(webhookd):
    webhookd.add()
    webhookd.emit("a.b", "--event-id", "one", "--payload", ' {"a": 1.10} ')
    webhookd.ingest()
    shown = webhookd.json("events", "show", "one")
    assert set(shown) == EVENT | {
        "payload",
        "erased",
        "time_guessed",
        "payload_fault",
        "deliveries",
    }
    assert not shown["erased"]
    assert shown["payload"] == ' {"a": 1.10} '
    (owed,) = shown["deliveries"]
    assert (owed["subscription_name"], owed["state"]) == ("partner", "pending")
    assert webhookd.json("events", "show", str(shown["sequence"])) == shown
    said = webhookd("events", "show", "one").stdout
    assert '{"a": 1.10}' in said
    assert "partner" in said


def test_A30_events_show_says_when_the_time_was_guessed(webhookd):
    webhookd.sql("INSERT INTO outbox (event_type, occurred_at) VALUES ('a.b', 'soon')")
    webhookd.ingest()
    assert webhookd.json("events", "show", "1")["time_guessed"] is True
    assert "the row's own could not be read" in webhookd("events", "show", "1").stdout


@pytest.mark.parametrize("event", ["nothing", "99", "9" * 40])
def test_an_unknown_event_exits_1(webhookd, event):
    assert f"no event '{event}'" in webhookd.fails("events", "show", event, code=1)


def owed(webhookd):
    webhookd.add()
    webhookd.add(name="second")
    for number in range(2):
        webhookd.emit("thing.made", "--aggregate-id", str(number), "--event-id", f"e{number}")
    webhookd.ingest()
    return sorted(one["delivery_id"] for one in webhookd.json("deliveries", "list"))


def test_deliveries_list(webhookd):
    ids = owed(webhookd)
    webhookd.deliver(ids[0])
    listed = webhookd.json("deliveries", "list")
    assert all(set(one) == DELIVERY for one in listed)
    assert [one["delivery_id"] for one in listed] == ids[::-1]

    def found(*options):
        return sorted(one["delivery_id"] for one in webhookd.json("deliveries", "list", *options))

    assert found("--state", "delivered") == ids[:1]
    assert found("--subscription", "second") == [ids[1], ids[3]]
    assert found("--event", "e1") == ids[2:]
    assert found("--limit", "1") == ids[3:]
    assert found("--since", "2027-01-15T08:00:01Z") == []
    webhookd("subscriptions", "update", "second", "--name", "renamed")
    assert found("--subscription", "renamed") == [ids[1], ids[3]]
    assert webhookd("deliveries", "list", "--until", "36500d").stderr == "no such deliveries\n"
    said = webhookd("deliveries", "list").stdout.splitlines()
    assert said[0].startswith("DELIVERY  STATE")
    assert len(said) == 5


def test_deliveries_show(webhookd):
    first = owed(webhookd)[0]
    webhookd.deliver(first)
    shown = webhookd.json("deliveries", "show", str(first))
    assert set(shown) == DELIVERY | {
        *("number", "due_at", "failing_since", "passed_at", "attempts_made", "occurred_at"),
        *("subscription_state", "next_attempt", "behind_delivery", "expires_at", "max_age"),
        *("superseded_by", "unsendable", "waits_for"),
    }
    (attempt,) = shown["attempts_made"]
    assert set(attempt) == {
        *("number", "started_at", "duration_ms", "status", "error_class", "error", "note"),
        "excerpt",
    }
    assert (attempt["status"], attempt["excerpt"]) == (200, "thanks")
    said = webhookd("deliveries", "show", str(first)).stdout
    assert "\nit was delivered at " in said
    assert "thanks" in said
    line = webhookd.fails("deliveries", "show", "99", code=1)
    assert line == "no delivery 99; `webhookd deliveries list` shows the newest"


def test_retry_opens_again(webhookd):
    first, second, *_ = owed(webhookd)
    webhookd.give_up(first)
    done = webhookd.json("deliveries", "retry", str(first), str(second))
    assert [set(one) for one in done] == [
        {"delivery_id", "state", "reason", "attempts", "due_at", "waits_for", "delivered_at"}
        | {"was_pending", "schedule"}
    ] * 2
    assert [(one["delivery_id"], one["state"], one["attempts"]) for one in done] == [
        (first, "pending", 1),
        (second, "pending", 0),
    ]
    said = webhookd("deliveries", "retry", str(first)).stdout
    assert said == (
        f"delivery {first} is pending, and waits: the daemon does not run: nothing is sent\n"
    )


def test_json_is_an_array_where_it_lists_a_line_a_row_in_feeds_else_one_object(webhookd):
    first, *_ = owed(webhookd)
    listing = [
        *(("events", "list"), ("events", "list", "--rejected"), ("deliveries", "list")),
        *(("deliveries", "list", "--blocking"), ("subscriptions", "list"), ("capture", "list")),
        *(("catalog", "list"), ("capture", "repair")),
        *(("deliveries", "retry", str(first)), ("deliveries", "cancel", str(first))),
    ]
    assert [type(webhookd.json(*args)) for args in listing] == [list] * len(listing)
    single = [
        *(("check",), ("prune",), ("events", "retry-rejected", "--all")),
        *(("deliveries", "show", str(first)), ("subscriptions", "show", "partner")),
        ("replay", "--subscription", "partner", "--since", "1h", "--dry-run"),
    ]
    assert [type(webhookd.json(*args)) for args in single] == [dict] * len(single)
    assert isinstance(webhookd.json("status", code=6), dict)
    for feed in ("results", "changes", "feed-events"):
        rows = webhookd(feed, "--json").stdout
        assert rows == webhookd(feed).stdout
        assert all(isinstance(json.loads(row), dict) for row in rows.splitlines())


def test_retry_opens_the_oldest_first_whatever_the_order(webhookd):
    webhookd.add()
    for _ in range(3):
        webhookd.emit("thing.made", "--aggregate-id", "7")
    webhookd.ingest()
    ids = sorted(one["delivery_id"] for one in webhookd.json("deliveries", "list"))
    for one in ids:
        webhookd.give_up(one)
    done = webhookd.json("deliveries", "retry", *map(str, reversed(ids)), str(ids[0]))
    assert [one["delivery_id"] for one in done] == ids
    assert done[0]["due_at"] is not None
    assert [one["due_at"] for one in done[1:]] == [None, None], "each stands behind the first"


def test_retry_goes_on_after_one_that_is_not_there(webhookd):
    first, *_ = owed(webhookd)
    result = webhookd("deliveries", "retry", "99", str(first), code=1)
    assert result.stderr == (
        "webhookd: no delivery 99; `webhookd deliveries list` shows the newest\n"
    )
    assert result.stdout.startswith(f"delivery {first} is pending")


def test_retry_of_one_in_line_says_so(webhookd):
    webhookd.add()
    for _ in range(2):
        webhookd.emit("thing.made", "--aggregate-id", "7")
    webhookd.ingest()
    _, behind = sorted(one["delivery_id"] for one in webhookd.json("deliveries", "list"))
    said = webhookd("deliveries", "retry", str(behind)).stdout
    first = f"behind delivery {behind - 2} of the same aggregate (not attempted yet; due at 20"
    assert said.startswith(f"delivery {behind} is pending, and waits: {first}")


def test_cancel(webhookd):
    first, second, *_ = owed(webhookd)
    webhookd.deliver(first)
    result = webhookd("deliveries", "cancel", str(first), str(second), str(second), code=1)
    assert result.stdout == (
        f"delivery {second} is cancelled; if its request is under way, a success counts\n"
    )
    assert f"delivery {first} is delivered already; only a pending" in result.stderr
    (one,) = webhookd.json("deliveries", "list", "--state", "cancelled")
    assert (one["delivery_id"], one["reason"]) == (second, "operator")


def test_nothing_is_retried_for_a_removed_subscription(webhookd):
    first, *_ = owed(webhookd)
    webhookd("subscriptions", "remove", "partner", "--yes")
    line = webhookd("deliveries", "retry", str(first), code=1).stderr
    assert "its subscription was removed" in line


FEEDS = {
    "results": DELIVERY,
    "changes": {
        *("sequence", "tenant", "aggregate_type", "aggregate_id", "event_type", "event_id"),
        "occurred_at",
    },
    "feed-events": EVENT,
}


@pytest.mark.parametrize("feed", FEEDS)
def test_G6_a_feed_is_json_lines_and_the_next_cursor(webhookd, feed):
    owed(webhookd)
    whole = webhookd(feed)
    lines = [json.loads(line) for line in whole.stdout.splitlines()]
    assert all(set(line) == FEEDS[feed] for line in lines)
    sequences = [line["sequence"] for line in lines]
    assert sequences == sorted(sequences)
    assert len(sequences) == (4 if feed == "results" else 2)
    assert whole.stderr == f"next: --after {sequences[-1]} --epoch 1\n"
    page = webhookd(feed, "--limit", "1", "--json")
    assert page.stdout == whole.stdout.splitlines(keepends=True)[0]
    way_up = f"--after {sequences[0]} --epoch 1 --floor {sequences[-1]}"
    assert page.stderr == f"next: {way_up}\n"
    webhookd.sql("UPDATE webhookd_feeds SET minimum_cursor = ?", sequences[-1])
    assert webhookd(feed, *way_up.split()).stderr == f"next: --after {sequences[-1]} --epoch 1\n"
    webhookd.sql("UPDATE webhookd_feeds SET minimum_cursor = 0")
    rest = webhookd(feed, "--after", str(sequences[0]))
    assert rest.stdout == "".join(whole.stdout.splitlines(keepends=True)[1:])
    end = webhookd(feed, "--after", str(sequences[-1]))
    assert (end.stdout, end.stderr) == ("", f"next: --after {sequences[-1]} --epoch 1\n")


@pytest.mark.parametrize("feed", FEEDS)
def test_a_reset_exits_7_and_says_so(webhookd, feed):
    owed(webhookd)
    webhookd.sql("UPDATE webhookd_feeds SET minimum_cursor = 100")
    assert "start again with --after 0" in webhookd.fails(feed, "--after", "7", code=7)
    webhookd(feed)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("DROP TABLE outbox", "no such table: outbox"),
        ("ALTER TABLE outbox RENAME COLUMN tenant TO other", "no column named tenant"),
        (
            "CREATE TRIGGER no BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'not now'); END",
            "not now",
        ),
    ],
)
def test_A22_emit_says_why_the_outbox_takes_no_row(webhookd, harm, said):
    webhookd.sql(harm)
    assert said in webhookd.fails("events", "emit", "a.b", code=4)
