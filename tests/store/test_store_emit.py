"""A row and a subscription as commands write them."""

from typing import Any

import pytest

from tests.store.conftest import NOW, Box
from webhookd.errors import Refused, UsageError
from webhookd.store.emit import NewRow, emit


def put(box: Box, row: NewRow, **changes: Any) -> int:
    given = {"default_tenant": "", "max_payload": 100, "now": NOW} | changes
    found = box.command(lambda t: emit(t, row, **given))
    assert isinstance(found, int)
    return found


def test_a_row_as_a_host_would_insert_it(box: Box) -> None:
    assert put(box, NewRow("a.b", aggregate_id="S-1", payload='{"a": 1}', event_id="E-1")) == 1
    assert put(box, NewRow("a.b")) == 2
    assert box.rows("SELECT * FROM outbox") == [
        (1, "a.b", None, "S-1", None, '{"a": 1}', None, "E-1"),
        (2, "a.b", None, None, None, None, None, None),
    ]
    assert box.ingest().events == 2


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (NewRow("a b"), "event_type has characters"),
        (NewRow("a", payload="{"), "payload: "),
        (NewRow("a", payload=""), "payload: blank text"),
        (NewRow("a", payload='"' + "x" * 99 + '"'), "payload is 101 bytes long"),
        (NewRow("a", occurred_at="soon"), "occurred_at is no moment"),
        (NewRow("a", tenant="\udcff"), "tenant is not UTF-8"),
        (NewRow("a", payload='"\ud800"'), "payload: not UTF-8"),
    ],
)
def test_what_ingest_would_reject_is_not_inserted(box: Box, row: NewRow, fault: str) -> None:
    with pytest.raises(UsageError, match=f"{fault}.*; nothing was inserted"):
        put(box, row)
    assert box.one("SELECT count(*) FROM outbox") == 0


def test_an_event_id_that_was_seen_before(box: Box) -> None:
    put(box, NewRow("a", event_id="E-1"))
    box.ingest()
    with pytest.raises(Refused, match="event_id E-1 is that of outbox row 1 already"):
        put(box, NewRow("a", event_id="E-1"))


def test_nothing_is_written_into_the_hosts_own_table(box: Box) -> None:
    box.host.execute("UPDATE webhookd_file SET outbox_ours = 0")
    with pytest.raises(Refused, match="outbox: is the host's own table"):
        put(box, NewRow("a"))
