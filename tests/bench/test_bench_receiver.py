"""Receivers serve at the address of every endpoint."""

import shutil
import socket
from contextlib import closing
from pathlib import Path

import pytest

from bench import fixture
from bench.processes import addresses, receiver
from webhookd.store import subscriptions
from webhookd.store.transaction import Session


@pytest.mark.parametrize("has_nginx", [True, False])
def test_each_endpoint_has_a_host_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_nginx: bool
) -> None:
    if not has_nginx:
        monkeypatch.setattr(shutil, "which", lambda _: None)
    elif shutil.which("nginx") is None:
        pytest.skip("no nginx here")
    with receiver(tmp_path, endpoints=3) as serving:
        for address in addresses(3):
            socket.create_connection((address, serving.port), timeout=10).close()
        with closing(socket.socket()) as probe:
            assert probe.connect_ex(("127.0.0.4", serving.port)) != 0


def test_endpoints_that_are_apart_are_at_these_addresses(tmp_path: Path) -> None:
    workload = fixture.prepare(tmp_path, port=8080, endpoints=3, events=0, apart=True)
    with Session(workload.database, write=False) as session, session.read() as connection:
        urls = [one.url for one in subscriptions.load(connection)]
    assert urls == [
        f"http://{address}:8080/webhooks/{number:02d}"
        for number, address in enumerate(addresses(3))
    ]
