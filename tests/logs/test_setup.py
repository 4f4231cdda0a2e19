import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from webhookd.logs.actions import LOGGER, Action, Record, log
from webhookd.logs.setup import LineHandler, setup

pytestmark = pytest.mark.usefixtures("expected_logs")

HOSTILE = "\x1b[31mred\r\nINFO forged \u202e\u2028 \x00 \udcff ü"


def raised(error: Exception) -> Exception:
    """The exception with the traceback that raising gives it."""
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def said(form: str, action: Action, level: int = logging.INFO, **fields: object) -> str:
    stream = io.StringIO()
    setup(stream, format=form, level="debug")
    log(action, level, **fields)
    return stream.getvalue()


def test_a_json_line_has_its_keys_in_order() -> None:
    line = said("json", Action.ATTEMPT, delivery=12, status=None, kinds=["a"], counts={"b": 1})
    parsed = json.loads(line)
    assert list(parsed) == ["time", "level", "action", "delivery", "status", "kinds", "counts"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", parsed.pop("time"))
    assert parsed == {
        "level": "info",
        "action": "attempt",
        "delivery": 12,
        "status": None,
        "kinds": ["a"],
        "counts": {"b": 1},
    }


def test_the_lines_own_time_wins_over_a_field() -> None:
    assert json.loads(said("json", Action.ATTEMPT, time="never"))["time"].endswith("Z")


@pytest.mark.parametrize("form", ["json", "text"])
def test_C31_nothing_foreign_reaches_the_terminal(form: str) -> None:
    line = said(form, Action.ATTEMPT, error=raised(ValueError(HOSTILE)), detail=HOSTILE)
    first, *rest = line.removesuffix("\n").split("\n")
    assert first.isprintable()
    assert all(part.startswith("    ") and part.isprintable() for part in rest)
    if form == "json":
        assert line.isascii()
        assert rest == []
        assert json.loads(line)["detail"] == HOSTILE


def test_a_text_line_is_for_people() -> None:
    line = said(
        "text", Action.ATTEMPT, delivery=12, ok=True, text="two words", empty="", absent=None, q='"'
    )
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} INFO  attempt  "
        r'delivery=12 ok=true text="two words" empty="" q="\\""\n',
        line,
    )


def test_a_number_that_json_does_not_know_loses_no_line() -> None:
    assert json.loads(said("json", Action.ATTEMPT, ms=float("nan"), n=1))["ms"] == "nan"


def test_a_traceback_is_told_without_the_secrets_of_urls() -> None:
    error = raised(ValueError("POST https://me:pw@host/in?token=s3cret failed"))
    parsed = json.loads(said("json", Action.LANE_CRASHED, logging.CRITICAL, error=error))
    assert parsed["level"] == "critical"
    assert parsed["traceback"].startswith("Traceback")
    assert "ValueError: POST https://***@host/in?*** failed" in parsed["traceback"]
    text = said("text", Action.LANE_CRASHED, logging.CRITICAL, error=error)
    assert "\n    Traceback" in text
    assert "s3cret" not in text


def test_below_the_level_nothing_is_written() -> None:
    stream = io.StringIO()
    setup(stream, format="json", level="warning")
    log(Action.ATTEMPT, logging.INFO)
    assert stream.getvalue() == ""


def test_a_second_setup_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    setup(first, format="json", level="info")
    setup(second, format="json", level="info")
    log(Action.ATTEMPT, logging.INFO)
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def test_libraries_are_heard_from_warning_on_with_urls_masked() -> None:
    stream = io.StringIO()
    setup(stream, format="json", level="debug")
    logging.getLogger("httpx").info("HTTP Request: POST https://host/in?token=s3cret")
    assert stream.getvalue() == ""
    logging.getLogger("httpx").warning("retrying %s", "https://u:p@host/in?token=s3cret now")
    parsed = json.loads(stream.getvalue())
    del parsed["time"]
    assert parsed == {
        "level": "warning",
        "action": "library",
        "logger": "httpx",
        "text": "retrying https://***@host/in?*** now",
    }


