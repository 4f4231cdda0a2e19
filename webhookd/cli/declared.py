"""What commands may do with a subscription that the configuration declares."""

from webhookd.cli.context import App
from webhookd.cli.output import complain
from webhookd.core.declaration import BY_CONFIG
from webhookd.core.storage import StoredSubscription
from webhookd.errors import Refused


def check_editable(app: App, found: StoredSubscription) -> None:
    """Refuse to edit what the configuration defines. Raises Refused."""
    if found.managed_by != BY_CONFIG:
        return
    block = app.declared(found.name)
    if block is not None:
        raise Refused(
            f"{found.name}: is defined in {block.place}; change it there, then reload the daemon "
            "or say `webhookd subscriptions apply`"
        )
    raise Refused(
        f"{found.name}: was defined in a configuration, and {_where(app)} does not declare it; "
        "name the one that does with --config, or remove the subscription and add another one"
    )


def check_removable(app: App, found: StoredSubscription) -> None:
    """Refuse to remove what would come back at the next reload. Raises Refused."""
    block = app.declared(found.name)
    if found.managed_by == BY_CONFIG and block is not None:
        raise Refused(
            f"{found.name}: stands in {block.place}, so it would come back; take the block out of "
            "the file first, or pause it"
        )


def warn_undeclared(app: App, found: StoredSubscription) -> None:
    """Say on stderr that a subscription is enabled only until the configuration is applied."""
    if found.managed_by != BY_CONFIG or app.declared(found.name) is not None:
        return
    complain(
        f"warning: {found.name}: {_where(app)} does not declare it, so the next start or reload "
        "with a configuration that does not pauses it again"
    )


def _where(app: App) -> str:
    return "this command line (no --config)" if app.config is None else str(app.config)
