"""What a benchmark writes."""

import json

from bench.report import Result, as_json, table


def test_json_has_lists_of_numbers_on_a_line_and_five_digits() -> None:
    text = as_json({"a": [1.23456789, 2.0, 3], "b": {"c": ["x [1,", "y"], 1: (123456.7,)}})
    assert '"a": [ 1.2346, 2.0, 3 ]' in text
    assert json.loads(text) == {
        "a": [1.2346, 2.0, 3],
        "b": {"c": ["x [1,", "y"], "1": [123460.0]},
    }


def test_a_table_has_its_settings_above_and_its_remarks_below() -> None:
    result = Result(
        settings={"rounds": 3},
        columns=("", "ms"),
        rows=(("a longer label", "1"), ("b", "")),
        figures={},
        remarks=("median",),
    )
    assert table("latency", result).splitlines() == [
        "latency: rounds 3",
        "                  ms",
        "  a longer label  1",
        "  b",
        "  - median",
    ]
