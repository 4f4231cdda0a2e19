"""A host's table whose order column has a row far too high, or many that are alike."""

from pathlib import Path

import pytest

from tests.store.mapped import KINDS, LEDGERS, ORDERED, Mapped
from webhookd.store import ledger, sources
from webhookd.store.inspection import NEWER_TOLD, _ledger
from webhookd.store.ledger import LedgerOutbox
from webhookd.store.transaction import Session
from webhookd.store.walk import PIECE

WITH_ORDER = [kind for kind in LEDGERS if kind in ORDERED]
FAR = {"text order": "9999-12-31"}


@pytest.fixture(params=WITH_ORDER)
def mapped(request, tmp_path):
    """Some pieces of rows that are taken in, and behind them one that is far ahead."""
    made = Mapped(tmp_path / "erp.db", request.param)
    for n in range(3 * PIECE):
        made.row(f"k{n:05}")
    made.row("far", seq=FAR.get(made.kind, 10**12))
    made.look(100)
    assert made.rows("SELECT count(*) FROM webhook_events") == [(3 * PIECE + 1,)]
    yield made
    made.close()


def outbox(mapped: Mapped, session: Session) -> LedgerOutbox:
    found = sources.open_outbox(
        session.connection, mapped.path, session.file, mapped.columns, 1_000
    )
    assert isinstance(found, LedgerOutbox)
    return found


def lag(mapped: Mapped) -> int:
    with Session(mapped.path, write=False) as session:
        return outbox(mapped, session).lag(session.connection, session.file.cursor, 1_000)


def warnings(mapped: Mapped) -> list[str]:
    with Session(mapped.path, write=False) as session:
        return [one.text for one in _ledger(session.connection, outbox(mapped, session))]


def test_what_comes_behind_it_is_lag_until_it_is_found(mapped: Mapped) -> None:
    assert lag(mapped) == 0
    for n in range(3):
        mapped.row(f"new{n}")
    assert lag(mapped) == 3
    mapped.look(100)
    shown = mapped.rows("SELECT event_id FROM webhook_events ORDER BY sequence DESC LIMIT 3")
    assert shown == [("new2",), ("new1",), ("new0",)]
    assert lag(mapped) == 0


@pytest.mark.parametrize("how", ["put right", "deleted"])
def test_once_it_is_gone_the_front_begins_anew(mapped: Mapped, how: str) -> None:
    if how == "deleted":
        mapped.host.execute("DELETE FROM outboxevent WHERE id = 'far'")
    else:
        mapped.host.execute(
            "UPDATE outboxevent SET seq = (SELECT max(seq) FROM outboxevent WHERE id <> 'far')"
            " WHERE id = 'far'"
        )
    mapped.look(100)
    mapped.seq += 10
    mapped.row("new")
    mapped.store.changed()
    seen = mapped.store.outlook()
    assert seen.outbox_end is not None
    assert seen.outbox_end > seen.cursor, "one look finds it"


def test_a_host_that_takes_its_newest_rows_away_waits_no_round(
    mapped: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PIECES_A_LOOK", 1)
    mapped.host.execute("DELETE FROM outboxevent WHERE id = 'far'")
    mapped.look(100)
    for n in range(3):
        mapped.row(f"new{n}")
        mapped.store.changed()
        seen = mapped.store.outlook()
        assert seen.outbox_end is not None
        assert seen.outbox_end > seen.cursor, "one look finds it"
        mapped.look(100)
        mapped.host.execute("DELETE FROM outboxevent WHERE id = ?", (f"new{n}",))
        mapped.store.changed()
        mapped.store.outlook()


def test_a_restart_with_it_finds_all_in_a_round(mapped: Mapped) -> None:
    mapped.row("new")
    mapped.store.close()
    mapped.store = type(mapped.store)(mapped.path, **mapped.options)
    assert not mapped.store.went_round()
    while not mapped.store.went_round():
        seen = mapped.store.outlook()
        if seen.outbox_end is not None and seen.outbox_end > seen.cursor:
            mapped.ingest_all()
    newest = mapped.rows("SELECT event_id FROM webhook_events ORDER BY sequence DESC LIMIT 1")
    assert newest == [("new",)]


def test_check_names_it_once_many_came_after(mapped: Mapped) -> None:
    told = f"has a row whose seq is higher than that of {NEWER_TOLD} rows inserted after it"
    for n in range(NEWER_TOLD - 1):
        mapped.row(f"new{n}")
    assert not any(told in one for one in warnings(mapped))
    mapped.row("one more")
    numbered = "WITHOUT ROWID" not in KINDS[mapped.kind][0]
    assert any(told in one for one in warnings(mapped)) is numbered


def test_a_piece_does_not_begin_at_the_first_of_those_alike(mapped: Mapped) -> None:
    place = "rowid" if "WITHOUT ROWID" not in KINDS[mapped.kind][0] else "id"
    with Session(mapped.path, write=False) as session:
        walk = outbox(mapped, session)._front
        assert walk is not None
        for sql in walk.pieces["above"]:
            plan = session.connection.execute(
                f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?")
            ).fetchall()
            steps = " | ".join(row[3] for row in plan)
            assert f"(seq=? AND {place}>?)" in steps, steps
            assert "(seq>?)" in steps, steps


@pytest.mark.parametrize("kind", WITH_ORDER)
def test_rows_alike_are_taken_in_once_and_in_their_order(kind: str, tmp_path: Path) -> None:
    made = Mapped(tmp_path / "erp.db", kind)
    alike = FAR.get(kind, 7)
    for n in range(2 * PIECE + 7):
        made.row(f"k{n:05}", seq=alike)
    made.look(100)
    shown = [key for (key,) in made.rows("SELECT event_id FROM webhook_events ORDER BY sequence")]
    assert shown == [f"k{n:05}" for n in range(2 * PIECE + 7)]
    made.row("later", seq=FAR.get(kind, 8))
    made.look(100)
    assert len(made.rows("SELECT 1 FROM webhook_events")) == 2 * PIECE + 8
    made.close()


@pytest.mark.parametrize("kind", WITH_ORDER)
def test_a_start_at_the_end_passes_over_rows_alike(kind: str, tmp_path: Path) -> None:
    """What `init` adopts is none of webhookd's business, and what comes then is."""
    made = Mapped(tmp_path / "erp.db", kind, start="end", rows=3)
    made.row("first")
    made.look()
    assert made.rows("SELECT event_id FROM webhook_events") == [("first",)]
    made.close()
