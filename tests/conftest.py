"""What holds for every test: a WARNING or worse that nobody expected fails it."""

import logging
import signal
from collections.abc import Iterator

import pytest

from webhookd.logs.actions import LOGGER, Record

# Whoever is started in the background of a shell has SIGINT ignored, and so would its children.
signal.signal(signal.SIGINT, signal.default_int_handler)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def _collector() -> Iterator[_Collector]:
    """Everything said to the loggers that `webhookd.logs` sets up, put back afterwards."""
    ours, root = logging.getLogger(LOGGER), logging.getLogger()
    before = [
        (logger, logger.level, logger.propagate, logger.handlers[:]) for logger in (ours, root)
    ]
    collector = _Collector()
    ours.addHandler(collector)
    yield collector
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers
    logging.captureWarnings(False)


@pytest.fixture(autouse=True)
def _no_stray_logs(request: pytest.FixtureRequest, _collector: _Collector) -> Iterator[None]:
    yield
    if "expected_logs" in request.fixturenames:
        return
    stray = [
        f"{record.levelname} {record.getMessage()} {getattr(record, 'fields', '')}"
        for record in _collector.records
        if record.levelno >= logging.WARNING
    ]
    assert not stray, f"logged and not expected (take `expected_logs`): {stray}"


@pytest.fixture
def expected_logs(_collector: _Collector) -> list[Record]:
    """The records of this test as they come, from DEBUG on: `action`, `levelno`, `fields`."""
    logging.getLogger(LOGGER).setLevel(logging.DEBUG)
    return _collector.records
