"""Values on the command line: text in, a judged value or a usage error out."""

from typing import Any, Final

import click

from webhookd.cli.context import App
from webhookd.core.model import Millis
from webhookd.core.text import printable
from webhookd.core.times import EARLIEST, parse_duration, parse_occurred_at, with_unit

HIGHEST: Final = 2**63 - 1
"""The highest number that SQLite's integers hold."""


class Whole(click.IntRange):
    """A whole number within bounds, whose fault says which they are."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            most = "" if self.max in (None, HIGHEST) else f" to {self.max}"
            said = f"takes a whole number from {self.min}{most}"
            self.fail(f"{printable(str(value), 40)!r}: {said}", param, ctx)


class Share(click.FloatRange):
    """A number from 0 to 1."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return float(super().convert(value, param, ctx))
        except click.BadParameter:
            said = "takes a share from 0 to 1, like 0.5"
            self.fail(f"{printable(str(value), 40)!r}: {said}", param, ctx)


class _Duration(click.ParamType):  # type: ignore[type-arg] # generic from click 8.5 on
    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Millis:
        text = str(value)
        try:
            return parse_duration(with_unit(text))
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
NUMBER: Final = Whole(1, HIGHEST)
"""A delivery's id."""
CURSOR: Final = Whole(0, HIGHEST)
EPOCH: Final = Whole(1, HIGHEST)
LIMIT: Final = Whole(1, 100_000)
"""Rows of one page, which are held in memory together."""
