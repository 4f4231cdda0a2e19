"""A configuration's file, a daemon that reads it, and what the log says of it."""

import contextlib

import trio

from webhookd.config.load import load
from webhookd.config.settings import Settings
from webhookd.daemon.reload import Reloader
from webhookd.store import subscriptions


class Config:
    """The configuration's file, and how the daemon reads it."""

    def __init__(self, world) -> None:
        self.path = world.path.with_name("config.toml")
        self._world = world

    def write(self, text: str, *names: str, **keys: str) -> None:
        """`text`, and a block for each name, with the same further keys (as TOML) in all."""
        blocks = [
            f'[[subscriptions]]\nname = "{name}"\nsecret = "env:TEST_SECRET"\njitter = 0\n'
            + "\n".join(
                f"{key} = {value}"
                for key, value in {"url": f'"https://{name}.example/hook"', **keys}.items()
            )
            for name in names
        ]
        text = f'database = "{self._world.path.name}"\n{text}\n'
        self.path.write_text(text + "\n".join(blocks))

    def read(self) -> Settings:
        return load(self.path, database=None, environ={})

    def daemon(self, **options):
        """A daemon that starts with what the file says."""
        self._world.settings = self.read()
        return self._world.daemon(**options)


@contextlib.asynccontextmanager
async def at_work(world, daemon, read):
    """The daemon and its reloader, which is handed over."""
    reloader = Reloader(daemon, read)
    async with world.running(daemon), trio.open_nursery() as nursery:
        nursery.start_soon(reloader.run)
        await daemon.begun.wait()
        yield reloader
        nursery.cancel_scope.cancel()


def of(records, action):
    return [(r.levelname, r.fields) for r in records if getattr(r, "action", None) is action]


def stored(world, name):
    with world.command() as transaction:
        return subscriptions.find(transaction.connection, name)
