"""Where in the host's table the columns of the outbox are."""

from webhookd.core.columns import NAMES, OWN, TEXTS, Columns, Constant


def test_only_what_differs_is_said() -> None:
    assert str(OWN) == ""
    assert str(Columns(tenant=Constant("acme"), order_column="at", payload="")) == (
        "tenant = 'acme', payload = , order_column = at"
    )


def test_what_init_makes_is_not_mapped() -> None:
    assert not OWN.mapped
    assert Columns(payload="").mapped
    assert Columns(order_column="at").mapped


def test_texts_are_in_the_order_of_a_row() -> None:
    columns = Columns(event_type="type", tenant=Constant("acme"), payload="")
    assert columns.texts == (
        "type", "aggregate_type", "aggregate_id", Constant("acme"), "", "occurred_at", "event_id",
    )  # fmt: skip
    assert ("id", *TEXTS) == NAMES


def test_only_columns_that_are_named_are_needed() -> None:
    columns = Columns(id="nr", tenant=Constant("acme"), payload="", order_column="nr")
    needed = columns.needed
    assert needed["nr"] == "id"
    assert {"tenant", "acme", "payload", ""}.isdisjoint(needed)
    assert needed["event_type"] == "event_type"
    assert Columns(order_column="at").needed["at"] == "order_column"
