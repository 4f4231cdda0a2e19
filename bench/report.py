"""What a benchmark gives back, as a table for people and as JSON for the next comparison."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum, auto
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench.chart import Chart, svg
from webhookd import __version__
from webhookd.core.times import to_text
from webhookd.store.driver import library_version

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = ROOT / "bench" / "results"
MEASURED: Final = ("webhookd", "bench", "pyproject.toml", "uv.lock", ":!bench/results")
"""What figures depend on, for git; what is written here is not."""
DIGITS: Final = 5
LIST: Final = re.compile(r"\[[^][{}\"]*\]")
"""One of numbers alone, in JSON."""


class BenchFailed(Exception):
    """What was measured was not right, so its figures mean nothing: one line says what."""


class Scale(Enum):
    """How much is done."""

    FULL = auto()
    QUICK = auto()


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one benchmark."""

    settings: dict[str, object]
    """What it was run with."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The table's lines, each with a text for each column."""
    figures: dict[str, object]
    """All that was measured, for machines."""
    remarks: tuple[str, ...] = ()
    """What a reader of the table must know, one line each."""
    charts: tuple[Chart, ...] = ()


def machine() -> dict[str, object]:
    """Where this runs, as far as it bears on figures."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
    }


def code(root: Path = ROOT) -> dict[str, object]:
    """Which code is measured; to be asked before it is.

    Returns:
        `commit` ('' where git cannot tell), and `changed`: whether the code is another than that
        commit's (None where git cannot tell).
    """
    # The first line is empty at the top of a work tree: one that only lies around us is not ours.
    found = _git(root, "rev-parse", "--show-prefix", "HEAD")
    prefix, _, commit = found.partition("\n")
    if prefix or not commit:
        return {"commit": "", "changed": None}
    return {"commit": commit.strip(), "changed": bool(_git(root, "status", "-s", "--", *MEASURED))}


def _git(root: Path, *arguments: str) -> str:
    """What git says; `''` where it cannot."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def versions() -> dict[str, str]:
    """Of all that the figures depend on."""
    return {
        "webhookd": __version__,
        "python": platform.python_version(),
        "sqlite": library_version(),
        **{name: version(name) for name in ("trio", "httptools", "httpx", "h11", "huey")},
    }


def table(name: str, result: Result) -> str:
    """The lines that people read."""
    lines = [result.columns, *result.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(result.columns))]
    settings = ", ".join(f"{key} {value}" for key, value in result.settings.items())
    return "\n".join(
        [
            f"{name}: {settings}",
            *(
                "  "
                + "  ".join(
                    f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)
                ).rstrip()
                for line in lines
            ),
            *(f"  - {remark}" for remark in result.remarks),
        ]
    )


def save(name: str, result: Result, scale: Scale, measured: dict[str, object]) -> list[Path]:
    """Write the JSON and the chart in place of the ones before; returns where they lie.

    `measured`: what `code` said before.
    """
    RESULTS.mkdir(exist_ok=True)
    stem = name if scale is Scale.FULL else f"{name}.quick"
    document = {
        "bench": name,
        "at": to_text(time.time_ns() // 1_000_000),
        "command": sys.argv[1:],
        "code": measured,
        "machine": machine(),
        "versions": versions(),
        "settings": result.settings,
        "figures": result.figures,
    }
    texts = {"json": as_json(document), "svg": svg(result.charts)}
    paths = [RESULTS / f"{stem}.{kind}" for kind in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def as_json(document: object) -> str:
    """As people can read it too: lists of numbers on one line, with no needless digits."""
    text = json.dumps(_rounded(document), indent=1)
    return LIST.sub(lambda found: " ".join(found[0].split()), text) + "\n"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, (list, tuple)) else value


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
