"""The catalogues that come with the package: whole, consistent, and read as they are written."""

import json
from collections import Counter
from importlib.resources import files

import pytest

from webhookd.config.catalog import of_system, of_systems, validation
from webhookd.config.settings import SYSTEMS, Outbox
from webhookd.core.catalog import Kind, ListOf, MapOf, Members, Shape, Single, outline
from webhookd.core.structure import fault

COUNTS = {"ntropy": 14, "floriday": 18, "onestock": 51}


def inside(shape: Shape) -> list[Shape]:
    match shape:
        case ListOf():
            return [shape, *inside(shape.member)]
        case MapOf():
            return [shape, *inside(shape.value)]
        case Members():
            return [shape, *(one for field in shape.fields for one in inside(field.shape))]
    return [shape]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_catalogue_has_all_types_of_its_system(system: str) -> None:
    catalog = of_system(system)
    assert len(catalog.types) == COUNTS[system]
    assert {one.system.id for one in catalog.types} == {system}
    assert all(one.system.name and one.system.source for one in catalog.types)
    for one in catalog.types:
        assert one.description, one.name
        assert list(outline(one.body)), one.name
        assert all(isinstance(value, str) and value for _, value in one.facts), one.name
        assert bool(one.aggregate_type) == (system == "floriday")


def test_no_type_is_in_two_systems_so_that_none_is_ambiguous() -> None:
    catalog = of_systems(SYSTEMS)
    assert len(catalog.types) == sum(COUNTS.values()) == 83
    named = Counter(one.name.casefold() for one in catalog.types)
    assert [name for name, count in named.items() if count > 1] == ["batch.created"]
    assert catalog.named("batch.created").system.id == "ntropy"
    assert catalog.named("BATCH.CREATED").system.id == "floriday"


def test_every_file_is_of_a_system() -> None:
    names = {one.name for one in (files("webhookd") / "catalog").iterdir()}
    assert names == {f"{system}.json" for system in SYSTEMS}


def test_every_key_of_a_file_is_read() -> None:
    for system in SYSTEMS:
        text = (files("webhookd") / "catalog" / f"{system}.json").read_text(encoding="utf-8")
        document = json.loads(text)
        assert set(document) <= {"system", "name", "source", "payload", "body", "types"}
        known = {"event_type", "aggregate_type", "description", "body", "example", "facts"}
        for one in document["types"]:
            assert set(one) <= known, one["event_type"]
            assert ("body" in one) != ("body" in document), one["event_type"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("supplier.created", {"externalId": "string (e.g. VENDOR-001)"}),
        ("sync.failed", {"entityType": "string (e.g. SUPPLIER)", "errors": "integer"}),
        ("dds.approved", {"ddsNumber": "string (e.g. DDS-2024-00042)", "newStatus": None}),
        ("order_state_changed", {"order_id": "string", "date": "int64", "new_state": "string"}),
        ("async_item_import_error_occurred", {"import_id": "string", "errors[].message": None}),
        ("entity_updated", {"diff": "map of any"}),
        ("candidates_added", {"endpoint_ids": "list of string"}),
        (
            "return_parcel_created@v3",
            {
                "delivery.destination.address.regions.*.code": "string",
                "return_line_item_groups[].quantity": "int64",
                "shipment.carrier_data": "string",
            },
        ),
    ],
)
def test_fields_of_payloads(name: str, fields: dict[str, str | None]) -> None:
    payload = of_systems(SYSTEMS).named(name).payload
    assert isinstance(payload, Members)
    found = {line.path: line.type for line in outline(payload)}
    for path, words in fields.items():
        assert found[path] == (words or found[path])


def test_what_is_not_always_there() -> None:
    lines = {
        line.path
        for one in of_systems(SYSTEMS).types
        for line in outline(one.body)
        if not line.required
    }
    assert lines == {"import_id", "errors[].entity_id"}


def test_bodies_and_what_of_them_the_payload_is() -> None:
    catalog = of_systems(SYSTEMS)
    ntropy, pair = catalog.named("batch.created"), catalog.named("BATCH/CREATED")
    assert [field.name for field in ntropy.body.fields] == [
        *("event", "timestamp", "integrationId", "data")
    ]
    assert ntropy.payload == ntropy.body.fields[3].shape
    assert [field.name for field in pair.body.fields] == [
        *("eventId", "eventType", "aggregateId", "aggregateType", "organizationId")
    ]
    assert pair.payload is None
    assert dict(pair.facts)["sync"] == "/batches/sync/{sequenceNumber}"
    topic = catalog.named("stock_export_completed")
    assert topic.payload == topic.body


def test_every_example_is_made_as_its_type_says() -> None:
    examples = [one for one in of_systems(SYSTEMS).types if one.example]
    assert len(examples) == COUNTS["ntropy"]
    for one in examples:
        assert one.payload is not None
        assert fault(one.example.encode(), one.payload) == "", one.name


def test_a_type_that_the_source_does_not_describe_can_be_anything() -> None:
    shapes = [one for known in of_systems(SYSTEMS).types for one in inside(known.body)]
    open_ones = {
        one.words.partition(" ")[0]
        for one in shapes
        if isinstance(one, Single) and one.kind is Kind.ANY
    }
    assert open_ones == {"any", "indexRange", "indexRanges", "IndexRanges"}


def test_what_payloads_are_held_against() -> None:
    assert validation(Outbox()) is None
    warned = validation(Outbox(validate="warn", catalog=("ntropy",)))
    assert warned is not None
    assert not warned.rejects
    assert warned.catalog.find("order_state_changed") is None
    assert warned.fault("sync.completed", "sync", b"{}").endswith("(ntropy sync.completed)")
    strict = validation(Outbox(validate="reject"))
    assert strict is not None
    assert strict.rejects
    assert len(strict.catalog.types) == 83
