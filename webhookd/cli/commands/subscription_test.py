"""`webhookd subscriptions test`: the handshake with a receiver of CloudEvents."""

import socket

import click

from webhookd.cli.commands.subscription_changes import profile_of
from webhookd.cli.context import App, pass_app
from webhookd.cli.output import document, json_option, lines
from webhookd.core import handshake, policy, urls
from webhookd.core.egress import EgressPolicy
from webhookd.core.model import Millis, Url
from webhookd.core.profiles import Headers
from webhookd.core.profiles.cloudevents import ORIGIN
from webhookd.errors import Refused, UsageError
from webhookd.store import subscriptions


@click.command()
@click.argument("subscription", metavar="ID|NAME")
@click.option(
    "--handshake",
    "asks",
    is_flag=True,
    required=True,
    help="Ask the receiver whether it agrees to get deliveries, as CloudEvents says.",
)
@click.option("--origin", help="The name to ask under; this machine's if left out.")
@json_option
@pass_app
def test(app: App, subscription: str, asks: bool, origin: str | None, as_json: bool) -> None:
    """Ask a receiver with OPTIONS whether this system may deliver to it, and how fast.

    If it agrees, each delivery names the origin from now on, and the rate that it allows becomes
    the subscription's rate_limit. Exits with 1 if it does not; then nothing changes.
    """
    del asks  # the only test that there is
    with app.session(write=True) as session:
        with session.read() as connection:
            found = subscriptions.find(connection, subscription)
        profile = profile_of(found, app.settings.profiles)
        if ORIGIN.lower() not in profile.echoes:
            raise UsageError(f"--handshake: profile {profile.name} has none; it is for cloudevents")
        try:
            name = handshake.check_origin(origin or socket.gethostname())
        except ValueError as error:
            raise UsageError(f"--origin: {error}") from None
        preset = policy.apply(profile.policy, found.policy)
        question = handshake.request(name, preset.rate_limit)
        status, answer = ask(urls.parse(found.url), question, app.settings.egress, preset.timeout)
        try:
            agreed = handshake.judge(name, status, answer)
        except handshake.Declined as error:
            raise Refused(f"{found.name}: {error}; nothing was changed") from None
        own = dict(found.policy)
        if agreed.rate is not None:
            own["rate_limit"] = agreed.rate
        changes = {"headers": handshake.with_origin(found.headers, agreed.origin), "policy": own}
        with session.write() as transaction:
            subscriptions.find(transaction.connection, found.id)
            subscriptions.update(transaction, found.key, changes)
    limit = None if agreed.rate is None else policy.show_rate(agreed.rate)
    if as_json:
        document({"id": found.id, "name": found.name, "origin": agreed.origin, "rate_limit": limit})
        return
    rate = "as many requests as come" if limit is None else f"at most {limit}"
    lines(f"{found.name}: the receiver agrees to {rate} from {agreed.origin}")


def ask(
    url: Url, question: Headers, egress: EgressPolicy, timeout: Millis
) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer.

    Raises:
        NoAnswer: there was none; one line.
    """
    import httpx
    import trio

    from webhookd.http.channel import Sender
    from webhookd.http.transport import DirectTransport

    async def exchange() -> httpx.Response:
        transport = DirectTransport(Sender(egress), timeout)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            return await client.request(handshake.METHOD, url.text, headers=list(question))

    answer = trio.run(exchange)
    return answer.status_code, dict(answer.headers)
