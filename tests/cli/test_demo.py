"""The demo: that it runs, that its checks can fail, and that it leaves nothing behind."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from webhookd.cli.demo import story
from webhookd.cli.demo.checks import Arrival, Evidence, judge
from webhookd.cli.demo.console import Console
from webhookd.cli.demo.script import BUSY, EUDR, FIRST, UNDONE, WAREHOUSE, Happening
from webhookd.cli.demo.stage import surroundings
from webhookd.cli.demo.story import Outcome
from webhookd.cli.main import cli
from webhookd.store import lockfile
from webhookd.store.driver import connect

CEILING = 60.0
"""Seconds: the demo's own deadline."""

CHECKS = [
    *("arrived", "payload", "signatures", "order", "rollback", "retry", "isolation"),
    *("results", "changes", "status", "daemon"),
]


def environment(tmp_path: Path) -> dict[str, str]:
    """Temporary files go to `tmp_path`; what a shell may have set for a real file stands too."""
    return {
        **os.environ,
        "TMPDIR": str(tmp_path),
        "WEBHOOKD_DATABASE": str(tmp_path / "mine.db"),
        "WEBHOOKD_CONFIG": str(tmp_path / "mine.toml"),
        "PYTHONIOENCODING": "utf-8",
    }


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_whole_demo(tmp_path: Path) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "webhookd", "demo", "--keep"],
        env=environment(tmp_path),
        capture_output=True,
        encoding="utf-8",
        timeout=2 * CEILING,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - started < CEILING
    said = done.stdout.splitlines()
    assert [line.split()[1] for line in said if line.startswith("   ✓ ")] == [
        f"{name}:" for name in CHECKS
    ]
    assert any("500" in line and "✓ signature" in line for line in said)
    assert any("attempt 2" in line for line in said)
    assert "   ROLLBACK;" in said
    assert done.stderr.startswith("kept: ")

    (home,) = tmp_path.iterdir()  # and nothing was made of what the environment names
    assert str(home) in done.stderr
    pids = [int(pid) for pid in re.findall(r"pid (\d+)", done.stdout)]
    assert len(pids) >= 2
    assert not any(map(is_alive, pids))
    assert not lockfile.is_held(home / "erp.db")

    connection = connect(home / "erp.db", mode="ro")
    secrets = [row[0] for row in connection.execute("SELECT value FROM webhookd_secrets")]
    connection.close()
    assert len(secrets) == 2
    log = (home / "daemon.log").read_text(encoding="utf-8")
    assert '"attempt"' in log
    assert (home / "erp.log").read_text() == ""
    for secret in secrets:
        assert secret.startswith("whsec_")
        assert secret.removeprefix("whsec_") not in log + done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "webhookd", "demo"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        pids = []
        for line in process.stdout:
            pids += [int(pid) for pid in re.findall(r"pid (\d+)", line)]
            if line.startswith("4."):
                break
        process.send_signal(number)
        process.stdout.read()
        message = process.stderr.read()
        assert process.wait(CEILING) == 128 + number
    (message,) = message.splitlines()
    assert message.startswith("interrupted at step ")
    assert len(pids) == 2
    assert not any(map(is_alive, pids))
    assert list(tmp_path.iterdir()) == []


def test_a_deadline_ends_it_with_a_line_that_says_where(tmp_path: Path) -> None:
    outcome = story.run(tmp_path, Console(silent=True), deadline=0.2)
    assert not outcome.ok
    assert outcome.evidence is None
    assert re.fullmatch(
        r"(the beginning|step \d+, '.+'): the whole was not done within 0\.2 s(; waited for .+)?",
        outcome.broken,
    )


def test_a_command_that_fails_ends_it_with_a_line_that_says_which(tmp_path: Path) -> None:
    (tmp_path / "erp.db-webhookd.lock").mkdir()  # the daemon cannot take its lock
    outcome = story.run(tmp_path, Console(silent=True))
    assert not outcome.ok
    assert outcome.broken.startswith("step 3, 'The daemon starts': the daemon ended with 4")
    assert "cannot be written" in outcome.log[-1]


def test_children_see_nothing_of_a_real_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOKD_DATABASE", "/var/lib/erp/erp.db")
    monkeypatch.setenv("HOME", "/home/anna")
    names = surroundings()
    assert not [name for name in names if name.startswith("WEBHOOKD_")]
    assert names["HOME"] == "/home/anna"


def test_signs_are_ascii_where_the_terminal_has_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    console = Console(silent=False)
    console.step("One")
    console.say(f"{console.sign('✓')} {console.sign('✗')} {console.sign('→')} Rosé")
    assert written.getvalue() == b"\n1. One\n   ok FAILED -> Ros\\xe9\n"
    assert console.pause == 0


# What the checks find. `GOOD` is a run in which everything held.


def _body(said: Happening) -> bytes:
    return f'{{"type":"{said.event_type}","data":{said.payload or "null"}}}'.encode()


