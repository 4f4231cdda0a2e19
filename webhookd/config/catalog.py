"""The catalogues that come with the package, read when they are asked for."""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from webhookd.config.settings import Outbox
from webhookd.core import catalog
from webhookd.core.catalog import Catalog
from webhookd.core.structure import Validation


@cache
def of_system(system: str) -> Catalog:
    """The event types of one of `webhookd.config.settings.SYSTEMS`."""
    file = files("webhookd") / "catalog" / f"{system}.json"
    return catalog.read(file.read_text(encoding="utf-8"))


def of_systems(systems: Iterable[str]) -> Catalog:
    """The event types of several systems; no name is in two of them."""
    return catalog.joined(of_system(system) for system in systems)


def validation(outbox: Outbox) -> Validation | None:
    """What payloads are held against; None where they are not."""
    if outbox.validate == "off":
        return None
    return Validation(of_systems(outbox.catalog), rejects=outbox.validate == "reject")
