"""The profiles by name. Each is one module, and one line here."""

from webhookd.core.profiles import cloudevents, floriday, ntropy, onestock, standard
from webhookd.core.profiles.known import Known
from webhookd.core.profiles.profile import Content, Headers, Profile, Unrenderable

__all__ = ["BUILT_IN", "Content", "Headers", "Known", "Profile", "Unrenderable"]

BUILT_IN = Known.of(
    standard.PROFILE,
    ntropy.PROFILE,
    floriday.PROFILE,
    onestock.PROFILE,
    cloudevents.PROFILE,
)
"""What there is without a configuration. Whoever has one takes `Settings.profiles` instead."""
