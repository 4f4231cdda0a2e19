import logging
import re
from pathlib import Path

import pytest

from webhookd.logs.actions import LOGGER, Action, Record, log


def test_a_line_carries_its_action_level_and_fields(expected_logs: list[Record]) -> None:
    log(Action.ATTEMPT, logging.INFO, delivery=12, status=200)
    log(Action.STORE_BUSY, logging.WARNING, seconds=2.5)
    assert [(record.action, record.levelno, record.fields) for record in expected_logs] == [
        (Action.ATTEMPT, logging.INFO, {"delivery": 12, "status": 200}),
        (Action.STORE_BUSY, logging.WARNING, {"seconds": 2.5}),
    ]


def test_names_that_logging_uses_itself_are_free_for_fields(expected_logs: list[Record]) -> None:
    log(Action.ATTEMPT, logging.INFO, name="acme", args="x", message="y", exc_info="z")
    assert expected_logs[0].fields == {"name": "acme", "args": "x", "message": "y", "exc_info": "z"}
    assert expected_logs[0].name == LOGGER


def test_nothing_is_made_when_nobody_listens(expected_logs: list[Record]) -> None:
    logging.getLogger(LOGGER).setLevel(logging.WARNING)
    log(Action.ATTEMPT, logging.INFO, delivery=12)
    assert expected_logs == []


def test_an_action_that_is_not_on_the_list_is_a_type_error(expected_logs: list[Record]) -> None:
    with pytest.raises(TypeError, match="no action"):
        log("attempt", logging.INFO)
    assert expected_logs == []


def test_names_of_actions_have_one_form() -> None:
    wrong = [name for name in Action if not re.fullmatch(r"[a-z]+(\.[a-z_]+)?", name)]
    assert wrong == []


def test_the_documentation_has_every_action() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    table = text.partition("| action | level | says |")[2].partition("\n\n")[0]
    first_cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    told = [name for cell in first_cells for name in re.findall(r"`([a-z_.]+)`", cell)]
    assert sorted(told) == sorted(action.value for action in Action)