def _arrival(partner: str, number: int, status: int = 204, attempt: int = 1) -> Arrival:
    said = COMMITTED[number]
    return Arrival(partner, f"evt_{number}", said.event_type, attempt, "", status, _body(said))


def _result(sequence: int, partner: str, number: int) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "delivery_id": sequence,
        "outbox_id": number,
        "subscription_name": partner,
        "state": "delivered",
        "attempts": 3 if partner == EUDR else 1,
        "last_error": None,
    }


COMMITTED = dict(
    enumerate((said for change in (FIRST, *BUSY) for said in change.happenings), start=1)
)
OWED = [
    (partner, number)
    for partner in (WAREHOUSE, EUDR)
    for number, said in COMMITTED.items()
    if partner in said.to
]
RESULTS = [_result(100 + place, *owed) for place, owed in enumerate(OWED)]
NEWEST = {
    (said.tenant, said.event_type.partition(".")[0], said.aggregate_id): said.event_type
    for said in COMMITTED.values()
}
GOOD = Evidence(
    committed=COMMITTED,
    arrivals=[
        _arrival(WAREHOUSE, 1, 500),
        _arrival(WAREHOUSE, 1, attempt=2),
        *(_arrival(*owed) for owed in OWED if owed != (WAREHOUSE, 1)),
    ],
    events=[
        {"event_id": f"evt_{number}", "outbox_id": number, "aggregate_id": said.aggregate_id}
        for number, said in COMMITTED.items()
    ],
    pages=[RESULTS[:10], RESULTS[10:]],
    changes=[
        {"tenant": tenant, "aggregate_type": kind, "aggregate_id": aggregate, "event_type": newest}
        for (tenant, kind, aggregate), newest in NEWEST.items()
    ],
    traces=0,
    exit_codes={"status": 0, "daemon": 0},
)


def failed(evidence: Evidence) -> dict[str, str]:
    """The checks that did not hold, with what each found."""
    return {one.name: one.fault for one in judge(evidence) if not one.held}


def test_every_check_holds_when_everything_went_well() -> None:
    assert [one.name for one in judge(GOOD)] == CHECKS
    assert failed(GOOD) == {}


Doctor = Callable[[list[Arrival]], list[Arrival]]


def _swap(arrivals: list[Arrival]) -> list[Arrival]:
    """The warehouse hears of PO-7's shipping before its approval."""
    kinds = [(one.partner, one.event_type) for one in arrivals]
    first, second = (kinds.index((WAREHOUSE, kind)) for kind in ("order.approved", "order.shipped"))
    swapped = list(arrivals)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    return swapped


@pytest.mark.parametrize(
    ("name", "fault", "doctor"),
    [
        ("arrived", "eudr never accepted supplier.blocked of VENDOR-001", lambda all_: all_[:-1]),
        (
            "arrived",
            "eudr got order.created (evt_8), which is not for it",
            lambda all_: [*all_, _arrival(EUDR, 8)],
        ),
        (
            "arrived",
            "eudr got supplier.created (evt_none), which is not for it",
            lambda all_: [
                *all_,
                replace(all_[-1], event_type="supplier.created", event_id="evt_none"),
            ],
        ),
        (
            "payload",
            "eudr got invoice.posted of INV-3 with another payload",
            lambda all_: [
                replace(one, body=one.body.replace(b"1.10", b"1.1"))
                if one.event_type == "invoice.posted"
                else one
                for one in all_
            ],
        ),
        (
            "signatures",
            "eudr got supplier.blocked with a bad signature: does not match",
            lambda all_: [*all_[:-1], replace(all_[-1], flaw="does not match")],
        ),
        (
            "order",
            "warehouse got order.shipped of PO-7 before it had accepted order.approved of PO-7",
            _swap,
        ),
        (
            "order",
            (
                "warehouse got supplier.updated of VENDOR-001 before it had accepted "
                "supplier.created of VENDOR-001"
            ),
            lambda all_: [all_[0], all_[3], all_[1], all_[2], *all_[4:]],
        ),
        ("retry", "no request was answered with 500", lambda all_: all_[1:]),
        (
            "retry",
            "warehouse got supplier.created with another body at attempt 2",
            lambda all_: [replace(all_[0], body=b" " + all_[0].body), *all_[1:]],
        ),
        ("isolation", "warehouse had to wait for eudr", lambda all_: [*all_[9:], *all_[:9]]),
    ],
)
def test_requests_that_break_a_promise(name: str, fault: str, doctor: Doctor) -> None:
    assert failed(replace(GOOD, arrivals=doctor(list(GOOD.arrivals)))) == {name: fault}


def test_no_requests_at_all() -> None:
    found = failed(replace(GOOD, arrivals=[]))
    assert set(found) == {"arrived", "signatures", "retry", "isolation"}


def _with_row(**changes: Any) -> list[list[dict[str, Any]]]:
    return [RESULTS[:10], [*RESULTS[10:-1], {**RESULTS[-1], **changes}]]


