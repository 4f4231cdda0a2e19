"""A real daemon on a table of the host's own, and on one that triggers watch."""

from tests.system.conftest import Receiver, Site, wait_until

MAPPED = """
[outbox]
table = "outboxevent"
ids = "never-reused"
[outbox.columns]
event_id = "id"
event_type = "type"
aggregate_type = "aggregatetype"
aggregate_id = "aggregateid"
tenant = ""
occurred_at = ""
"""
TABLE = (
    "CREATE TABLE outboxevent (id TEXT PRIMARY KEY, aggregatetype TEXT, aggregateid TEXT,"
    " type TEXT, payload TEXT)"
)


def rows(first: int, count: int) -> str:
    return (
        f"INSERT INTO outboxevent WITH RECURSIVE n(n) AS (SELECT {first} UNION ALL SELECT n + 1"
        f" FROM n WHERE n < {first + count - 1}) SELECT hex(randomblob(16)), 'order', n, 'a.b',"
        " NULL FROM n"
    )


def test_A22_A23_a_mapped_outbox_is_followed_through_a_kill_and_a_migration(
    site: Site, receiver: Receiver
) -> None:
    site.configure(MAPPED)
    site.database.touch()
    site.execute("PRAGMA journal_mode = WAL", TABLE)
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    child = site.daemon()
    site.execute(rows(0, 500))
    wait_until(lambda: sum(site.states().values()) >= 100, "the first batches")
    child.kill()
    child = site.daemon()
    site.until_delivered(500)
    site.execute("ALTER TABLE outboxevent RENAME COLUMN payload TO body")
    child.until_logged("ingest.stopped")
    site.execute("INSERT INTO outboxevent (id, type) VALUES ('waits', 'a.b')")
    site.execute("ALTER TABLE outboxevent RENAME COLUMN body TO payload")
    site.until_delivered(501)
    site.execute("ALTER TABLE outboxevent RENAME TO elsewhere")
    wait_until(lambda: len(child.log("ingest.stopped")) == 2, "a renamed table")
    site.execute("INSERT INTO elsewhere (id, type) VALUES ('waits-too', 'a.b')")
    site.execute("ALTER TABLE elsewhere RENAME TO outboxevent")
    site.until_delivered(502)
    site.execute("DROP TABLE outboxevent")
    wait_until(lambda: len(child.log("ingest.stopped")) == 3, "a dropped table")
    site.execute(TABLE, "INSERT INTO outboxevent (id, type) VALUES ('the-first-again', 'a.b')")
    site.until_delivered(503)
    events = site.rows("SELECT count(*), count(DISTINCT event_id) FROM webhook_events")
    assert events == [(503, 503)]
    assert child.stop() == 0


def test_a_captured_table_is_delivered(site: Site, receiver: Receiver) -> None:
    site.prepare()
    site.execute("CREATE TABLE supplier (code TEXT PRIMARY KEY, name TEXT)")
    site.command("capture", "add", "supplier", "--event-prefix", "s", "--id-column", "code")
    site.subscribe("one", receiver.url("/one"))
    child = site.daemon()
    site.execute(
        "INSERT INTO supplier VALUES ('S1', 'a')", "UPDATE supplier SET name = 'b'",
        "DELETE FROM supplier",
    )  # fmt: skip
    site.until_delivered(3)
    assert child.stop() == 0
