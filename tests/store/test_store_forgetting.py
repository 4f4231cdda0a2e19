"""The ledger of a host's own outbox: keys that say nothing any more go, and no others."""

from pathlib import Path
from typing import Any

import pytest

from tests.store.mapped import LEDGERS, Mapped
from tests.store.test_store_plans import faults
from webhookd.core.retention import DAY, Retention, Work
from webhookd.store import forgetting
from webhookd.store.forgetting import Forgetting


@pytest.fixture(params=LEDGERS)
def mapped(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = Mapped(tmp_path / "erp.db", request.param)
    yield made
    made.close()


def keys(box: Mapped) -> list[str]:
    return [key for (key,) in box.rows("SELECT key FROM webhookd_ledger ORDER BY number")]


def prune(box: Mapped) -> None:
    for work in Work:
        more = True
        while more:
            box.store.begin()
            more = box.store.prune(work, Retention(), box.now).more
            box.store.commit()


def forget(box: Mapped) -> int:
    """Once round the ledger, as the daemon does; returns how many keys went."""
    gone = 0
    while not box.store._forgetting.is_round:
        if box.store.may_forget_keys():
            box.store.begin()
            gone += box.store.forget_keys().rows
            box.store.commit()
    box.store._forgetting.is_round = False
    return gone


@pytest.fixture
def old(mapped: Mapped) -> Mapped:
    """Ten rows whose events are gone, all but three of the rows too; one that is rejected."""
    for n in range(10):
        mapped.row(f"k{n}")
    mapped.row("bad", payload="{")
    mapped.row("last")
    mapped.look()
    mapped.host.execute("DELETE FROM outboxevent WHERE id NOT IN ('k2', 'k5', 'k7')")
    mapped.now += 60 * DAY
    return mapped


def test_a_key_goes_with_its_row_and_its_event(old: Mapped) -> None:
    assert forget(old) == 0, "their events are there"
    prune(old)
    assert forget(old) == 7
    left = {"k2", "k5", "k7", "bad", "last"}
    assert set(keys(old)) == left, "rows that are there, a rejected one, and the last of all"
    assert forget(old) == 0
    assert old.look() == [], "none of them is taken in again"


def test_no_number_comes_back(old: Mapped) -> None:
    prune(old)
    cursor = old.one("SELECT cursor FROM webhookd_file")
    old.host.execute("INSERT INTO webhookd_ledger (key) VALUES ('numbered'), ('and gone')")
    forget(old)
    old.reopen()
    old.row("new")
    assert old.look() == ["new"]
    assert old.one("SELECT outbox_id FROM webhookd_events") == cursor + 1


def test_a_row_that_goes_late_takes_its_key_along(old: Mapped) -> None:
    prune(old)
    forget(old)
    old.host.execute("DELETE FROM outboxevent WHERE id = 'k5'")
    before = len(keys(old))
    assert forget(old) == 1
    assert len(keys(old)) == before - 1


def test_a_rejected_rows_key_goes_with_the_rejection(old: Mapped) -> None:
    prune(old)
    forget(old)
    old.now += 40 * DAY
    prune(old)
    forget(old)
    assert "bad" not in keys(old)[:-1]


def test_A22_A23_nothing_goes_while_the_table_is_not_as_agreed(old: Mapped) -> None:
    prune(old)
    before = keys(old)
    old.host.execute("ALTER TABLE outboxevent RENAME TO elsewhere")
    assert forget(old) == 0
    old.host.execute("ALTER TABLE elsewhere RENAME TO outboxevent")
    old.host.execute("ALTER TABLE outboxevent RENAME COLUMN id TO uid")
    assert forget(old) == 0
    assert keys(old) == before


def test_what_comes_back_between_the_look_and_the_lock_stays(old: Mapped) -> None:
    prune(old)
    assert old.store.may_forget_keys()
    old.row("k0")
    old.store.begin()
    old.store.forget_keys()
    old.store.commit()
    assert "k0" in keys(old)
    assert "k1" not in keys(old)
    assert "k0" not in old.look()


def test_a_batch_and_a_stretch_have_an_end(old: Mapped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "STRETCH", 3)
    monkeypatch.setattr(forgetting, "KEYS", 2)
    prune(old)
    seen = []
    walk = Forgetting()
    while not walk.is_round:
        if walk.look(old.host):
            seen.append(walk.forget(old.host).rows)
    assert max(seen) <= 2
    assert sum(seen) == 7
    assert len(keys(old)) == 5


def test_no_look_scans(old: Mapped) -> None:
    for sql in (forgetting.gone("outboxevent", "id"), forgetting.forget("outboxevent", "id")):
        assert faults(old, sql) == []


def test_our_own_outbox_has_no_ledger(box: Any) -> None:
    box.put(aggregate_id="S-1")
    box.ingest_all()
    assert not box.store.may_forget_keys()
    box.store.begin()
    assert box.store.forget_keys().rows == 0
    box.store.commit()


def test_A23_a_table_that_is_dropped_amid_a_look_is_no_bug(
    old: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    prune(old)
    inspect = forgetting.inspect

    def then_drops(*args: Any) -> Any:
        found = inspect(*args)
        monkeypatch.undo()
        old.host.execute("DROP TABLE outboxevent")
        return found

    monkeypatch.setattr(forgetting, "inspect", then_drops)
    before = keys(old)
    assert old.store.may_forget_keys(), "as it was when the look began"
    old.store.begin()
    assert not old.store.forget_keys().rows
    old.store.commit()
    assert not old.store.may_forget_keys()
    assert keys(old) == before
    assert "table outboxevent missing" in old.store.outlook().unreadable
