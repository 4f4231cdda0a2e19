import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.rows import (
    EMPTY_ID,
    MAX_DETAIL,
    MAX_SHOWN_TYPE,
    Draft,
    RawRow,
    Rejection,
    RejectionReason,
    duplicate,
    judge,
    mismatch,
)
from webhookd.core.times import from_text, to_text

NOW = from_text("2025-11-22T02:16:17.123Z")
FILE = "0193a5b0-0000-7000-8000-000000000000"
LIMIT = 1000
ROW = RawRow(
    outbox_id=7,
    event_type=b"supplier.created",
    aggregate_type=b"supplier",
    aggregate_id=b"S-4711",
    tenant=b"acme",
    payload=b'{"price": 1.10}',
    occurred_at=b"2025-11-20 10:00:00",
    event_id=None,
    payload_size=15,
)
BARE = RawRow(7, b"COMMITTED", None, None, None, None, None, None, 0)
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def verdict(row: RawRow, **kwargs: object) -> Draft | Rejection:
    given = {"file_uuid": FILE, "default_tenant": "", "max_payload": LIMIT, "now": NOW} | kwargs
    return judge(row, **given)  # type: ignore[arg-type]


def draft(row: RawRow, **kwargs: object) -> Draft:
    judged = verdict(row, **kwargs)
    assert isinstance(judged, Draft), judged
    return judged


def rejection(row: RawRow, **kwargs: object) -> Rejection:
    judged = verdict(row, **kwargs)
    assert isinstance(judged, Rejection), judged
    assert judged.outbox_id == row.outbox_id
    return judged


def paid(payload: bytes) -> RawRow:
    return ROW._replace(payload=payload, payload_size=len(payload))


def test_a_row_becomes_an_event() -> None:
    judged = draft(ROW)
    assert judged == Draft(
        outbox_id=7,
        event_id=judged.event_id,
        event_type="supplier.created",
        aggregate_type="supplier",
        aggregate_id="S-4711",
        tenant="acme",
        payload=b'{"price": 1.10}',
        occurred_at="2025-11-20T10:00:00.000Z",
        occurred_at_guessed=False,
    )


def test_only_the_event_type_is_needed() -> None:
    judged = draft(BARE)
    assert judged == Draft(
        outbox_id=7,
        event_id=judged.event_id,
        event_type="COMMITTED",
        aggregate_type="",
        aggregate_id="",
        tenant="",
        payload=None,
        occurred_at=to_text(NOW),
        occurred_at_guessed=False,
        aggregate_type_made=True,
    )


def test_empty_text_counts_as_absent() -> None:
    empty = BARE._replace(
        aggregate_type=b"", aggregate_id=b"", tenant=b"", occurred_at=b"", event_id=b""
    )
    assert draft(empty, default_tenant="acme") == draft(BARE, default_tenant="acme")


@pytest.mark.parametrize(
    ("event_type", "aggregate_type"),
    [
        (b"supplier.created", "supplier"),
        (b"erp.supplier.created", "erp.supplier"),
        (b"COMMITTED", ""),
        (b".created", ""),
        (b"supplier.", "supplier"),
    ],
)
def test_an_absent_aggregate_type_is_what_stands_before_the_last_dot(
    event_type: bytes, aggregate_type: str
) -> None:
    assert draft(BARE._replace(event_type=event_type)).aggregate_type == aggregate_type


def test_the_default_tenant_is_for_rows_without_one() -> None:
    assert draft(ROW, default_tenant="other").tenant == "acme"
    assert draft(BARE, default_tenant="other").tenant == "other"


@pytest.mark.parametrize("event_type", [b"x", b"x" * 256, b"return_parcel_created@v3", b"webhookd"])
def test_event_types(event_type: bytes) -> None:
    assert draft(ROW._replace(event_type=event_type)).event_type == event_type.decode()


