"""The references send what the daemon would."""

from pathlib import Path

import h11

from bench import fixture
from bench.requester import parsed


def test_h11_makes_the_very_bytes_of_a_request_of_the_daemons(tmp_path: Path) -> None:
    workload = fixture.prepare(tmp_path, port=8080, endpoints=1, events=1)
    wire = fixture.request(workload).wire()
    connection = h11.Connection(h11.CLIENT)
    parts = [connection.send(event) for event in (*parsed(wire), h11.EndOfMessage())]
    assert b"".join(part or b"" for part in parts) == wire
