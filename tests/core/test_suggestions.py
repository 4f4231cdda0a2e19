"""Slips of the pen are found; a host's own types are left in peace."""

import json

import pytest

from webhookd.core.catalog import joined, read
from webhookd.core.suggestions import (
    LONGEST,
    MOST_PATTERNS,
    MOST_SEEN,
    SHOWN,
    Known,
    doubts,
    nearest,
)


def catalog(system, *types):
    return read(
        json.dumps(
            {
                "system": system,
                "name": system,
                "source": "",
                "payload": "",
                "types": [
                    {"event_type": one, "aggregate_type": above, "description": "", "body": {}}
                    for above, _, one in (name.rpartition("/") for name in types)
                ],
            }
        )
    )


CATALOG = joined(
    [
        catalog("first", "supplier.created", "supplier.updated", "supplier.deleted"),
        catalog("second", "SALESORDER/COMMITTED", "BATCH/CREATED"),
        catalog("third", "order_state_changed", "shipment_created", "item_import_completed"),
    ]
)
FRESH = Known([], CATALOG)


def near(pattern, known=FRESH, profile="standard"):
    found = doubts([pattern], known, profile)
    assert len(found) <= 1
    if not found:
        return []
    head, _, names = found[0].partition("; near: ")
    assert head == f"no known type matches `{pattern}`"
    return names.split(", ")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("supplier.crated", ["supplier.created"]),
        ("supplier.craeted", ["supplier.created"]),
        ("supplier.createdd", ["supplier.created"]),
        ("supplier.creatad", ["supplier.created"]),
        ("Supplier.Created", ["supplier.created"]),
        ("suplier.*", ["supplier.created", "supplier.deleted", "supplier.updated"]),
        ("*_state_chnaged", ["order_state_changed"]),
        ("order*_chnaged", ["order_state_changed"]),
        ("BATCH/CREATED", ["BATCH.CREATED"]),
        ("salesorder.COMMITTED", ["SALESORDER.COMMITTED"]),
        ("webhookd.subscription.failng", ["webhookd.subscription.failing"]),
    ],
)
def test_a_slip_is_found(pattern, names):
    assert near(pattern) == names


@pytest.mark.parametrize(
    "pattern",
    [
        *("*", "supplier.*", "supplier.created", "COMMITTED", "SALESORDER.*", "*_changed"),
        *("webhookd.*", "webhookd.events.rejected"),
    ],
)
def test_what_matches_a_known_type_is_not_doubted(pattern):
    assert near(pattern) == []


@pytest.mark.parametrize(
    "pattern",
    [
        *("order.*", "shipment.*", "shipment.created", "supplier_created", "product.archived"),
        *("supplier.approved", "supplier.merged", "x", "dds.*", "invoice.created"),
        *("item_import_completed@v2", "supplierxcreated", "supplier", "s" * 70),
    ],
)
def test_types_of_the_hosts_own_are_left_in_peace(pattern):
    assert near(pattern) == []


def test_what_the_host_has_sent_is_known_too():
    known = Known([("invoice.created", "invoice"), ("DONE", "PURCHASEORDER")], CATALOG)
    assert near("invoice.created", known) == []
    assert near("PURCHASEORDER.DONE", known) == []
    assert near("invoice.craeted", known) == ["invoice.created"]
    assert near("PURCHASORDER.DONE", known) == ["PURCHASEORDER.DONE"]


def test_a_host_with_types_of_its_own_hears_nothing_of_catalogues_that_it_does_not_use():
    known = Known([("invoice.created", "invoice")], CATALOG)
    assert near("supplier.updates", known) == []
    assert near("supplier.updates", known, profile="first") == ["supplier.updated"]
    used = Known([("supplier.deleted", "supplier")], CATALOG)
    assert near("supplier.updates", used) == ["supplier.updated"]


def test_only_so_many_patterns_and_names():
    assert len(doubts(["supplier.crated"] * 2 * MOST_PATTERNS, FRESH, "")) == MOST_PATTERNS
    assert len(nearest("suplier.*", [f"supplier.{one}" for one in "abcdef"])) == SHOWN


def test_only_so_many_types_of_the_hosts_own_and_none_that_are_too_long():
    seen = [(f"made.number{at}", "") for at in range(MOST_SEEN + 1)]
    seen.insert(0, ("thing.of." + "x" * LONGEST, ""))
    names = Known(seen, CATALOG).names("")
    assert f"made.number{MOST_SEEN - 2}" in names
    assert f"made.number{MOST_SEEN - 1}" not in names
    assert max(map(len, names)) <= LONGEST