@pytest.mark.parametrize(
    ("event_type", "said", "shown"),
    [
        (None, "NULL", ""),
        (b"", "empty", ""),
        (b"a b", "not visible ASCII: a b", "a b"),
        (b"a\r\nX-Evil: 1", "not visible ASCII: a\\r\\nX-Evil: 1", "a\\r\\nX-Evil: 1"),
        (b"created\n", "not visible ASCII", "created\\n"),
        (b"a\x00b", "not visible ASCII", "a\\x00b"),
        ("é".encode(), "not visible ASCII", "é"),
        (b"\xff", "not visible ASCII", "\\xff"),
        (b"\xff" * 5000, "not visible ASCII", "\\xff" * 19 + "…"),
        (b"x" * 257, "257 characters long", "x" * 79 + "…"),
        (b"x" * 5000, "5000 characters long", "x" * 79 + "…"),
        (b"webhookd.subscription.disabled", "webhookd.", "webhookd.subscription.disabled"),
    ],
)
def test_A20_bad_event_types(event_type: bytes | None, said: str, shown: str) -> None:
    judged = rejection(ROW._replace(event_type=event_type))
    assert judged.reason is RejectionReason.BAD_EVENT_TYPE
    assert said in judged.detail
    assert "event_type" in judged.detail
    assert judged.shown_type == shown


@pytest.mark.parametrize("event_id", [b"a", b"A-z_0:9", b"x" * 128])
def test_a_hosts_own_event_id_is_kept(event_id: bytes) -> None:
    assert draft(ROW._replace(event_id=event_id)).event_id == event_id.decode()


@pytest.mark.parametrize(
    ("event_id", "said"),
    [
        (b"a b", "a b"),
        (b"a\n", "a\\n"),
        (b"a.b", "a.b"),
        ("é".encode(), "é"),
        (b"\xff", "\\xff"),
        (b"x" * 129, "129 characters long"),
    ],
)
def test_bad_event_ids(event_id: bytes, said: str) -> None:
    judged = rejection(ROW._replace(event_id=event_id))
    assert judged.reason is RejectionReason.BAD_EVENT_ID
    assert "event_id" in judged.detail
    assert said in judged.detail


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("aggregate_type", RejectionReason.BAD_AGGREGATE_TYPE),
        ("aggregate_id", RejectionReason.BAD_AGGREGATE_ID),
        ("tenant", RejectionReason.BAD_TENANT),
    ],
)
@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a\x00b", "\\x00 at 1"),
        (b"\x1b[31m", "\\x1b at 0"),
        (b"ab\n", "\\n at 2"),
        (b"\x7f", "\\x7f at 0"),
        ("é\x85".encode(), "\\x85 at 1"),
        (b"x" * 513, "513 characters long"),
        (b"x" * 5_000_000, "5000000 characters long"),
        (b"ok\xff", "not UTF-8 at byte 2"),
    ],
    ids=["NUL", "ESC", "LF", "DEL", "NEL", "513", "megabytes", "not UTF-8"],
)
def test_A2_A21_bad_text_names_its_column(
    column: str, reason: RejectionReason, raw: bytes, said: str
) -> None:
    judged = rejection(ROW._replace(**{column: raw}))
    assert judged.reason is reason
    assert judged.detail.startswith(column)
    assert said in judged.detail


@pytest.mark.parametrize("column", ["aggregate_type", "aggregate_id", "tenant"])
@pytest.mark.parametrize("text", ["12", "é" * 512, "a b\u00a0c\u200d", " "])
def test_other_text_is_taken_as_it_is(column: str, text: str) -> None:
    assert getattr(draft(ROW._replace(**{column: text.encode()})), column) == text


@pytest.mark.parametrize("payload", [b" {} \n", b"[1.10, 1e400]", b'{"a":1,"a":2}', b'"\\ud800"'])
def test_A9_a_payload_is_kept_byte_for_byte(payload: bytes) -> None:
    assert draft(paid(payload)).payload == payload


