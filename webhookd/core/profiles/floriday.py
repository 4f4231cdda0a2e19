"""`floriday`: the webhooks of Floriday, which carry IDs and never any content.

Whoever gets one asks the host's API for the aggregate. The public service sends its events inside
an envelope of its infrastructure, whose signature its documentation leaves open: here a request is
signed as Standard Webhooks says, if the subscription has a secret at all.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from webhookd.core.model import Event, Policy, Subscription
from webhookd.core.profiles import envelope, standard
from webhookd.core.profiles.profile import Content, Profile, Unrenderable

_SECOND: Final = 1_000


def render(_subscription: Subscription, event: Event, _number: int) -> Content:
    """Five ids and no more, whatever the payload says."""
    if not event.tenant:
        raise Unrenderable("the event has no tenant, and organizationId cannot do without")
    if not event.aggregate_id:
        raise Unrenderable("the event has no aggregate id, and there is nothing else to send")
    event_type = event.event_type
    if event.aggregate_type_made:
        # SALESORDER.ACCEPTED is the host's way to write the pair (SALESORDER, ACCEPTED) in one
        # column. A row that fills both columns means each as it stands.
        event_type = event_type.rpartition(".")[2]
    body = envelope.members(
        (b"eventId", envelope.text(event.event_id)),
        (b"eventType", envelope.text(event_type)),
        (b"aggregateId", envelope.text(event.aggregate_id)),
        (b"aggregateType", envelope.text(event.aggregate_type)),
        (b"organizationId", envelope.text(event.tenant)),
    )
    return Content(envelope.JSON, body)


def check_events(patterns: Sequence[str]) -> None:
    """Every event of the organization, or nothing.

    Raises:
        ValueError: the patterns are not `*` alone.
    """
    for pattern in patterns:
        if pattern != "*":
            raise ValueError(
                f"{pattern!r}: profile floriday takes '*' alone, because with Floriday it is not"
                " possible to subscribe to specific events; the receiver picks what it wants"
            )


PROFILE: Final = Profile(
    name="floriday",
    policy=Policy(
        timeout=15 * _SECOND,
        retry_delays=(20 * _SECOND,) * 3,
        permanent_statuses=("4xx",),
    ),
    methods=("POST",),
    requires_secret=False,
    scheme=standard.SCHEME,
    render=render,
    check_secret=standard.check_secret,
    check_events=check_events,
    requires_tenant=True,
    fixed=MappingProxyType(
        {"coalesce": "profile floriday sends at least one event for each change of an aggregate"}
    ),
    id_only=True,
    body_id="eventId",
)
