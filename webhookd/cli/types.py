"""Values on the command line: text in, a judged value or a usage error out."""

from typing import Any, Final

import click

from webhookd.cli.context import App
from webhookd.core.model import Millis
from webhookd.core.text import printable
from webhookd.core.times import EARLIEST, parse_duration, parse_occurred_at

HIGHEST: Final = 2**63 - 1
"""The highest number that SQLite's integers hold."""


class _Duration(click.ParamType):  # type: ignore[type-arg] # generic from click 8.5 on
    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Millis:
        text = str(value)
        try:
            return parse_duration(int(text) if text.isdecimal() else text)
        except ValueError as error:
            self.fail(f"{printable(text, 40)!r}: {error}", param, ctx)


class _Moment(click.ParamType):  # type: ignore[type-arg] # generic from click 8.5 on
    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Millis:
        """A moment; a duration means that long ago, by the clock of the command's `App`."""
        text = str(value)
        moment = parse_occurred_at(text)
        if moment is not None:
            return moment
        try:
            span = parse_duration(text)
        except ValueError:
            self.fail(
                f"{printable(text, 40)!r}: takes a moment, like 2026-01-31T12:00:00Z, or how long "
                "ago, like 2h",
                param,
                ctx,
            )
        app: App = click.get_current_context().obj
        return max(EARLIEST, app.now() - span)


DURATION: Final = _Duration()
MOMENT: Final = _Moment()
NUMBER: Final = click.IntRange(1, HIGHEST)
"""A delivery's id."""
CURSOR: Final = click.IntRange(0, HIGHEST)
LIMIT: Final = click.IntRange(1, 100_000)
"""Rows of one page, which are held in memory together."""
