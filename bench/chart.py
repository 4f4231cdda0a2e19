"""Charts as plain SVG: bars, one below the other, with whiskers from the lowest to the highest.

They are looked at in a browser and in Markdown, on light and on dark ground: the ground is left as
it is, and the colours follow what the reader's system prefers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from bench.figures import Spread

WIDTH: Final = 760
MARGIN: Final = 12
LINE: Final = 24
"""Height of a bar with the space around it."""
BAR: Final = 12
CHARACTER: Final = 6.7
"""Width of a character at the size of the labels, on the generous side."""
VALUES: Final = 190
"""Width that is kept for the figures at the right."""
ROOM: Final = 1.05
"""How far the scale goes beyond what is highest."""

STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.faint { fill: #57606a }
.bar { fill: #54aeff }
.whisker { stroke: #24292f; stroke-width: 1.5 }
.axis { stroke: #8c959f }
.goal { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .faint { fill: #9198a1 }
  .bar { fill: #1f6feb }
  .whisker { stroke: #e6edf3 }
  .goal { stroke: #ff7b72 }
}
"""


@dataclass(frozen=True, slots=True)
class Goal:
    """Where the bars should end."""

    text: str
    """As a reader is to see it: `at most 1.2`."""
    value: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars on one scale that begins at 0."""

    title: str
    """It says the unit too."""
    bars: Mapping[str, Spread]
    """By label, from top to bottom; at least one."""
    goal: Goal | None = None
    decimals: int = 0

    @classmethod
    def of(
        cls,
        title: str,
        measured: Mapping[str, Sequence[float]],
        *,
        goal: Goal | None = None,
        decimals: int = 0,
    ) -> "Chart":
        """Of all that was measured of each, at least one value."""
        spreads = {label: Spread.of(values) for label, values in measured.items()}
        return cls(title, spreads, goal, decimals)


def svg(charts: Sequence[Chart]) -> str:
    """A picture of the charts, one below the other."""
    parts, top = [], MARGIN
    for chart in charts:
        drawn, height = _draw(chart, top)
        parts += drawn
        top += height + LINE
    height = top - LINE + MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" role="img">'
    )
    return "\n".join((head, f"<style>{STYLE}</style>", *parts, "</svg>\n"))


def _draw(chart: Chart, top: int) -> tuple[list[str], int]:
    """The elements of one chart, and its height."""
    left = round(MARGIN + max(map(len, chart.bars)) * CHARACTER + 8)
    highest = max(spread.highest for spread in chart.bars.values())
    reach = max(highest, chart.goal.value if chart.goal else 0.0) * ROOM or 1.0
    scale = (WIDTH - MARGIN - VALUES - left) / reach
    parts = [_text(MARGIN, top + 12, chart.title, "title")]
    first = top + LINE
    for number, (label, spread) in enumerate(chart.bars.items()):
        parts += _bar(label, spread, left, scale, first + number * LINE, chart.decimals)
    bottom = first + len(chart.bars) * LINE
    parts.append(_line(left, first, left, bottom, "axis"))
    if chart.goal is not None:
        at = left + chart.goal.value * scale
        parts.append(_line(at, first, at, bottom, "goal"))
        # Left of the line where there is no room to its right.
        place = "end" if at > WIDTH / 2 else "start"
        parts.append(_text(at, bottom + 14, f"goal: {chart.goal.text}", "faint", place))
        bottom += LINE
    return parts, bottom - top


def _bar(
    label: str, spread: Spread, left: int, scale: float, top: int, decimals: int
) -> tuple[str, ...]:
    middle = top + LINE / 2
    low, high = (left + value * scale for value in (spread.lowest, spread.highest))
    bar = (
        f'<rect class="bar" x="{left}" y="{middle - BAR / 2:.1f}"'
        f' width="{spread.median * scale:.1f}" height="{BAR}"/>'
    )
    return (
        _text(left - 8, middle + 4, label, "", "end"),
        bar,
        _line(low, middle, high, middle, "whisker"),
        *(_line(end, middle - 4, end, middle + 4, "whisker") for end in (low, high)),
        _text(WIDTH - MARGIN, middle + 4, spread.text(decimals), "faint", "end"),
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
