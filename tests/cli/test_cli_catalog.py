"""`catalog`, what `[outbox] validate` shows, and patterns that look like slips of the pen."""

import json

import pytest

WRONG = '{"entityType": "SUPPLIER", "created": "5", "updated": 3, "errors": 0}'
FAULT = (
    "payload.created: a whole number of 64 bits is needed, and a string is there "
    "(ntropy sync.completed)"
)


def test_list_needs_neither_a_file_nor_a_configuration(bare):
    bare.config.unlink()
    found = json.loads(bare.invoke("catalog", "list", "--json").stdout)
    assert len(found) == 83
    assert found[0] == {
        "system": "ntropy",
        "type": "supplier.created",
        "event_type": "supplier.created",
        "aggregate_type": None,
        "description": "New supplier synced from external system",
    }
    assert bare.json("catalog", "list", "--system", "floriday")[6] == {
        "system": "floriday",
        "type": "SALESORDER.COMMITTED",
        "event_type": "COMMITTED",
        "aggregate_type": "SALESORDER",
        "description": "An order is fully approved and may be continued for logistical processing.",
    }


@pytest.mark.parametrize(("system", "count"), [("ntropy", 14), ("floriday", 18), ("onestock", 51)])
def test_list_of_one_system(bare, system, count):
    heading, *lines = bare("catalog", "list", "--system", system).stdout.splitlines()
    assert heading.split() == ["SYSTEM", "TYPE", "DESCRIPTION"]
    assert len(lines) == count
    assert all(line.startswith(system) for line in lines)


def test_show_has_fields_example_and_facts(bare):
    shown = bare.json("catalog", "show", "supplier.created")
    assert shown["payload"] == "data"
    assert json.loads(shown["example"]) == {"externalId": "VENDOR-001", "internalId": "clx..."}
    assert shown["fields"][-2:] == [
        {"path": "data.externalId", "type": "string (e.g. VENDOR-001)", "required": True},
        {"path": "data.internalId", "type": "string (e.g. clx...)", "required": True},
    ]
    said = bare("catalog", "show", "item_import_error_occurred").stdout.splitlines()
    assert "since         12.4" in said
    assert "payload       is the whole body" in said
    assert said[-5:] == [
        "import_id           string          no",
        "errors              list of object  yes",
        "errors[].entity_id  string          no",
        "errors[].message    string          yes",
        "date                int64           yes",
    ]


@pytest.mark.parametrize("name", ["BATCH/CREATED", "BATCH.CREATED"])
def test_show_takes_a_pair_both_ways(bare, name):
    shown = bare.json("catalog", "show", name)
    assert (shown["type"], shown["payload"], shown["example"]) == ("BATCH.CREATED", None, None)
    assert shown["facts"]["get"] == "/batches/{batchId}"
    assert "has no place in the body" in bare("catalog", "show", name).stdout


def test_show_of_a_name_that_is_none(bare):
    line = bare.fails("catalog", "show", "supplier.crated", code=1)
    assert line.startswith("no event type 'supplier.crated' in the catalogue; near: supplier.cre")
    assert "near: BATCH.CREATED, DELIVERYORDER.CREATED" in bare.fails(
        "catalog", "show", "CREATED", code=1
    )


def test_a_rejected_row_says_where_it_differs(webhookd):
    webhookd.configure('[outbox]\nvalidate = "reject"\n')
    line = webhookd.fails("events", "emit", "sync.completed", "--payload", WRONG, code=2)
    assert line == f"{FAULT}; nothing was inserted"
    assert webhookd.json("events", "list") == []


def test_emit_warns_and_show_says_so_for_as_long_as_the_event_is_kept(webhookd):
    webhookd.configure('[outbox]\nvalidate = "warn"\n')
    result = webhookd("events", "emit", "sync.completed", "--payload", WRONG)
    assert (result.stdout, result.stderr) == ("1\n", f"webhookd: warning: {FAULT}\n")
    assert webhookd("events", "emit", "own.type", "--payload", WRONG).stderr == ""
    assert webhookd("events", "emit", "sync.completed").stderr == ""
    webhookd.ingest()
    first, second, third = (one["event_id"] for one in webhookd.json("events", "list")[::-1])
    assert webhookd.json("events", "show", first)["payload_fault"] == FAULT
    assert FAULT in webhookd("events", "show", first).stdout
    for other in (second, third):
        assert webhookd.json("events", "show", other)["payload_fault"] is None
        assert "payload_fault" not in webhookd("events", "show", other).stdout
    webhookd.sql("UPDATE webhookd_events SET payload = x'' WHERE event_id = ?", third)
    assert webhookd.json("events", "show", third)["payload_fault"] is None
    webhookd.configure('[outbox]\nvalidate = "warn"\ncatalog = ["onestock"]\n')
    assert webhookd.json("events", "show", first)["payload_fault"] is None
    webhookd.configure("")
    assert webhookd.json("events", "show", first)["payload_fault"] is None


SLIP = (
    "webhookd: warning: --events: no known type matches `supplier.crated`; near: supplier.created\n"
)


def test_a_pattern_that_looks_like_a_slip_is_warned_of_and_taken(webhookd):
    result = webhookd(
        *("subscriptions", "add", "https://partner.example/in", "--name", "partner"),
        *("--events", "supplier.crated,order.*,supplier.updated"),
    )
    assert result.stderr == SLIP
    assert webhookd.json("subscriptions", "show", "partner")["events"][0] == "supplier.crated"
    changed = webhookd("subscriptions", "update", "partner", "--events", "supplier.crated,a.b")
    assert changed.stderr == SLIP
    assert webhookd("subscriptions", "update", "partner", "--timeout", "3s").stderr == ""


def test_a_host_that_sends_types_of_its_own_is_left_in_peace(webhookd):
    webhookd.emit("invoice.created")
    webhookd.emit("supplier.crated")
    webhookd.ingest()
    add = ("subscriptions", "add", "https://partner.example/in", "--events")
    assert webhookd(*add, "supplier.crated").stderr == ""
    assert webhookd(*add, "supplier.updates").stderr == ""
    assert "near: invoice.created" in webhookd(*add, "invoice.cretaed").stderr
    said = webhookd(*add, "supplier.updates", "--profile", "ntropy").stderr
    assert "near: supplier.updated" in said


def test_every_type_can_be_shown(bare):
    for one in bare.json("catalog", "list"):
        said = bare("catalog", "show", one["type"]).stdout
        assert "\ntype" in said
        assert one["type"] in said
