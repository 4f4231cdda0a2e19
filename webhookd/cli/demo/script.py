"""What happens in the demo's ERP, and who is to hear of it: all of it is written down here."""

from dataclasses import dataclass
from typing import Final

WAREHOUSE: Final = "warehouse"
"""Takes suppliers and orders of every tenant; its receiver fails now and then."""
EUDR: Final = "eudr"
"""Takes all that tenant `acme` has to say; its receiver is down at first."""

SUBSCRIBED: Final[dict[str, tuple[str, ...]]] = {
    WAREHOUSE: ("--events", "supplier.*,order.*"),
    EUDR: ("--profile", "ntropy", "--tenant", "acme"),
}
"""How each partner subscribes, beside its URL, its name and its delays."""

DELAYS: Final = ("300ms", "1s", *["2s"] * 30)
"""Before further attempts: short ones, so that nobody waits, and enough of them for a minute."""

SHOWN_DELAYS: Final = "300ms,1s,2s,2s,..."

TABLES: Final = (
    "CREATE TABLE supplier (code TEXT PRIMARY KEY, name TEXT, blocked INTEGER DEFAULT 0)",
    "CREATE TABLE purchase_order (number TEXT PRIMARY KEY, supplier TEXT, state TEXT)",
    "CREATE TABLE invoice (number TEXT PRIMARY KEY, amount TEXT)",
)


@dataclass(frozen=True, slots=True)
class Happening:
    """An event that the ERP writes to its outbox."""

    event_type: str
    aggregate_id: str
    tenant: str
    payload: str | None
    """JSON; None for an ID-only event."""
    to: tuple[str, ...]
    """The partners that must hear of it, and no others."""

    @property
    def insert(self) -> str:
        """The INSERT, as the host runs it."""
        values = ", ".join(
            "NULL" if value is None else "'" + value.replace("'", "''") + "'"
            for value in (self.event_type, self.aggregate_id, self.tenant, self.payload)
        )
        # Written out as a person would read it; every value is one of this module's own.
        return (
            "INSERT INTO outbox (event_type, aggregate_id, tenant, payload) "  # noqa: S608
            f"VALUES ({values})"
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One transaction of the ERP: what it does to its business, and what it says of it."""

    business: str
    happenings: tuple[Happening, ...]

    @property
    def statements(self) -> list[str]:
        """All statements between BEGIN and COMMIT."""
        return [self.business, *(happening.insert for happening in self.happenings)]


BOTH: Final = (WAREHOUSE, EUDR)

FIRST: Final = Change(
    "INSERT INTO supplier (code, name) VALUES ('VENDOR-001', 'Rosé Ltd')",
    (Happening("supplier.created", "VENDOR-001", "acme", '{"name": "Rosé Ltd"}', BOTH),),
)

UNDONE: Final = Change(
    "INSERT INTO supplier (code, name) VALUES ('VENDOR-666', 'Phantom Ltd')",
    (Happening("supplier.created", "VENDOR-666", "acme", '{"name": "Phantom Ltd"}', ()),),
)
"""Rolled back."""

BUSY: Final = (
    Change(
        "INSERT INTO purchase_order VALUES ('PO-7', 'VENDOR-001', 'created')",
        (
            Happening("order.created", "PO-7", "acme", '{"total": 1.10}', BOTH),
            Happening("supplier.updated", "VENDOR-001", "acme", None, BOTH),
        ),
    ),
    Change(
        "UPDATE purchase_order SET state = 'approved' WHERE number = 'PO-7'",
        (Happening("order.approved", "PO-7", "acme", '{"by": "Anna"}', BOTH),),
    ),
    Change(
        "INSERT INTO supplier (code, name) VALUES ('VENDOR-900', 'Tulip BV')",
        (Happening("supplier.created", "VENDOR-900", "globex", None, (WAREHOUSE,)),),
    ),
    Change(
        "UPDATE purchase_order SET state = 'shipped' WHERE number = 'PO-7'",
        (Happening("order.shipped", "PO-7", "acme", '{"parcels": 3}', BOTH),),
    ),
    Change(
        "INSERT INTO invoice VALUES ('INV-3', '1.10')",
        (Happening("invoice.posted", "INV-3", "acme", '{"amount": 1.10}', (EUDR,)),),
    ),
    Change(
        "INSERT INTO purchase_order VALUES ('PO-8', 'VENDOR-900', 'created')",
        (Happening("order.created", "PO-8", "globex", '{"total": 250}', (WAREHOUSE,)),),
    ),
    Change(
        "UPDATE supplier SET blocked = 1 WHERE code = 'VENDOR-001'",
        (Happening("supplier.blocked", "VENDOR-001", "acme", None, BOTH),),
    ),
)

TRACES: Final = (
    "SELECT (SELECT count(*) FROM supplier WHERE code = :id)"
    " + (SELECT count(*) FROM outbox WHERE aggregate_id = :id) AS traces"
)
"""Rows that are left of an aggregate in the ERP's own tables."""

POLL_RESULTS: Final = (
    "SELECT * FROM webhook_results WHERE sequence > :cursor ORDER BY sequence LIMIT :limit"
)
POLL_CHANGES: Final = (
    "SELECT * FROM webhook_changes WHERE sequence > :cursor ORDER BY sequence LIMIT :limit"
)
POLL_EVENTS: Final = (
    "SELECT * FROM webhook_events WHERE sequence > :cursor ORDER BY sequence LIMIT :limit"
)

PAGE: Final = 10
"""Rows of one page of results: fewer than there are, so that there is a second one."""
ALL: Final = 1_000
"""More rows than there are."""
