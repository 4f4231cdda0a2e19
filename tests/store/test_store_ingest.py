"""From outbox rows to events: every odd row that a host can write, on a real file."""

from pathlib import Path

import pytest

from tests.store.conftest import LIMIT, NOW, Box
from webhookd.core.columns import TEXTS
from webhookd.core.times import to_text
from webhookd.errors import OutboxUnreadable
from webhookd.store import create, driver
from webhookd.store import status as facts_of
from webhookd.store.host_table import OWN_COLUMN
from webhookd.store.transaction import Session

GOOD = '{"price": 1.10}'


def judged(box: Box, **columns: object) -> tuple[str, str]:
    """The fate of one odd row between two good ones: `("event", id)`, or reason and detail."""
    box.put("before", payload=GOOD)
    number = box.put(**columns) if "event_type" in columns else box.put("odd.one", **columns)
    box.put("after", payload=GOOD)
    done = box.ingest_all()[-1]
    types = [one for (one,) in box.rows("SELECT event_type FROM webhookd_events ORDER BY sequence")]
    assert (types[0], types[-1]) == ("before", "after"), "the rows around it go on"
    assert box.one("SELECT rejected FROM webhookd_file") == len(done.rejected)
    rejected = box.rows("SELECT outbox_id, reason, detail FROM webhookd_rejected")
    if not rejected:
        assert len(types) == 3
        return "event", box.one("SELECT event_id FROM webhookd_events WHERE outbox_id = ?", number)
    assert rejected == [(number, done.rejected[0].reason, done.rejected[0].detail)]
    assert len(types) == 2
    assert box.rows("SELECT first, last FROM webhookd_ranges") == [(1, 3)], "never looked at again"
    return rejected[0][1], rejected[0][2]


def stored(box: Box, column: str = "payload") -> object:
    return box.one(f"SELECT {column} FROM webhookd_events WHERE outbox_id = 2")


def raw(box: Box, column: str, data: bytes) -> dict[str, object]:
    """Bytes as TEXT, which no well-behaved host writes: by way of a CAST in the file."""
    box.host.execute(
        "CREATE TRIGGER raw AFTER INSERT ON outbox BEGIN UPDATE outbox SET"
        f" {column} = CAST({column} AS TEXT) WHERE id = new.id AND typeof({column}) = 'blob'; END"
    )
    return {column: data}


def test_A1_a_payload_that_is_no_json(box: Box) -> None:
    assert judged(box, payload='{"a": tru}') == (
        "bad_payload", "payload: expecting value at byte 6",
    )  # fmt: skip


@pytest.mark.parametrize(
    "column", ["payload", "event_type", "aggregate_type", "aggregate_id", "tenant", "event_id"]
)
def test_A2_invalid_utf_8_in_text(box: Box, column: str) -> None:
    reason, detail = judged(box, **raw(box, column, b"ab\xff\xfe"))
    assert reason == f"bad_{column}"
    assert detail.isprintable()


def test_A2_invalid_utf_8_in_occurred_at_is_no_moment(box: Box) -> None:
    assert judged(box, **raw(box, "occurred_at", b"2026\xff"))[0] == "event"
    assert stored(box, "time_guessed") == 1


def test_A3_a_nul_does_not_cut_a_text(box: Box) -> None:
    reason, detail = judged(box, payload='{"a": 1}\0{"b": 2}')
    assert (reason, detail) == ("bad_payload", "payload: extra data at byte 8")


def test_A3_a_nul_in_an_id_is_a_control_character(box: Box) -> None:
    reason, detail = judged(box, aggregate_id="S-1\0evil")
    assert (reason, detail) == (
        "bad_aggregate_id", "aggregate_id has the control character \\x00 at 3",
    )  # fmt: skip


def test_A4_null_is_an_id_only_event(box: Box) -> None:
    assert judged(box, payload=None)[0] == "event"
    assert stored(box) is None


@pytest.mark.parametrize("blank", ["", " \n", b""])
def test_A4_blank_text_is_rejected(box: Box, blank: object) -> None:
    assert judged(box, payload=blank)[0] == "bad_payload"


