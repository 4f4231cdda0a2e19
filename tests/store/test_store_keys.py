"""A row by the host's own key: as it is shown, and as it is asked for."""

import pytest

from tests.store.conftest import LIMIT, Box
from tests.store.mapped import DEBEZIUM
from webhookd.core.rows import Rejection
from webhookd.errors import NotFound
from webhookd.store import keys
from webhookd.store.outbox import Outbox


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("ORD-7", "ORD-7"),
        ("17", "17"),
        (17, "17"),
        (-5, "-5"),
        (1790000000000000001, "1790000000000000001"),
        (2**63 - 1, "9223372036854775807"),
        (-(2**63), "-9223372036854775808"),
        (2.5, "2.5"),
        (b"\x01\xab\xff", "01ABFF"),
        ("a\nb", "a\\nb"),
    ],
)
def test_a_key_of_any_type(box: Box, key: object, shown: str) -> None:
    box.host.execute("INSERT INTO webhookd_ledger VALUES (3, ?), (4, 'other')", (key,))
    assert keys.shown(box.host, 3) == box.store.outbox_key(3) == shown
    if "\\" not in shown:
        assert keys.find(box.host, shown) == 3
    if isinstance(key, bytes):
        assert keys.find(box.host, shown.lower()) == 3


def test_text_comes_before_the_number_that_looks_like_it(box: Box) -> None:
    box.host.execute("INSERT INTO webhookd_ledger VALUES (1, 17), (2, '17')")
    assert keys.find(box.host, "17") == 2


def test_a_key_that_is_no_text(box: Box) -> None:
    box.host.execute("INSERT INTO webhookd_ledger VALUES (1, CAST(x'41ff' AS TEXT))")
    assert keys.named(box.host, [1, 2]) == {1: "A\\xff"}
    assert box.host.execute("SELECT 'text'").fetchone() == ("text",)


def test_a_key_that_was_never_seen(box: Box) -> None:
    assert keys.shown(box.host, 1) is None
    with pytest.raises(NotFound, match="no outbox row with the key 'x' has been seen"):
        keys.find(box.host, "x")
    for beyond in ("9223372036854775808", "-9223372036854775809"):
        with pytest.raises(NotFound):
            keys.find(box.host, beyond)


def test_a_key_that_is_shown_cut_is_asked_for_by_its_number(box: Box) -> None:
    key = "K" * (keys.SHOWN + 1)
    box.host.execute("INSERT INTO webhookd_ledger VALUES (3, ?)", (key,))
    shown = keys.shown(box.host, 3)
    assert shown is not None
    with pytest.raises(NotFound, match="shown cut: name the outbox id that stands beside it"):
        keys.find(box.host, shown)
    assert keys.find(box.host, key) == 3


@pytest.mark.parametrize(
    ("kind", "key", "asked", "shown"),
    [
        ("TEXT", "it's", "it's", "it's"),
        ("TEXT", "17", "17", "17"),
        ("TEXT", "17.0", "17", None),
        ("TEXT COLLATE NOCASE", "ORD-7", "ord-7", None),
        ("INT", 17, "17", "17"),
        ("REAL", 2.5, "2.5", "2.5"),
        ("BLOB", b"\x01\xab", "01ab", "01AB"),
        ("TEXT", "a", "inf", None),
    ],
)
def test_a_row_that_has_no_number_yet(
    box: Box, kind: str, key: object, asked: str, shown: str | None
) -> None:
    """By the key as the ledger will have it: its very type and letters."""
    box.host.execute(
        f"CREATE TABLE theirs (id {kind} UNIQUE, type, aggregatetype, aggregateid, payload)"
    )
    box.host.execute("INSERT INTO theirs VALUES (?, 'a.b', 'a', '1', '{}')", (key,))
    outbox = Outbox(box.path, "theirs", LIMIT, DEBEZIUM)
    found = keys.unnumbered(box.host, outbox, LIMIT, asked)
    assert (found and found[1]) == shown
    if found is not None:
        assert not isinstance(found[0], Rejection)
        assert (found[0].outbox_id, found[0].event_type) == (keys.NO_NUMBER, b"a.b")
