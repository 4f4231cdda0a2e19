"""`events explain` and `events retry-rejected`: where it is, why, and what is to be done."""

import pytest

from webhookd.errors import OutboxUnreadable
from webhookd.store import rejected, sources

EARLIER = 1_800_000_000_000


def bad_row(webhookd, payload="{", **columns):
    given = {"event_type": "supplier.created", "payload": payload, **columns}
    webhookd.sql(
        f"INSERT INTO outbox ({', '.join(given)}) VALUES ({', '.join('?' * len(given))})",
        *given.values(),
    )


def explained(webhookd, *args):
    return webhookd("events", "explain", *args).stdout


@pytest.fixture
def busy(webhookd):
    """An event for `acme` and not for the others."""
    webhookd.add("--events", "supplier.*", name="acme")
    webhookd.add("--tenant", "north", name="north")
    webhookd.add("--events", "order.*,x", name="orders")
    webhookd.emit("supplier.created", "--aggregate-id", "7", "--event-id", "e1")
    webhookd.ingest(now=EARLIER)
    return webhookd


def test_explain_says_for_whom_and_for_whom_not(busy):
    said = explained(busy, "e1")
    assert "event_type      supplier.created\n" in said
    assert "matched 1 of 3 subscriptions\n\nacme (enabled): its pattern supplier.* asks for" in said
    assert "  waits: " in said
    assert said.endswith(
        "not for:\n"
        "  north   the tenant differs: the event's is absent, the subscription's is north\n"
        "  orders  no pattern of [order.*, x] matches supplier.created\n"
    )
    shown = busy.json("events", "explain", "e1")
    assert busy.json("events", "explain", "1") == shown
    assert busy.json("events", "explain", "--outbox-id", "1")["event"] == shown
    assert explained(busy, "--outbox-id", "1") == said
    assert {one["subscription_name"]: one["matched"] for one in shown["subscriptions"]} == {
        "acme": True,
        "north": False,
        "orders": False,
    }


def test_explain_shows_every_attempt_and_what_it_came_to(busy):
    (delivery,) = [one["delivery_id"] for one in busy.json("deliveries", "list")]
    busy.give_up(delivery)
    said = explained(busy, "e1").splitlines()
    at = said.index("  ATTEMPT  STARTED AT                MS  STATUS  ERROR")
    assert said[at - 1].startswith(f"  delivery {delivery} failed (exhausted) at 20")
    assert said[at - 1].endswith(", 1 attempt")
    assert said[at + 1].split() == ["1", "2027-01-15T08:00:00.500Z", "20", "500", "status", "500"]
    busy("deliveries", "retry", str(delivery))
    busy.sql("UPDATE webhookd_deliveries SET passed_at = '2027-01-15T08:00:09.000Z'")
    said = explained(busy, "e1")
    assert f"  delivery {delivery} is pending, 1 attempt\n" in said
    assert "  it held up those behind it, so they passed at 2027-01-15T08:00:09.000Z\n" in said


def test_explain_says_behind_whom_it_waits_and_that_it_is_paused(busy):
    busy.emit("supplier.changed", "--aggregate-id", "7", "--event-id", "e2")
    busy.ingest()
    busy("subscriptions", "pause", "acme")
    said = explained(busy, "e2")
    assert "acme (paused): its pattern supplier.* asks for it\n" in said
    assert "  waits: its subscription is paused (operator): `webhookd subscriptions enable" in said
    assert "  waits: behind delivery 2 of the same aggregate (not attempted yet; due at" in said


def test_explain_names_one_that_was_removed(busy):
    busy("subscriptions", "remove", "acme", "--yes")
    said = explained(busy, "e1")
    assert "matched 1 of 3 subscriptions\n\nacme (removed at 20" in said
    assert "was cancelled (subscription_removed) at 20" in said