def test_A5_a_blob_of_json_is_taken(box: Box) -> None:
    assert judged(box, payload=b'{"a": "\xc3\xa4"}', aggregate_id=b"S-1")[0] == "event"
    assert stored(box) == b'{"a": "\xc3\xa4"}'
    assert stored(box, "aggregate_id") == "S-1"


def test_A5_another_blob_is_rejected(box: Box) -> None:
    assert judged(box, payload=b"\x89PNG\r\n")[0] == "bad_payload"


@pytest.mark.parametrize(("length", "fate"), [(LIMIT, "event"), (LIMIT + 1, "payload_too_large")])
def test_A6_the_limit_is_in_bytes_and_inclusive(box: Box, length: int, fate: str) -> None:
    payload = '"' + "ä" * ((length - 2) // 2) + "x" * (length % 2) + '"'
    assert len(payload.encode()) == length
    reason, detail = judged(box, payload=payload)
    assert reason == fate
    if fate != "event":
        assert detail == f"payload is {length} bytes long; outbox.max_payload is {LIMIT}"


def test_A8_deep_nesting(box: Box) -> None:
    reason, detail = judged(box, payload="[" * 200_000 + "]" * 200_000)
    assert (reason, detail) == ("bad_payload", "payload: more than 500 levels deep at byte 500")


@pytest.mark.parametrize(
    "payload", ["9" * 5_000, '{"a": 1, "a": 2}', '"\\ud800"', '{"a":1.10,"b":1e400}', " [1 ] "]
)
def test_A9_odd_json_is_kept_byte_for_byte(box: Box, payload: str) -> None:
    assert judged(box, payload=payload)[0] == "event"
    assert stored(box) == payload.encode()


@pytest.mark.parametrize("payload", ["NaN", "[Infinity]", "[-Infinity]"])
def test_A9_what_only_javascript_has_is_rejected(box: Box, payload: str) -> None:
    assert judged(box, payload=payload)[0] == "bad_payload"


def test_A12_gaps_are_passed_over(box: Box) -> None:
    for number in (1, 2, 1_000, 2**40):
        box.put(id=number)
    assert box.ingest().events == 4
    assert box.store.outlook().cursor == 2**40


def test_A14_A15_A16_the_event_is_a_copy_of_its_own(box: Box) -> None:
    box.subscribe()
    number = box.put(payload='{"a": 1}', aggregate_id="S-1")
    box.host.execute("UPDATE outbox SET payload = '{\"a\": 2}' WHERE id = ?", (number,))
    box.ingest()
    (due,) = box.store.due(1, NOW, 10, ())
    before = box.store.event(due.event)
    assert before is not None
    assert before.payload == b'{"a": 2}', "changed before ingest: the new one"
    box.host.execute("UPDATE outbox SET payload = 'junk', event_type = '' WHERE id = ?", (number,))
    assert box.store.event(due.event) == before
    box.host.execute("DELETE FROM outbox")
    assert box.store.event(due.event) == before
    assert box.store.due(1, NOW, 10, ()) == [due]
    assert box.ingest().events == 0


def test_A17_what_the_host_rolls_back_was_never_there(box: Box) -> None:
    box.host.execute("BEGIN")
    box.put()
    assert box.store.outlook().outbox_end is None
    box.host.execute("ROLLBACK")
    assert box.ingest().events == 0
    assert box.put() == 1
    assert box.ingest().events == 1


def test_A18_an_event_id_that_was_seen_before(box: Box) -> None:
    box.put("a", event_id="E-1")
    box.put("b", event_id="E-1")
    done = box.ingest()
    box.put("c", event_id="E-1")
    later = box.ingest()
    assert (done.events, later.events) == (1, 0)
    detail = "event_id E-1 was seen before"
    assert box.rows("SELECT outbox_id, reason, detail, event_type FROM webhookd_rejected") == [
        (2, "duplicate_event_id", detail, "b"), (3, "duplicate_event_id", detail, "c"),
    ]  # fmt: skip
    assert box.one("SELECT rejected FROM webhookd_file") == 2


def test_A19_an_event_that_nobody_wants(box: Box) -> None:
    box.subscribe(events=("order.*",))
    box.put("supplier.created", aggregate_id="S-1")
    done = box.ingest()
    assert (done.events, done.deliveries, done.ready) == (1, 0, frozenset())
    assert box.rows("SELECT sequence, event_type FROM webhook_events") == [(1, "supplier.created")]
    assert box.rows("SELECT sequence, aggregate_id FROM webhook_changes") == [(1, "S-1")]
    assert box.ingest().events == 0


@pytest.mark.parametrize(
    "event_type", [None, "", "a\nb", "a b", "größe", "\x1b[31m", "x" * 5_000, "webhookd.x"]
)
def test_A20_event_types_that_cannot_be(box: Box, event_type: object) -> None:
    reason, detail = judged(box, event_type=event_type)
    assert reason == "bad_event_type"
    assert detail.isprintable()
    assert len(detail) <= 300
    shown = box.one("SELECT event_type FROM webhookd_rejected")
    assert shown.isprintable()
    assert len(shown) <= 80


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("aggregate_id", 42, "42"),
        ("aggregate_id", -(2**63), "-9223372036854775808"),
        ("aggregate_id", 1.5, "1.5"),
        ("aggregate_id", 1e300, "1.0e+300"),
        ("tenant", 7, "7"),
        ("event_type", 123, "123"),
        ("event_id", 99, "99"),
        ("payload", 12, b"12"),
        ("payload", 0.5, b"0.5"),
    ],
)
def test_A21_numbers_become_text_as_sqlite_makes_it(
    path: Path, column: str, value: object, text: object
) -> None:
    host = driver.connect(path, mode="rw")
    host.execute("DROP TABLE outbox")
    columns = ", ".join(f"{name} BLOB" for name in TEXTS)
    host.execute(f"CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, {columns})")
    host.close()
    box = Box(path)
    assert judged(box, **{column: value})[0] == "event"
    assert stored(box, column) == text
    box.close()


