"""By what rules rows are judged and matched, as the file and the configuration have it now.

One place for the daemon and for the commands that ingest: what both make of a row must be the same.
"""

from webhookd.core.matching import Interest, Matcher
from webhookd.core.profiles import Known
from webhookd.core.structure import Validation
from webhookd.store import subscriptions
from webhookd.store.driver import Connection
from webhookd.store.recipients import Recipient, Terms, effective


def load(
    connection: Connection,
    *,
    default_tenant: str,
    max_payload: int,
    profiles: Known,
    validation: Validation | None = None,
) -> Terms:
    """The terms of this moment: of all subscriptions that are not removed.

    With 10,000 of them it takes a third of a second, so not while the write lock is held if it
    can be helped. They stay right for as long as the file's `roll` does not move.
    """
    stored = subscriptions.load(connection)
    return Terms(
        matcher=Matcher(Interest(one.key, one.events, one.tenant) for one in stored),
        recipients={
            one.key: Recipient(
                one.id, one.name, one.state, effective(profiles, one.profile, one.policy)
            )
            for one in stored
        },
        default_tenant=default_tenant,
        max_payload=max_payload,
        validation=validation,
    )
