"""The promises G1, G2, G3, G4 and G6 under kill -9, with nothing simulated."""

import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

ROWS = 3_000
AGGREGATES = 50
"""Of each of the host's two kinds."""
KILLS = 12
SECONDS = 14.0
"""The host commits for as long as this: through all of the kills."""

KINDS = {"all": ("order", "supplier"), "orders": ("order",), "flaky": ("order", "supplier")}
"""What each subscription gets of what the host does."""

SHOWN = "SELECT * FROM webhook_results ORDER BY delivery_id"
IN_FORCE = "SELECT n, kind, aggregate FROM business ORDER BY n"

Outage = tuple[int, int]
"""When a daemon was killed, and when the next one had not been started yet (ns)."""


def test_E2_kills_lose_nothing_and_reorder_nothing(
    site: Any, receiver: Any, program: Any, until: Any, tmp_path: Path
) -> None:
    receiver.answer(flaky={"status": 503, "fail_rate": 0.1})
    site.prepare()
    site.subscribe("all", receiver.url("/all"))
    site.subscribe("orders", receiver.url("/orders"), "--events", "order.*")
    site.subscribe("flaky", receiver.url("/flaky"))
    cursor, copy = tmp_path / "cursor", tmp_path / "copy.jsonl"
    dice = random.Random(20_240)

    host = program("host", site.database, ROWS, AGGREGATES, SECONDS, 7)
    poller = program("poller", site.database, cursor, copy)
    outages: list[Outage] = []
    for kill in range(KILLS):
        daemon = site.daemon(ready=False)
        # Some of the moments lie before it is ready, some in the middle of everything.
        time.sleep(dice.uniform(0.3, 1.6))
        killed_at = time.time_ns()
        daemon.kill()
        assert daemon.complaints() == []
        if kill % 3 == 0:
            poller.kill()
            poller = program("poller", site.database, cursor, copy)
        outages.append((killed_at, time.time_ns()))
    daemon = site.daemon()
    assert host.wait(60) == 0, host.said()

    committed = site.rows(IN_FORCE)
    assert len(committed) == ROWS
    owed = {name: [row for row in committed if row[1] in KINDS[name]] for name in KINDS}
    site.until_delivered(sum(map(len, owed.values())))
    end = str(site.value("SELECT max(sequence) FROM webhook_results"))
    until(lambda: cursor.read_text() == end, "the poller's cursor at the end")
    assert daemon.stop() == 0
    poller.kill()

    for name, rows in owed.items():
        check_requests(receiver.requests(f"/{name}"), rows, outages)
    results = site.rows(SHOWN)
    check_copy(copy, results)
    assert site.intact()


def check_requests(
    requests: Sequence[Any], owed: Sequence[tuple[int, str, str]], outages: Sequence[Outage]
) -> None:
    """What one subscription received is what it was owed: all of it, in order, the same bytes."""
    bodies: dict[str, set[tuple[str, str]]] = defaultdict(set)
    arrivals: dict[str, list[tuple[int, int]]] = defaultdict(list)
    accepted: dict[int, list[int]] = defaultdict(list)
    for request in requests:
        data = json.loads(request["body"])["data"]
        assert data["kept"], f"a row that was rolled back was sent: {data}"
        headers = request["headers"]
        bodies[headers["webhook-id"]].add((request["body"], headers["webhookd-sequence"]))
        arrivals[data["aggregate"]].append((data["n"], request["status"]))
        if request["status"] == 200:
            accepted[data["n"]].append(request["at"])

    # G1, G2: every committed row has arrived, and nothing else has.
    assert sorted(accepted) == [n for n, _, _ in owed]

    # G3: the same row has the same id, body and number each time; the numbers leave no gap.
    assert all(len(variants) == 1 for variants in bodies.values())
    assert len(bodies) == len(owed)
    numbers = sorted(int(number) for variants in bodies.values() for _, number in variants)
    assert numbers == list(range(1, len(owed) + 1))

    # G3: whatever was accepted twice was under way when a daemon was killed.
    for n, moments in accepted.items():
        for first, again in pairwise(moments):
            assert any(first < to and again > at for at, to in outages), f"row {n} came twice"

    # G4: in each aggregate the rows came in the order of their commits, and the next one only
    # after the one before it was accepted.
    expected: dict[str, list[int]] = defaultdict(list)
    for n, _, aggregate in owed:
        expected[aggregate].append(n)
    for aggregate, came in arrivals.items():
        runs = [(n, [status for _, status in run]) for n, run in groupby(came, lambda one: one[0])]
        assert [n for n, _ in runs] == expected[aggregate]
        assert all(200 in statuses for _, statuses in runs)


def check_copy(copy: Path, results: Sequence[Any]) -> None:
    """G6: who follows the feed forwards alone ends with exactly what it shows in the end."""
    by_sequence: dict[int, str] = {}
    by_delivery: dict[int, dict[str, Any]] = {}
    for line in copy.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line or "null")
        except ValueError:
            continue  # cut short by a kill, so its page came again
        if row is not None:
            # No number is given out twice: a page that was read twice says the same twice.
            assert by_sequence.setdefault(row["sequence"], line) == line
            by_delivery[row["delivery_id"]] = row
    assert [tuple(by_delivery[key].values()) for key in sorted(by_delivery)] == results