def test_A21_a_number_that_is_no_text_is_rejected_with_the_column(box: Box) -> None:
    assert judged(box, payload=b"\xff")[1].startswith("payload")
    box.put("odd", tenant=b"\xff\xff")
    done = box.ingest()
    assert done.rejected[0].detail == "tenant is not UTF-8 at byte 0"


@pytest.mark.parametrize("column", TEXTS)
def test_A22_a_column_that_is_gone_stops_ingest_alone(box: Box, column: str) -> None:
    box.subscribe()
    box.put()
    box.ingest()
    box.put()
    box.host.execute(f"ALTER TABLE outbox RENAME COLUMN {column} TO other")
    said = f"schema: column outbox.{column} missing; {OWN_COLUMN}"
    wanted = f"^{said}$"
    box.store.begin()
    with pytest.raises(OutboxUnreadable, match=wanted):
        box.store.ingest(NOW)
    with pytest.raises(OutboxUnreadable, match=wanted):
        box.store.sweep(NOW)
    box.store.rollback()
    assert box.due(1) == [2]
    box.succeed(2)
    with Session(box.path, write=False) as session:
        facts = facts_of.facts(session.connection, session.file, box.path, now=NOW)
    assert facts.outbox_fault == said
    box.host.execute(f"ALTER TABLE outbox RENAME COLUMN other TO {column}")
    assert box.ingest().events == 1, "resumes alone"


def test_A23_an_outbox_that_is_gone(box: Box) -> None:
    box.subscribe()
    box.put()
    box.ingest()
    box.host.execute("ALTER TABLE outbox RENAME TO away")
    wanted = "^schema: table outbox missing; `webhookd init` makes it again$"
    before = box.store.outlook()
    assert before.unreadable.startswith("schema: table outbox missing; ")
    box.command(lambda transaction: transaction.bump(roll=True))
    after = box.store.outlook()
    assert (after.outbox_end, after.cursor) == (None, before.cursor)
    assert after.roll > before.roll, "what operators do is seen all the same"
    box.store.begin()
    with pytest.raises(OutboxUnreadable, match=wanted):
        box.store.ingest(NOW)
    box.store.rollback()
    assert box.due(1) == [2]
    box.host.execute("ALTER TABLE away RENAME TO outbox")
    box.put()
    assert box.ingest().events == 1