@pytest.mark.parametrize("payload", [b"", b"  ", b"{", b"NaN", b'"\xff"', b"{}\x00", b"[" * 990])
def test_A1_A2_A3_A4_A8_bad_payloads(payload: bytes) -> None:
    judged = rejection(paid(payload))
    assert judged.reason is RejectionReason.BAD_PAYLOAD
    assert judged.detail.startswith("payload: ")


def test_A1_the_offset_is_told() -> None:
    assert rejection(paid(b'{"a": oops}')).detail == "payload: expecting value at byte 6"


@pytest.mark.parametrize("payload", [None, b"1" * (LIMIT + 1)])
def test_A6_A7_a_payload_over_the_limit_is_told_with_both_sizes(payload: bytes | None) -> None:
    judged = rejection(ROW._replace(payload=payload, payload_size=LIMIT + 1))
    assert judged.reason is RejectionReason.PAYLOAD_TOO_LARGE
    assert judged.detail == "payload is 1001 bytes long; outbox.max_payload is 1000"


def test_a_payload_at_the_limit_is_taken() -> None:
    assert draft(paid(b"1" * LIMIT)).payload == b"1" * LIMIT


def test_a_payload_that_was_not_loaded_never_becomes_an_id_only_event() -> None:
    with pytest.raises(ValueError, match="row 7: its payload was not loaded"):
        verdict(ROW._replace(payload=None, payload_size=LIMIT))


@pytest.mark.parametrize(
    "raw", [b"garbage", b"0000-01-01", b"\xff\xfe", b"2024-05-06\x00", b"1700000000", b" "]
)
def test_A30_an_unreadable_occurred_at_becomes_the_time_of_ingest(raw: bytes) -> None:
    judged = draft(ROW._replace(occurred_at=raw))
    assert judged.occurred_at == to_text(NOW)
    assert judged.occurred_at_guessed


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"2100-01-01T00:00:00+01:00", "2099-12-31T23:00:00.000Z"),
        (b"2024-05-06 07:08:09", "2024-05-06T07:08:09.000Z"),
        (b"1815-12-10", "1815-12-10T00:00:00.000Z"),
    ],
)
def test_A30_a_readable_occurred_at_is_kept(raw: bytes, text: str) -> None:
    judged = draft(ROW._replace(occurred_at=raw))
    assert judged.occurred_at == text
    assert not judged.occurred_at_guessed


@pytest.mark.parametrize(
    ("row", "event_id"),
    [
        (ROW, "019aa0b4-e100-739c-affa-3888e418cf8c"),
        (BARE, "00000000-0007-7a06-84ef-b35e98cf1d2a"),
    ],
    ids=["all columns", "type alone"],
)
def test_a_made_event_id_is_the_same_in_every_version(row: RawRow, event_id: str) -> None:
    assert draft(row).event_id == event_id


@pytest.mark.parametrize("row", [ROW, BARE, ROW._replace(occurred_at=b"garbage")])
def test_B9_a_row_ingested_again_after_a_restore_gets_the_same_id(row: RawRow) -> None:
    again = draft(row, now=NOW + 86_400_000, default_tenant="set since", max_payload=2 * LIMIT)
    assert again.event_id == draft(row).event_id


@pytest.mark.parametrize(
    ("row", "time"),
    [
        (ROW, from_text("2025-11-20T10:00:00.000Z")),
        (ROW._replace(occurred_at=b"1815-12-10"), 0),
        (ROW._replace(occurred_at=b"9999-12-31T23:59:59.999"), 253_402_300_799_999),
        (BARE, 7),
        (BARE._replace(occurred_at=b"garbage"), 7),
        (BARE._replace(outbox_id=-5), 0),
        (BARE._replace(outbox_id=2**63 - 1), 2**48 - 1),
        (BARE._replace(outbox_id=-(2**63)), 0),
    ],
)
def test_the_time_of_a_made_event_id(row: RawRow, time: int) -> None:
    event_id = draft(row).event_id
    assert UUID7.fullmatch(event_id)
    assert int(event_id.replace("-", "")[:12], 16) == time