def test_explain_of_an_event_that_is_for_nobody(webhookd):
    webhookd.emit("a.b")
    webhookd.ingest()
    assert explained(webhookd, "1").endswith("\nmatched 0 of 0 subscriptions\n")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, "explain: name one event, by event id or sequence, or one --outbox-id"),
        (["e1", "--outbox-id", "1"], 2, "explain: name one event, by event id or sequence, or one"),
        (["none"], 1, "no event 'none'; `webhookd events list` shows the newest"),
        (["7"], 1, "no event '7'; `webhookd events list` shows the newest; `--outbox-id 7` asks"),
        (["--outbox-id", "7"], 1, "no outbox row 7; `webhookd events list` shows the newest"),
        (["--outbox-id", "x"], 2, "'x': takes a whole number from -9223372036854775808"),
    ],
)
def test_explain_refuses(webhookd, args, code, said):
    assert said in webhookd.fails("events", "explain", *args, code=code)


def test_A1_explain_says_why_a_row_was_rejected(webhookd):
    bad_row(webhookd)
    bad_row(webhookd, id=-5)
    webhookd.ingest()
    said = explained(webhookd, "--outbox-id", "1").splitlines()
    assert said == [
        (
            "outbox row 1 was rejected at 2027-01-15T08:00:00.000Z: bad_payload: payload: "
            "expecting property name enclosed in double quotes at byte 1"
        ),
        (
            "as it is now it would be rejected again; once it is mended `webhookd events "
            "retry-rejected 1` takes it in"
        ),
    ]
    webhookd.sql("UPDATE outbox SET event_type = 'bad type' WHERE id = -5")
    said = explained(webhookd, "--outbox-id", "-5")
    assert "rejected again: bad_event_type: event_type has characters that are not" in said
    assert "`webhookd events retry-rejected -- -5` takes it in" in said
    webhookd.sql("UPDATE outbox SET payload = NULL WHERE id = 1")
    said = explained(webhookd, "--outbox-id", "1").splitlines()
    assert said[1] == (
        "as it is now it would become an event: `webhookd events retry-rejected 1` takes it in"
    )
    webhookd.sql("DELETE FROM outbox")
    said = explained(webhookd, "--outbox-id", "1").splitlines()
    assert said[1] == (
        "the host has deleted it: to have its event, insert a mended row; `webhookd events "
        "retry-rejected --forget-gone 1` takes it off the list"
    )


def test_explain_says_that_a_row_was_not_taken_in_yet(webhookd, monkeypatch):
    webhookd.emit("a.b")
    webhookd.ingest()
    bad_row(webhookd)
    webhookd.sql("INSERT INTO outbox (id, event_type) VALUES (-1, 'a.b')")
    said = explained(webhookd, "--outbox-id", "2").splitlines()
    assert said[0].startswith("outbox row 2 has not been taken in yet: the daemon does not run;")
    assert said[1].startswith("as it is now it will be rejected: bad_payload: payload: expecting")
    monkeypatch.setattr("webhookd.store.lockfile.is_held", lambda _: True)
    assert "the daemon takes it in when its turn comes" in explained(webhookd, "--outbox-id", "2")
    assert explained(webhookd, "--outbox-id", "-1") == (
        "outbox row -1 has not been taken in yet: rows above it were taken in before; the next "
        "sweep finds it, within ten minutes\n"
    )


def test_explain_says_that_there_is_no_event_any_more(webhookd):
    webhookd.emit("a.b")
    webhookd.ingest()
    webhookd.sql("DELETE FROM webhookd_events")
    assert "outbox row 1 is done with, and there is no" in explained(webhookd, "--outbox-id", "1")


def test_explain_of_a_rejected_row_that_was_taken_off_the_list(webhookd):
    bad_row(webhookd)
    webhookd.ingest()
    webhookd.sql("DELETE FROM outbox")
    webhookd("events", "retry-rejected", "--all", "--forget-gone")
    assert explained(webhookd, "--outbox-id", "1") == (
        "outbox row 1 is done with, and there is no event of it: it was there before ingest began, "
        "its event (or its rejection) was kept no longer (see [retention]), or it was rejected and "
        "taken off the list (--forget-gone)\n"
    )