def test_A29_malformed_json_stays_within_its_row(box: Box) -> None:
    box.subscribe(events=("supplier.*",))
    for payload in ("{", GOOD, "}", None, '"'):
        box.put(payload=payload)
    done = box.ingest()
    assert (done.events, done.deliveries, len(done.rejected)) == (2, 2, 3)


@pytest.mark.parametrize(
    ("text", "expected", "guessed"),
    [
        ("2099-01-01T00:00:00Z", "2099-01-01T00:00:00.000Z", 0),
        ("2026-01-30 08:09:10", "2026-01-30T08:09:10.000Z", 0),
        ("yesterday", to_text(NOW), 1),
        ("0000-00-00", to_text(NOW), 1),
        (20260130, "2026-01-30T00:00:00.000Z", 0),
        (None, to_text(NOW), 0),
        ("", to_text(NOW), 0),
    ],
)
def test_A30_when_it_happened(box: Box, text: object, expected: str, guessed: int) -> None:
    box.subscribe()
    assert judged(box, occurred_at=text)[0] == "event"
    assert stored(box, "occurred_at") == expected
    assert stored(box, "time_guessed") == guessed
    assert len(box.due(1)) == 3, "never used for scheduling"


def test_A30_guessed_times_are_told_of(box: Box) -> None:
    box.put(occurred_at="2026-01-30")
    number = box.put(occurred_at="soon")
    assert box.ingest().guessed_times == (number,)


def test_a_file_in_utf_16(tmp_path: Path) -> None:
    path = tmp_path / "utf16.db"
    host = driver.connect(path, mode="rwc")
    host.execute("PRAGMA encoding = 'UTF-16'")
    host.execute("CREATE TABLE hosts_own (a)")
    host.close()
    create.prepare(
        path, table="outbox", start=None, ids_never_reused=False, may_create=False, now=NOW
    )
    box = Box(path, max_payload=1_000)
    assert box.one("PRAGMA encoding") == "UTF-16le"
    box.subscribe()
    box.put(aggregate_id="Größe 😀", payload='"ä😀"')
    box.put(payload='"' + "x" * 998 + '"')
    box.put(payload='"' + "ä" * 500 + '"')
    box.put(payload='"' + "x" * 10_000 + '"')
    box.put(payload='"€"'.encode())
    box.put(aggregate_id=7, event_id=8)
    done = box.ingest()
    assert [row.detail for row in done.rejected] == [
        "payload is 1002 bytes long; outbox.max_payload is 1000",
        "payload is 20004 bytes long; outbox.max_payload is 1000",
    ]
    events = [box.store.event(due.event) for due in box.store.due(1, NOW, 10, ())]
    assert [(one.aggregate_id, one.payload) for one in events if one] == [
        ("Größe 😀", '"ä😀"'.encode()),
        ("", b'"' + b"x" * 998 + b'"'),
        ("", '"€"'.encode()),
        ("7", None),
    ]
    box.succeed(2)
    assert box.results()[0]["state"] == "delivered"
    box.close()


def test_the_same_row_gets_the_same_event_id_after_a_restore(box: Box, tmp_path: Path) -> None:
    box.put(aggregate_id="S-1", payload=GOOD)
    box.put(aggregate_id="S-1", payload=GOOD)
    copy = tmp_path / "backup.db"
    box.host.execute("VACUUM INTO ?", (str(copy),))
    box.ingest()
    first = box.rows("SELECT event_id FROM webhookd_events ORDER BY sequence")
    assert len(set(first)) == 2, "alike but for the id"
    other = driver.connect(copy, mode="rw")
    other.execute("UPDATE webhookd_file SET path = ?", (str(copy),))
    other.close()
    restored = Box(copy)
    restored.now = NOW + 86_400_000
    restored.ingest()
    assert restored.rows("SELECT event_id FROM webhookd_events ORDER BY sequence") == first
    restored.close()