OTHERS = [
    ROW._replace(outbox_id=8),
    ROW._replace(event_type=b"supplier.changed"),
    ROW._replace(aggregate_type=None),
    ROW._replace(aggregate_id=b"S-4712"),
    ROW._replace(tenant=None),
    ROW._replace(occurred_at=b"2025-11-20T10:00:00"),
    ROW._replace(occurred_at=b"2025-11-20 10:00:00.0001"),
    ROW._replace(payload=b'{"price":1.10}', payload_size=14),
    ROW._replace(payload=None, payload_size=0),
    ROW._replace(aggregate_type=b"supplierS", aggregate_id=b"-4711"),
    ROW._replace(tenant=b"acmesupplier", aggregate_type=b""),
]


def test_every_column_and_its_length_count_in_a_made_event_id() -> None:
    ids = [draft(row).event_id for row in [ROW, *OTHERS]]
    ids.append(draft(ROW, file_uuid=FILE[:-1] + "1").event_id)
    assert len(set(ids)) == len(OTHERS) + 2


def test_A18_a_duplicate_is_told_by_its_id() -> None:
    judged = draft(ROW._replace(event_id=b"order-1", event_type=b"x" * 200))
    assert duplicate(judged) == Rejection(
        7, RejectionReason.DUPLICATE_EVENT_ID, "event_id order-1 was seen before", "x" * 79 + "…"
    )


def test_the_reasons_are_a_closed_list() -> None:
    assert {reason.value for reason in RejectionReason} == {
        "bad_event_type",
        "bad_event_id",
        "duplicate_event_id",
        "bad_payload",
        "payload_too_large",
        "bad_aggregate_type",
        "bad_aggregate_id",
        "bad_tenant",
        "payload_mismatch",
    }


COLUMN = st.none() | st.binary(max_size=20) | st.text(max_size=20).map(str.encode)


@given(
    st.tuples(COLUMN, COLUMN, COLUMN, COLUMN, COLUMN, COLUMN, COLUMN),
    st.integers(-(2**63), 2**63 - 1),
)
def test_A2_A29_any_row_is_judged_and_none_raises(
    columns: tuple[bytes | None, ...], outbox_id: int
) -> None:
    event_type, aggregate_type, aggregate_id, tenant, payload, occurred_at, event_id = columns
    row = RawRow(
        outbox_id,
        event_type,
        aggregate_type,
        aggregate_id,
        tenant,
        payload,
        occurred_at,
        event_id,
        len(payload or b""),
    )
    judged = verdict(row)
    if isinstance(judged, Rejection):
        assert judged.detail.isprintable()
        assert 0 < len(judged.detail) <= MAX_DETAIL
        assert judged.shown_type.isprintable()
        assert len(judged.shown_type) <= MAX_SHOWN_TYPE
    else:
        assert re.fullmatch(r"[A-Za-z0-9_:-]{1,128}", judged.event_id)
        assert to_text(from_text(judged.occurred_at)) == judged.occurred_at
        assert judged.payload is payload


def test_a_mismatch_is_one_line_of_bounded_length() -> None:
    found = mismatch(draft(ROW), "payload.a\n" + "x" * 400)
    assert (found.outbox_id, found.reason) == (7, RejectionReason.PAYLOAD_MISMATCH)
    assert found.detail.startswith("payload.a\\nx")
    assert len(found.detail) == MAX_DETAIL
    assert found.shown_type == "supplier.created"


def test_the_empty_id_of_a_captured_row_is_told_as_such() -> None:
    told = rejection(ROW._replace(aggregate_id=EMPTY_ID))
    assert told.reason is RejectionReason.BAD_AGGREGATE_ID
    assert told.detail == "aggregate_id: the captured row's id is an empty text"
    assert "control character" in rejection(ROW._replace(tenant=EMPTY_ID)).detail
    assert draft(ROW._replace(aggregate_id=b"")).aggregate_id == ""
