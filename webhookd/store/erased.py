"""Whether anything is left to send of an event that was erased: one rule for all who open again.

What cannot be sent any more could only end `failed`, and what became of it would be forgotten for
that. So neither `deliveries retry` nor a bulk change opens it.
"""

from typing import Final

from webhookd.core.profiles import Known

IS_ERASED: Final = "length(e.payload) = 0"
"""Of an event `e`; NULL, like no, for one that never had a payload. SQLite reads no payload for
it."""


def sends_payload(known: Known, profile: str) -> bool:
    """Whether a profile sends what events say, so that of an erased one nothing is left to send.

    No, where nobody can tell: the profile is gone from the configuration.
    """
    try:
        return not known.get(profile).id_only
    except ValueError:
        return False