@pytest.fixture
def rejecting(webhookd):
    """Rows 1 to 4 are rejected; 1 and 2 are mended since, 4 was deleted."""
    webhookd.add("--events", "mended.*")
    for _ in range(4):
        bad_row(webhookd)
    webhookd.ingest(now=EARLIER)
    webhookd.sql("UPDATE outbox SET event_type = 'mended.one', payload = '{}' WHERE id < 3")
    webhookd.sql("DELETE FROM outbox WHERE id = 4")
    return webhookd


def test_retry_rejected_takes_all_in_that_can_be(rejecting):
    rejecting.sql("UPDATE outbox SET occurred_at = 'soon' WHERE id = 1")
    done = rejecting("events", "retry-rejected", "--all")
    assert done.stdout.splitlines() == [
        "2 rows are events now, with 2 deliveries owed",
        "no moment in occurred_at, so it is the time of now: 1",
        "1 row is rejected still: 1 bad_payload",
        "  3  bad_payload: payload: expecting property name enclosed in double quotes at byte 1",
        (
            "1 row is no longer in the outbox and stays rejected: 4; --forget-gone takes such off "
            "the list"
        ),
    ]
    assert done.stderr == ""
    left = [one["outbox_id"] for one in rejecting.json("events", "list", "--rejected")]
    assert left == [4, 3]
    assert rejecting.sql("SELECT rejected FROM webhookd_file") == [(2,)]
    assert len(rejecting.json("deliveries", "list", "--state", "pending")) == 2
    again = rejecting.json("events", "retry-rejected", "--all", code=1)
    assert len(rejecting.json("events", "list")) == 2, "nothing is made twice"
    assert len(rejecting.json("deliveries", "list")) == 2
    assert again == {
        "events": [],
        "deliveries": 0,
        "rejected": [
            {
                "outbox_id": 3,
                "outbox_key": None,
                "reason": "bad_payload",
                "detail": "payload: expecting property name enclosed in double quotes at byte 1",
            }
        ],
        "gone": [4],
        "forgotten": [],
        "unknown": [],
        "guessed_times": [],
        "doubted": [],
        "outbox_keys": {},
    }


def test_retry_rejected_takes_those_that_are_named(rejecting):
    done = rejecting("events", "retry-rejected", "2", "3")
    assert done.stdout.startswith("1 row is an event now, with 1 delivery owed\n1 row is rejected")
    (event,) = rejecting.json("events", "list")
    assert event["outbox_id"] == 2
    assert event["ingested_at"] > "2026"


def test_retry_rejected_of_which_nothing_comes_exits_1(rejecting):
    assert rejecting.json("events", "retry-rejected", "3", code=1)["rejected"]
    assert rejecting.json("events", "retry-rejected", "4", code=1)["gone"] == [4]
    rejecting("events", "retry-rejected", "3", "4", "--forget-gone")
    rejecting("events", "retry-rejected", "2", "3")


def test_an_id_that_is_no_rejected_row_s_exits_1(rejecting):
    done = rejecting("events", "retry-rejected", "2", "99", "-7", code=2)
    assert "No such option" in done.stderr
    done = rejecting("events", "retry-rejected", "--", "2", "99", "-7", code=1)
    assert done.stdout == "1 row is an event now, with 1 delivery owed\n"
    assert done.stderr.splitlines() == [
        f"webhookd: outbox row {number} is not among the rejected ones; `webhookd events explain "
        f"--outbox-id {number}` says what became of it"
        for number in (-7, 99)
    ]
    assert rejecting.json("events", "retry-rejected", "2", code=1)["unknown"] == [2]


def test_retry_rejected_with_nothing_to_do(webhookd):
    done = webhookd("events", "retry-rejected", "--all")
    assert (done.stdout, done.stderr) == ("", "no row is rejected\n")


@pytest.mark.parametrize("args", [[], ["1", "--all"]])
def test_retry_rejected_wants_to_know_which(webhookd, args):
    assert webhookd.fails("events", "retry-rejected", *args, code=2) == (
        "retry-rejected: name outbox ids or keys, or --all for every rejected row; "
        "`webhookd events list --rejected` shows them"
    )


