"""Captures and columns: what is judged before a host's table is looked at."""

from dataclasses import replace

import pytest

from tests.core.test_rows import BARE
from webhookd.core.capture import LONGEST_PREFIX, Action, Capture, fault
from webhookd.core.columns import NAMES, OWN, Columns, Constant
from webhookd.core.rows import made_event_id

GOOD = Capture("supplier", "supplier", "code")


@pytest.mark.parametrize(("changes", "said"), [
    ({}, ""),
    ({"event_prefix": "x" * LONGEST_PREFIX}, ""),
    ({"event_prefix": "x" * (LONGEST_PREFIX + 1)}, "at most"),
    ({"event_prefix": ""}, "visible ASCII"),
    ({"event_prefix": "a b"}, "visible ASCII"),
    ({"event_prefix": "webhookd"}, "kept for webhookd's own"),
    ({"actions": ()}, "--on: name"),
    ({"actions": (Action.INSERT,), "columns": ("a",)}, "add update to --on"),
])  # fmt: skip
def test_what_makes_no_sense(changes: dict[str, object], said: str) -> None:
    found = fault(replace(GOOD, **changes))  # type: ignore[arg-type]
    assert (said in found) if said else found == ""


def test_types_of_events() -> None:
    assert [GOOD.event_type(one) for one in Action] == [
        "supplier.created", "supplier.updated", "supplier.deleted",
    ]  # fmt: skip


def test_columns_say_what_differs() -> None:
    assert str(OWN) == ""
    assert not OWN.mapped
    mapped = Columns(tenant="", event_type=Constant("a"), id="k", order_column="at")
    assert mapped.mapped
    assert str(mapped) == "id = k, event_type = 'a', tenant = , order_column = at"
    assert list(OWN.needed) == list(NAMES)
    assert mapped.needed == {
        "at": "order_column", "k": "id", "aggregate_type": "aggregate_type",
        "aggregate_id": "aggregate_id", "payload": "payload", "occurred_at": "occurred_at",
        "event_id": "event_id",
    }  # fmt: skip


def test_a_made_id_goes_by_the_key_where_there_is_one() -> None:
    def made(number: int, key: bytes | None, occurred: int | None = None) -> str:
        return made_event_id(BARE._replace(outbox_id=number, key=key), "file", occurred)

    assert made(1, b"k") == made(2, b"k")
    assert made(1, b"k") != made(1, b"l")
    assert made(1, None) != made(1, b"k")
    assert made(7, b"k").startswith("00000000-0000-7")
    assert made(7, b"k", 1).startswith("00000000-0001-7")
