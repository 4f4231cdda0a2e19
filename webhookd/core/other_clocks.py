"""Whether this machine's clock is wrong, judged by what receivers say the time is.

Every answer of HTTP says it in its `Date`. One receiver that says another time than ours may be
wrong itself. Where several say the same other time, and fewer say otherwise, it is our clock:
then receivers refuse what we sign, for the time is signed too.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from webhookd.core.model import Answer, Millis
from webhookd.core.text import counted, printable
from webhookd.core.times import format_duration, parse_http_date
from webhookd.core.verify import TOLERANCE

APART: Final = TOLERANCE
"""Clocks that differ by no more do not make a receiver refuse a signature, and agree."""

WITNESSES: Final = 2
"""Hosts that have to say so before it is our clock that is wrong."""

_GATEWAYS: Final = frozenset({502, 504})
"""Statuses of one that answers in place of others: its clock is one, of however many hosts."""

MOST_NAMED: Final = 3
_LONGEST_NAME: Final = 80

_MINUTE: Final = 60_000
_REMEDY: Final = (
    f"receivers refuse signatures that are {format_duration(APART)} off; see `timedatectl`, and "
    "let NTP set the clock"
)


def date_of(answer: Answer) -> str:
    """The `Date` of an answer, where it is the host's own; else ''."""
    return "" if answer.status in _GATEWAYS else answer.date


def ahead_by(date: str, now: Millis) -> Millis | None:
    """How far our clock is ahead of the one that wrote `date`, a `Date` header just received.

    Negative where ours is behind; None where the text is no date of HTTP.
    """
    said = parse_http_date(date, now)
    return None if said is None else now - said


def judge(ahead: Mapping[str, Millis]) -> tuple[Millis, list[str]] | None:
    """By how much our clock is ahead, and the hosts that say so; None where nothing is wrong.

    Args:
        ahead: of each host how far we are ahead of it; hosts of this machine's own say nothing.
    """
    hosts: list[str] = []
    off = sorted((by, host) for host, by in ahead.items() if abs(by) > APART)
    first = 0
    for end, (by, _) in enumerate(off, 1):
        while by - off[first][0] > APART:
            first += 1
        if end - first > len(hosts):
            hosts = [host for _, host in off[first:end]]
    if len(hosts) < WITNESSES or 2 * len(hosts) <= len(ahead):
        return None
    return ahead[hosts[len(hosts) // 2]], sorted(hosts)


def told(by: Millis, hosts: list[str]) -> str:
    """What a person should know of a clock of ours that `judge` found wrong."""
    return (
        f"this machine's clock is {_side(by)} the time, say {counted(len(hosts), 'receiver')} "
        f"({_named(hosts)}); {_REMEDY}"
    )


def at_odds(ahead: Mapping[str, Millis]) -> list[str]:
    """One line for each host whose clock differs from ours, where nobody can tell who is wrong."""
    return [
        f"this machine's clock is {_side(by)} that of {printable(host, _LONGEST_NAME)}: one of the "
        f"two is wrong; if it is ours, {_REMEDY}"
        for host, by in sorted(ahead.items())
        if abs(by) > APART
    ]


def nobody_agrees(ahead: Mapping[str, Millis]) -> bool:
    """Whether no host bears our clock out, so that a single one at odds with it may be right."""
    return all(abs(by) > APART for by in ahead.values())


def _named(hosts: Iterable[str]) -> str:
    named = [printable(host, _LONGEST_NAME) for host in hosts]
    more = ["..."] if len(named) > MOST_NAMED else []
    return ", ".join(named[:MOST_NAMED] + more)


def _side(by: Millis) -> str:
    """`12m ahead of`, `12m behind`: whole minutes, for an answer was under way for a while."""
    minutes = format_duration(round(abs(by) / _MINUTE) * _MINUTE)
    return f"{minutes} ahead of" if by > 0 else f"{minutes} behind"
