"""`webhookd capture`, from an operator's side."""

import pytest

from tests.cli.conftest import Cli

ADD = ("capture", "add", "supplier", "--event-prefix", "supplier", "--id-column", "code")


def test_a_capture_from_its_beginning_to_its_end(webhookd: Cli) -> None:
    webhookd.sql("CREATE TABLE supplier (code TEXT, name TEXT)")
    done = webhookd(*ADD)
    assert done.stdout.startswith("supplier: captured by 4 triggers, as supplier.created")
    assert "in the host's own transaction" in done.stderr
    assert "fails if outbox is ever dropped" in done.stderr
    webhookd.sql("INSERT INTO supplier VALUES ('S1', 'a')")
    webhookd.ingest()
    (event,) = webhookd.json("events", "list")
    assert (event["event_type"], event["aggregate_id"]) == ("supplier.created", "S1")
    (shown,) = webhookd.json("capture", "list")
    assert (shown["fault"], shown["on"]) == (None, ["insert", "update", "delete"])
    assert "CREATE TRIGGER" in webhookd("capture", "show", "supplier").stdout
    webhookd.sql("DROP TABLE supplier")
    assert "capture supplier: the table is gone" in webhookd("check", code=1).stdout
    assert "the table is gone" in webhookd("capture", "repair", code=1).stdout
    assert webhookd("capture", "remove", "supplier").stdout == "0 triggers removed\n"
    assert webhookd("capture", "list").stderr == "no table is captured\n"


def test_what_the_host_has_renamed_is_taken_over(webhookd: Cli) -> None:
    webhookd.sql("CREATE TABLE supplier (code TEXT UNIQUE, name TEXT)")
    webhookd(*ADD)
    webhookd.sql("ALTER TABLE supplier RENAME COLUMN code TO nummer")
    said = "the host has renamed its column code to nummer, and events still come"
    assert said in webhookd("check", code=1).stdout
    assert said in webhookd("capture", "list").stdout
    assert webhookd("capture", "repair").stdout == (
        "supplier: its new names are noted; the triggers had them, and no change was missed\n"
    )
    (shown,) = webhookd.json("capture", "list")
    assert (shown["id_column"], shown["fault"]) == ("nummer", None)


def test_a_row_whose_id_was_empty_goes_off_the_list_once_it_has_one(webhookd: Cli) -> None:
    webhookd.sql("CREATE TABLE supplier (code TEXT, name TEXT)")
    webhookd(*ADD)
    webhookd.sql("INSERT INTO supplier VALUES ('', 'a')")
    webhookd.ingest()
    webhookd.sql("UPDATE supplier SET code = 'S1' WHERE code = ''")
    webhookd.ingest()
    rejected = webhookd.json("events", "list", "--rejected")
    assert {row["event_type"] for row in rejected} == {"supplier.created", "supplier.deleted"}
    for row in rejected:
        webhookd.sql("DELETE FROM outbox WHERE id = ?", row["outbox_id"])
    webhookd("events", "retry-rejected", "--all", "--forget-gone")
    assert webhookd.json("events", "list", "--rejected") == []
    made = [row for row in webhookd.json("events", "list") if row["outbox_id"] is not None]
    assert [(row["event_type"], row["aggregate_id"]) for row in made] == [
        ("supplier.created", "S1")
    ]


def test_one_table_is_repaired_and_the_others_stay(webhookd: Cli) -> None:
    """An empty argument is a slip of a script's, and names no table."""
    for table in ("supplier", "buyer"):
        webhookd.sql(f"CREATE TABLE {table} (code TEXT UNIQUE)")
        webhookd("capture", "add", table, "--event-prefix", table, "--id-column", "code")
        webhookd.sql(f"DROP TRIGGER webhook_capture_{1 + (table == 'buyer')}_insert")
    assert webhookd.json("capture", "repair", "Buyer") == [
        {
            "table": "buyer",
            "made": [f"webhook_capture_2_{one}" for one in ("insert", "delete", "moved")],
            "fault": None,
        }
    ]
    again = webhookd("capture", "repair", "buyer").stdout
    assert again == "buyer: the capture is in place; nothing was changed\n"
    assert "lost 1 of its 3 triggers" in webhookd("capture", "list").stdout
    assert "is not captured" in webhookd.fails("capture", "repair", "other", code=1)
    assert "is not captured" in webhookd.fails("capture", "repair", "", code=1)
    assert webhookd("capture", "repair").stdout.startswith("supplier: 3 triggers made")
    webhookd.sql("ALTER TABLE buyer RENAME TO customer")
    assert webhookd.json("capture", "repair", "customer")[0]["table"] == "customer"


@pytest.mark.parametrize(
    ("sql", "more", "warned"),
    [
        ("CREATE TABLE supplier (nr INTEGER PRIMARY KEY, code TEXT)", (), True),
        ("CREATE TABLE supplier (code INTEGER PRIMARY KEY)", (), False),
        ("CREATE TABLE supplier (Code TEXT UNIQUE)", (), False),
        ("CREATE TABLE supplier (code TEXT, line INTEGER, PRIMARY KEY (code, line))", (), True),
        ("CREATE TABLE supplier (owner TEXT, code TEXT, UNIQUE (owner, code))", (), True),
        (
            "CREATE TABLE supplier (owner TEXT, code TEXT, UNIQUE (owner, code))",
            ("--tenant-column", "owner"),
            False,
        ),
    ],
)
def test_an_id_that_tells_no_rows_apart_is_warned_of(
    webhookd: Cli, sql: str, more: tuple[str, ...], warned: bool
) -> None:
    """Lines of orders by the number of the order can be what somebody wants: it is not refused."""
    webhookd.sql(sql)
    done = webhookd(*ADD, *more)
    found = [line for line in done.stderr.splitlines() if "warning" in line]
    said = (
        "webhookd: warning: supplier.code is neither PRIMARY KEY nor UNIQUE: rows with the same id "
        "make events of one aggregate, and nobody can tell which row changed"
    )
    assert found == [said] * warned
    webhookd("capture", "show", "supplier")


def test_a_partial_unique_index_is_none(webhookd: Cli) -> None:
    webhookd.sql("CREATE TABLE supplier (code TEXT, gone INTEGER)")
    webhookd.sql("CREATE UNIQUE INDEX one ON supplier (code) WHERE gone = 0")
    done = webhookd(*ADD, "--json")
    assert "warning: supplier.code is neither" in done.stderr
    assert '"fault": null' in done.stdout


def test_slips(webhookd: Cli) -> None:
    assert "no such table" in webhookd.fails(*ADD, code=1)
    assert "is a list of insert" in webhookd.fails(*ADD, "--on", "change", code=2)
    assert "name one table, or say --all" in webhookd.fails("capture", "remove", code=2)
