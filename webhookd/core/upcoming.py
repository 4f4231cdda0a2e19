"""When the next attempt is made, as lists and `status` say it."""


def upcoming(
    due_at: str | None,
    now: str,
    *,
    sends: bool,
    failing: bool,
    held_until: str | None,
    held_back: bool,
) -> str | None:
    """When the next attempt of a pending delivery is made, in a word or two; None for never.

    Args:
        due_at: of the delivery, or the earliest of several; None while it waits behind another.
        now: like all moments here, as the file has it.
        sends: its subscription is enabled.
        failing: its subscription is probed with one request at a time.
        held_until: until when nothing is attempted, if something holds the subscription back.
        held_back: the daemon cannot deliver to it as it is.
    """
    if not sends:
        return None
    if due_at is None:
        return "waits"
    if held_back:
        return "held back"
    if held_until is not None and held_until > now and held_until >= due_at:
        return f"held until {held_until}"
    if due_at > now:
        return due_at
    return "probing" if failing else "due"