def test_many_rows_are_told_in_few_lines(webhookd):
    for _ in range(22):
        bad_row(webhookd)
    for _ in range(22):
        bad_row(webhookd, payload="gone")
    webhookd.ingest()
    webhookd.sql("DELETE FROM outbox WHERE id > 22")
    said = webhookd("events", "retry-rejected", "--all", code=1).stdout.splitlines()
    assert said[0] == "22 rows are rejected still: 22 bad_payload"
    assert said[21:] == [
        "  and 2 more: `webhookd events list --rejected`",
        "22 rows are no longer in the outbox and stay rejected: "
        + ", ".join(map(str, range(23, 43)))
        + " and 2 more; --forget-gone takes such off the list",
    ]
    assert said[20].startswith("  20  bad_payload")


def test_what_was_done_is_told_when_the_rest_fails(rejecting, monkeypatch):
    monkeypatch.setattr(rejected, "AT_ONCE", 1)
    looks = iter((True, False))

    class Fails(sources.Outbox):
        def end(self, connection, cursor):
            if not next(looks):
                raise OutboxUnreadable("schema: table outbox missing")

    monkeypatch.setattr(sources, "Outbox", Fails)
    done = rejecting("events", "retry-rejected", "--all", code=4)
    assert done.stdout == "1 row is an event now, with 1 delivery owed\n"
    assert done.stderr == "webhookd: schema: table outbox missing\n"


def test_an_outbox_that_is_gone_is_one_line(rejecting):
    rejecting.sql("DROP TABLE outbox")
    line = rejecting.fails("events", "retry-rejected", "--all", code=4)
    assert line == "schema: table outbox missing; `webhookd init` makes it again"


def test_rows_that_the_host_deleted_can_be_taken_off_the_list(rejecting):
    done = rejecting("events", "retry-rejected", "--forget-gone", "4")
    assert done.stdout == "1 row is no longer in the outbox and off the list now: 4\n"
    assert rejecting.sql("SELECT rejected FROM webhookd_file") == [(3,)]
    assert [one["outbox_id"] for one in rejecting.json("events", "list", "--rejected")] == [3, 2, 1]
    rejecting.sql("DELETE FROM outbox")
    shown = rejecting.json("events", "retry-rejected", "--forget-gone", "--all")
    assert (shown["forgotten"], shown["gone"], shown["events"]) == ([1, 2, 3], [], [])
    assert rejecting.json("status", code=6)["outbox"]["rejected"] == 0
    assert rejecting("events", "list", "--rejected").stdout == ""


def test_explain_ends_with_the_next_step(busy):
    (delivery,) = [one["delivery_id"] for one in busy.json("deliveries", "list")]
    busy.give_up(delivery)
    assert f"  `webhookd deliveries retry {delivery}` sends it again\n" in explained(busy, "e1")
    busy.sql("UPDATE webhookd_subscriptions SET policy = '{\"max_age\": 3600000}'")
    busy.sql("UPDATE webhookd_deliveries SET reason = 'expired'")
    assert " failed (expired: max_age is 1h) at 20" in explained(busy, "e1")
    busy("deliveries", "retry", str(delivery))
    said = explained(busy, "e1")
    assert "`webhookd deliveries retry" not in said
    assert "  ends as expired at 20" in said


def test_explain_names_the_newer_one_that_took_its_place(webhookd):
    webhookd.add("--coalesce", "true", "--rate-limit", "5/s")
    for number in (1, 2):
        webhookd.emit("a.b", "--aggregate-id", "7", "--event-id", f"e{number}")
    webhookd.ingest()
    newer, older = (one["delivery_id"] for one in webhookd.json("deliveries", "list"))
    said = explained(webhookd, "e1")
    assert f"  delivery {older} was superseded (coalesced: delivery {newer} is newer) at 20" in said
    (one,) = webhookd.json("events", "explain", "e2")["subscriptions"]
    assert one["delivery"]["superseded_by"] is None