def test_warnings_of_python_are_lines_too() -> None:
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        setup(stream, format="json", level="info")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert json.loads(stream.getvalue())["logger"] == "py.warnings"


@contextmanager
def pipe() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """A pipe's reading end, and its writing end as a stream that logs go to."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        setup(stream, format="json", level="info")
        try:
            yield reader, stream
        finally:
            os.close(reader)


def handler() -> LineHandler:
    handlers = logging.getLogger(LOGGER).handlers
    return next(handler for handler in handlers if isinstance(handler, LineHandler))


def drained(reader: int) -> list[str]:
    data = b""
    while True:
        try:
            data += os.read(reader, 1 << 20)
        except BlockingIOError:
            return data.decode().splitlines()


def test_E17_a_reader_that_stalls_holds_up_nothing_and_the_loss_is_counted() -> None:
    with pipe() as (reader, _):
        for number in range(2_000):
            log(Action.ATTEMPT, logging.INFO, number=number, pad="x" * 100)
        lost = handler().dropped
        first = drained(reader)
        assert [json.loads(line)["number"] for line in first] == list(range(2_000 - lost))
        assert lost > 0
        log(Action.ATTEMPT, logging.INFO, number=2_000)
        loss, after = drained(reader)
        assert json.loads(loss)["action"] == "log.dropped"
        assert json.loads(loss)["count"] == lost
        assert json.loads(after)["number"] == 2_000
        assert handler().dropped == 0


def test_E17_a_long_line_that_was_cut_spoils_no_other() -> None:
    with pipe() as (reader, _):
        log(Action.ATTEMPT, logging.INFO, pad="x" * 1_000_000)
        cut = drained(reader)
        assert len(cut) == 1
        with pytest.raises(ValueError, match="Unterminated"):
            json.loads(cut[0])
        log(Action.ATTEMPT, logging.INFO, number=1)
        ended, loss, line = drained(reader)
        assert ended == ""
        assert json.loads(loss)["count"] == 1
        assert json.loads(line)["number"] == 1


def test_E17_what_was_lost_and_torn_is_told_after_another_setup_too() -> None:
    with pipe() as (reader, stream):
        log(Action.ATTEMPT, logging.INFO, pad="x" * 1_000_000)
        assert len(drained(reader)) == 1
        setup(stream, format="json", level="debug")
        log(Action.ATTEMPT, logging.DEBUG, number=1)
        ended, loss, line = drained(reader)
        assert ended == ""
        assert json.loads(loss)["count"] == 1
        assert json.loads(line)["number"] == 1
        other = io.StringIO()
        log(Action.ATTEMPT, logging.INFO, pad="x" * 1_000_000)
        setup(other, format="json", level="debug")
        log(Action.ATTEMPT, logging.DEBUG, number=2)
        assert json.loads(other.getvalue())["number"] == 2


def test_E17_a_reader_that_is_gone_raises_nothing() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        setup(stream, format="json", level="info")
        os.close(reader)
        log(Action.ATTEMPT, logging.INFO)
        log(Action.ATTEMPT, logging.INFO)
        assert handler().dropped == 2


def test_E17_a_stream_that_was_closed_raises_nothing() -> None:
    stream = io.StringIO()
    setup(stream, format="text", level="info")
    stream.close()
    log(Action.ATTEMPT, logging.INFO)
    assert handler().dropped == 1


def test_a_terminal_without_utf8_gets_escapes() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="ascii") as stream:
        setup(stream, format="text", level="info")
        log(Action.ATTEMPT, logging.INFO, name="Müller")
        assert b"name=M\\xfcller" in os.read(reader, 4096)
    os.close(reader)


def test_the_record_of_a_line_is_ours(expected_logs: list[Record]) -> None:
    said("json", Action.DAEMON_READY)
    assert isinstance(expected_logs[0], Record)