@pytest.mark.parametrize(
    ("name", "fault", "doctored"),
    [
        ("results", "1 pages, not two", {"pages": [RESULTS]}),
        (
            "results",
            "14 rows that are not the 15 deliveries that were owed",
            {"pages": [RESULTS[:10], RESULTS[10:-1]]},
        ),
        ("results", "the sequence does not grow", {"pages": [RESULTS[10:], RESULTS[:10]]}),
        (
            "results",
            "delivery 114 is failed: status 400",
            {"pages": _with_row(state="failed", last_error="status 400")},
        ),
        (
            "isolation",
            "nothing was attempted at eudr while it was down",
            {
                "pages": [[{**row, "attempts": 1} for row in page] for page in GOOD.pages]
            },
        ),
        ("changes", "INV-3 stands there with None", {"changes": [
            row for row in GOOD.changes if row["aggregate_id"] != "INV-3"
        ]}),
        ("changes", "VENDOR-001 stands there twice", {"changes": [*GOOD.changes, GOOD.changes[0]]}),
        (
            "changes",
            "6 aggregates, but 5 changed",
            {"changes": [*GOOD.changes, {**GOOD.changes[0], "aggregate_id": "VENDOR-002"}]},
        ),
        ("rollback", "the ERP still has 2 rows", {"traces": 2}),
        (
            "rollback",
            "VENDOR-666 became an event",
            {
                "events": [
                    *GOOD.events,
                    {"event_id": "evt_0", "outbox_id": 0, "aggregate_id": "VENDOR-666"},
                ]
            },
        ),
        ("status", "it ended with 1", {"exit_codes": {"status": 1, "daemon": 0}}),
        ("daemon", "it ended with -9", {"exit_codes": {"status": 0, "daemon": -9}}),
    ],
)  # fmt: skip
def test_feeds_and_endings_that_break_a_promise(
    name: str, fault: str, doctored: Mapping[str, Any]
) -> None:
    (found,) = failed(replace(GOOD, **doctored)).items()
    assert found[0] == name
    assert found[1].startswith(fault)


def test_what_was_rolled_back_and_came_all_the_same() -> None:
    (phantom,) = UNDONE.happenings
    sent = Arrival(WAREHOUSE, "evt_99", phantom.event_type, 1, "", 204, _body(phantom))
    found = failed(replace(GOOD, arrivals=[sent, *GOOD.arrivals]))
    assert set(found) == {"arrived", "rollback"}
    assert found["rollback"] == (
        "supplier.created of VENDOR-666 was sent, though it was rolled back"
    )


# What the command makes of it.


def demo(monkeypatch: pytest.MonkeyPatch, outcome: Outcome, *options: str) -> Result:
    """Run the command, with `outcome` in place of a real run's."""
    monkeypatch.setattr(story, "run", lambda _home, _console: outcome)
    return CliRunner().invoke(cli, ["demo", *options])


def outcome_of(evidence: Evidence) -> Outcome:
    return Outcome(evidence, judge(evidence), seconds=4.25, log=['{"action":"attempt"}'])


def test_a_check_that_fails_is_named_and_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    result = demo(monkeypatch, outcome_of(replace(GOOD, arrivals=GOOD.arrivals[:-1])))
    assert result.exit_code == 1
    assert "✗ arrived: " in result.stdout
    assert f"10 of {len(CHECKS)} checks held" in result.stdout
    assert result.stderr.splitlines() == [
        "the last lines of the daemon's log:",
        '  {"action":"attempt"}',
        (
            "webhookd: demo: check 'arrived' failed: eudr never accepted supplier.blocked"
            " of VENDOR-001"
        ),
    ]


def test_the_summary_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    result = demo(monkeypatch, outcome_of(GOOD), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    said = json.loads(result.stdout)
    assert said["ok"] is True
    assert [one["name"] for one in said["checks"]] == CHECKS
    assert all(one["held"] and one["fault"] is None for one in said["checks"])
    assert said["requests"][0] == {
        "partner": WAREHOUSE,
        "event_id": "evt_1",
        "event_type": "supplier.created",
        "attempt": 1,
        "verified": True,
        "status": 500,
    }
    assert len(said["results"]) == 15
    assert len(said["changes"]) == 5
    assert (said["broken"], said["directory"]) == (None, None)

    result = demo(monkeypatch, outcome_of(replace(GOOD, traces=1)), "--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert [one["name"] for one in said["checks"] if not one["held"]] == ["rollback"]


def test_a_run_that_breaks_off_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    result = demo(monkeypatch, Outcome(broken="step 3, 'x': the daemon ended with 4"), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False
    assert result.stderr == "webhookd: demo: step 3, 'x': the daemon ended with 4\n"


def test_no_place_for_temporary_files_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    result = CliRunner().invoke(cli, ["demo"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "TMPDIR" in result.stderr
