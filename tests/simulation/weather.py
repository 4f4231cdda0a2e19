"""What befalls the machine while the daemon runs; its own ends are in `machine.ENDS`.

Each is one function in `WEATHER`, and over when it returns; a new trouble is one more row.
"""

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio

from tests.simulation.network import MACHINE_FAULTS
from webhookd.store.driver import connect, sqlite3

if TYPE_CHECKING:
    from tests.simulation.world import World


async def _full_disk(world: "World", dice: random.Random) -> None:
    world.disk_is_full = True
    await trio.sleep(dice.uniform(0.5, 20))
    world.disk_is_full = False


async def _jump(world: "World", dice: random.Random) -> None:
    by = dice.choice((2_000, 60_000, 3_600_000, 86_400_000, 7 * 86_400_000))
    way = dice.choice((-by, by))
    world.clock.jump(way)
    if dice.random() < 0.5:
        await trio.sleep(dice.uniform(0.1, 20))
        # Mostly somebody puts it right.
        world.clock.jump(dice.choice((-way, -way, way)))


async def _power(world: "World", dice: random.Random) -> None:
    world.power_cut()


async def _secrets(world: "World", dice: random.Random) -> None:
    world.find_secrets()


async def _no_outbox(world: "World", dice: random.Random) -> None:
    """The host's own migration takes the outbox away, and brings it back."""
    for old, new, away in (("outbox", "moved", True), ("moved", "outbox", False)):
        while not _rename(world, old, new):  # noqa: ASYNC110 - virtual
            await trio.sleep(0.1)
        world.outbox_is_away = away
        world.outbox_back_at = trio.current_time()
        await trio.sleep(dice.uniform(0.1, 12))


async def _no_network(world: "World", dice: random.Random) -> None:
    """Nobody can be reached from here, whoever it is."""
    world.machine_fault = dice.choice(tuple(MACHINE_FAULTS))
    await trio.sleep(dice.uniform(0.5, 30))
    world.machine_fault = ""


async def _reload(world: "World", dice: random.Random) -> None:
    """Other limits, while the daemon is at work."""
    world.draw_limits(dice)
    life = world.machine.life
    if life is not None and life.daemon is not None and not life.dead:
        life.daemon.use(world.settings)


def _rename(world: "World", old: str, new: str) -> bool:
    connection = connect(world.path, mode="rw")
    try:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"ALTER TABLE {old} RENAME TO {new}")
        world.committed("host", connection)
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


WEATHER: Final[dict[str, Callable[["World", random.Random], Awaitable[None]]]] = {
    "the disk is full": _full_disk,
    "the clock jumps": _jump,
    "the power goes": _power,
    "secrets are found": _secrets,
    "the outbox is away": _no_outbox,
    "the network is down": _no_network,
    "other limits": _reload,
}
"""What befalls the machine; the daemon's own ends are in `machine.ENDS`."""
