"""The entry point: global options, the commands by name, and how every one of them ends."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from click.core import ParameterSource

from webhookd import __version__
from webhookd.cli.context import App
from webhookd.cli.lazy import LazyGroup
from webhookd.cli.output import complain
from webhookd.config.load import VARIABLE
from webhookd.errors import EXIT_BUG, EXIT_OK, EXIT_USAGE, EXIT_WRONG, WebhookdError

_GLOBAL: Final = ("--config", "--database")
"""Options of no command, but of `webhookd` itself."""
INTERRUPTED: Final = 128 + signal.SIGINT
"""What shells expect of a program that Ctrl-C ended."""

_COMMANDS: Final = {
    name: f"webhookd.cli.commands.{module}:{attribute}"
    for name, module, attribute in (
        ("init", "init", "init"),
        ("run", "run", "run"),
        ("check", "check", "check"),
        ("status", "status", "status"),
        ("subscriptions", "subscriptions", "subscriptions"),
        ("events", "events", "events"),
        ("deliveries", "deliveries", "deliveries"),
        ("replay", "replay", "replay"),
        ("prune", "prune", "prune"),
        ("results", "feeds", "results"),
        ("changes", "feeds", "changes"),
        ("feed-events", "feeds", "feed_events"),
        ("capture", "capture", "capture"),
        ("catalog", "catalog", "catalog"),
        ("listen", "listen", "listen"),
        ("verify", "verify", "verify"),
        ("demo", "demo", "demo"),
    )
}


class _ReaderGone(Exception):
    """Whoever read our stdout has closed it. click would end the process at a BrokenPipeError."""


class Root(LazyGroup):
    """The group of all commands. Whatever happens in one, its end is decided here."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGone from error

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run one command line and exit with its code."""
        extra["standalone_mode"] = False
        arguments = list(sys.argv[1:] if args is None else args)
        sys.exit(_guarded(lambda: _run(super(Root, self).main, arguments, extra)))


@click.command(
    cls=Root,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 fine, 1 something asked about is wrong, 2 usage, 3 configuration, "
    "4 database, 5 another daemon runs, 6 not running or stalled, 7 feed reset, 70 bug.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, readable=False),  # whoever reads it says what is wrong
    metavar="PATH",
    envvar=VARIABLE,
    help="The configuration, a TOML file. None is looked for: without one, defaults.  "
    "[env: WEBHOOKD_CONFIG]",
)
@click.option(
    "--database",
    metavar="PATH",
    envvar="WEBHOOKD_DATABASE",
    help="The SQLite file; wins over the configuration.  [env: WEBHOOKD_DATABASE]",
)
@click.version_option(__version__, prog_name="webhookd", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, config: Path | None, database: str | None) -> None:
    """Reliable, ordered, signed webhooks out of an ERP: one daemon, one SQLite file.

    The host inserts rows into an outbox table; webhookd delivers them to subscriptions.
    Results are written to stdout, messages to stderr; --json is there on every command that
    prints something.
    """
    by_variable = context.get_parameter_source("config") is ParameterSource.ENVIRONMENT
    context.obj = App(config, database, named_by=VARIABLE if by_variable else "--config")


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run one command line (`sys.argv`'s by default) and exit with its code."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - until the end
        elif isinstance(stream, TextIOWrapper):
            # What the encoding has no character for is shown as an escape, and ends nothing.
            stream.reconfigure(errors="backslashreplace")
    cli.main(args, prog_name="webhookd")


def _run(call: Any, arguments: list[str], extra: dict[str, Any]) -> int:
    texts = [_text(argument, number) for number, argument in enumerate(arguments, 1)]
    result = call(args=texts, **extra)
    sys.stdout.flush()
    return result if isinstance(result, int) else EXIT_OK


def _guarded(call: Any) -> int:
    """The exit code of `call`, whatever it raises; what is to be said of it is said."""
    try:
        code: int = call()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        complain(_one_line(error))
        return error.exit_code
    except WebhookdError as error:
        complain(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (_ReaderGone, BrokenPipeError):
        _drop_stdout()
        return EXIT_OK
    except OSError as error:
        if not _is_of_stdout():
            return _bug()
        _drop_stdout()
        complain(f"standard output: {error.strerror}; what was printed is not complete")
        return EXIT_WRONG
    except Exception:  # noqa: BLE001 - a bug: told in full, with an exit code of its own
        return _bug()
    return code


def _one_line(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "webhookd"
    if isinstance(error, click.NoSuchOption) and error.option_name in _GLOBAL:
        _, _, command = where.partition(" ")
        right = f"webhookd {error.option_name} PATH {command}"
        return f"{error.option_name} goes before the command: `{right}`"
    return f"{text.rstrip('.')}; see `{where} --help`"


def _bug() -> int:
    traceback.print_exc()
    complain("this is a bug in webhookd; the lines above say where")
    return EXIT_BUG


def _is_of_stdout() -> bool:
    """Whether the stream itself is what cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _drop_stdout() -> None:
    """Let the interpreter's last flush go nowhere, instead of failing once more."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _text(argument: str, number: int) -> str:
    """The argument, decoded anew where the locale could not: outside, text is UTF-8."""
    try:
        return os.fsencode(argument).decode() if not argument.isascii() else argument
    except UnicodeError:
        raise click.UsageError(f"argument {number} is not UTF-8 text") from None
