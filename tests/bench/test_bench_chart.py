"""Charts as a browser finds them."""

from xml.etree import ElementTree as ET

import pytest

from bench.chart import Chart, Goal, svg
from bench.figures import Spread

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*charts: Chart) -> ET.Element:
    return ET.fromstring(svg(charts))  # noqa: S314 - what we wrote ourselves


def of_class(root: ET.Element, kind: str) -> list[ET.Element]:
    return [element for element in root if element.get("class") == kind]


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_a_bar_is_as_long_as_its_median_and_whiskers_reach_the_lowest_and_highest() -> None:
    root = drawn(Chart.of("rates", {"one": [10.0, 20.0, 40.0], "two": [5.0, 10.0, 10.0]}))
    one, two = (float(bar.get("width", "")) for bar in of_class(root, "bar"))
    assert one == pytest.approx(2 * two, abs=0.2)
    left = float(of_class(root, "bar")[0].get("x", ""))
    whisker = of_class(root, "whisker")[0]
    ends = [float(whisker.get(name, "")) - left for name in ("x1", "x2")]
    assert ends == [pytest.approx(one / 2, abs=0.2), pytest.approx(2 * one, abs=0.2)]


def test_the_goal_is_drawn_to_scale_even_where_no_bar_reaches_it() -> None:
    root = drawn(Chart.of("share", {"ours": [0.1]}, goal=Goal("at least 0.3", 0.3), decimals=2))
    bar, goal = of_class(root, "bar")[0], of_class(root, "goal")[0]
    left = float(bar.get("x", ""))
    assert float(goal.get("x1", "")) - left == pytest.approx(
        3 * float(bar.get("width", "")), abs=0.3
    )
    assert float(goal.get("x1", "")) < float(root.get("width", ""))
    assert "goal: at least 0.3" in texts(root)


def test_the_figures_stand_beside_the_bars_and_labels_are_text() -> None:
    root = drawn(Chart.of("a < b & c", {"<x>": [1.0, 2.0, 3.0]}, decimals=1))
    assert texts(root) == ["a < b & c", "<x>", "2.0 (1.0 to 3.0)"]


def test_charts_stand_below_each_other_within_the_picture() -> None:
    chart = Chart("t", {"a": Spread(1, 1, 1)}, Goal("at most 2", 2))
    root = drawn(chart, chart, chart)
    titles = [float(found.get("y", "")) for found in of_class(root, "title")]
    assert titles == sorted(titles)
    assert len(set(titles)) == 3
    lowest = max(float(found.get("y", "")) for found in root.iter(f"{SVG}text"))
    assert lowest < float(root.get("height", ""))


def test_nothing_measured_but_zeros_can_be_drawn() -> None:
    assert [bar.get("width") for bar in of_class(drawn(Chart.of("t", {"a": [0.0]})), "bar")] == [
        "0.0"
    ]


def test_it_leaves_the_ground_alone_and_has_colours_for_a_dark_one() -> None:
    text = svg([Chart.of("t", {"a": [1.0]})])
    assert "prefers-color-scheme: dark" in text
    assert "background" not in text
