import pytest

from webhookd.core.upcoming import upcoming

MADE, TAKEN, LATER = (f"2026-01-31T12:00:0{n}.000Z" for n in range(3))


@pytest.mark.parametrize(
    ("due_at", "sends", "failing", "held_until", "said"),
    [
        (MADE, True, False, None, "due"),
        (MADE, True, True, None, "probing"),
        (MADE, True, True, LATER, f"held until {LATER}"),
        (MADE, True, False, MADE, "due"),
        (LATER, True, False, LATER, f"held until {LATER}"),
        (LATER, True, True, None, LATER),
        (LATER, False, True, LATER, None),
        (None, True, True, LATER, "waits"),
        (None, False, False, None, None),
    ],
)
def test_when_the_next_attempt_is_made(
    due_at: str | None, sends: bool, failing: bool, held_until: str | None, said: str | None
) -> None:
    word = upcoming(
        due_at, TAKEN, sends=sends, failing=failing, held_until=held_until, held_back=False
    )
    assert word == said
    held_back = upcoming(
        due_at, TAKEN, sends=sends, failing=failing, held_until=held_until, held_back=True
    )
    assert held_back == (said if said in (None, "waits") else "held back")
