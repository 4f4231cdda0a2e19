from webhookd.core.declaration import NO_DIFFERENCE, Changed, Difference


def test_a_difference_is_empty_when_there_is_nothing_to_write() -> None:
    assert NO_DIFFERENCE.is_empty
    assert Difference(unchanged=3).is_empty
    for one in (
        Difference(added=("a",)),
        Difference(changed=(Changed("a", ("url",)),)),
        Difference(paused=("a",)),
        Difference(resumed=("a",)),
        Difference(noted=("a",)),
    ):
        assert not one.is_empty


def test_a_difference_in_words_has_a_line_for_each_subscription() -> None:
    found = Difference(
        added=("a",),
        changed=(Changed("b", ("url", "timeout")),),
        paused=("c",),
        resumed=("d",),
        noted=("e",),
        unchanged=2,
    )
    assert found.in_words() == [
        "added      a",
        "changed    b: url, timeout",
        "paused     c: it is declared no more",
        "resumed    d: it is declared again",
        "noted      e: its state stays as it is",
        "unchanged  2 subscriptions",
    ]
    assert NO_DIFFERENCE.in_words() == ["unchanged  0 subscriptions"]
