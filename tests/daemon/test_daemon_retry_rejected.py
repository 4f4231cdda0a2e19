"""What a command ingests again reaches the partner through the daemon that runs beside it."""

import trio

from webhookd.logs.actions import Action
from webhookd.store.rejected import Retry
from webhookd.store.transaction import Session


def retry(world, *ids):
    with Session(world.path, write=True) as session:
        again = Retry(
            session,
            default_tenant="",
            max_payload=1_000,
            ids_never_reused=False,
            clock=world.clock.now,
        )
        return [number for one in again.these(ids) for number in one.events]


async def test_A1_a_mended_row_is_sent_at_once(world, autojump_clock, expected_logs):
    world.subscribe("a")
    async with world.running():
        world.insert("x1")
        bad = world.insert("x2", payload="{")
        world.host.execute("INSERT INTO webhookd_ledger VALUES (?, 'K-2')", (bad,))
        await trio.sleep(5)
        assert [one.n for one in world.sender.seen] == [1]
        rejected = [one for one in expected_logs if one.action is Action.INGEST_REJECTED]
        assert [one.fields["outbox_id"] for one in rejected] == [bad]
        assert [one.fields["outbox_key"] for one in rejected] == ["K-2"], "the host knows it so"
        world.host.execute('UPDATE outbox SET payload = \'{"a": "x2", "n": 2}\' WHERE id = 2')
        await trio.sleep(5)
        assert len(world.sender.seen) == 1, "nothing takes it up by itself"
        assert retry(world, bad) == [bad]
        await trio.sleep(1)
        assert [one.n for one in world.sender.seen] == [1, 2]
        world.insert("x3")
        await trio.sleep(1)
    assert [one.n for one in world.sender.seen] == [1, 2, 3]
    assert world.states() == ["delivered"] * 3
