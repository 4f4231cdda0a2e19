"""`namespaced.py FOLDER`, alone in its namespaces: prints what became of everything as JSON.

The loopback interface gets public addresses; two name servers answer on it, each in its own way,
and FOLDER/resolv.conf is laid over /etc/resolv.conf.
"""

import fcntl
import json
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import trio

from webhookd.core.egress import parse_policy
from webhookd.core.model import Fault
from webhookd.core.urls import parse
from webhookd.http.address import Resolver
from webhookd.http.channel import Sender
from webhookd.http.limits import Limits

SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, UP = 0x8914, 0x8916, 0x891C, 0x41


def interface(name: str, address: str = "", mask: str = "255.255.255.255") -> None:
    """Bring an interface up, with that address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        if address:
            there = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(asking, SIOCSIFADDR, struct.pack("16s16s", name.encode(), there))
            wide = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(mask))
            fcntl.ioctl(asking, SIOCSIFNETMASK, struct.pack("16s16s", name.encode(), wide))
        fcntl.ioctl(asking, SIOCSIFFLAGS, struct.pack("16sh14x", name.encode(), UP))


def name_server(place: str, answer: str) -> None:
    """Answers every question of one address with `answer`, and every other with nothing."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind((place, 53))

    def serve() -> None:
        while True:
            asked, whom = listening.recvfrom(512)
            end = asked.index(b"\0", 12) + 5
            is_a = asked[end - 4 : end - 2] == b"\0\1"
            head = asked[:2] + struct.pack(">HHHHH", 0x8180, 1, int(is_a), 0, 0)
            found = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(answer)
            listening.sendto(head + asked[12:end] + (found if is_a else b""), whom)

    threading.Thread(target=serve, daemon=True).start()


async def send(address: str, allow: list[str], port: int) -> str:
    """What came of one request."""
    sender = Sender(parse_policy(allow, []))
    url = parse(f"http{'' if allow else 's'}://{address}:{port}/")
    channel = sender.channel()
    result = await channel.send(url, b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 1_000)
    await channel.aclose()
    if isinstance(result, Fault):
        return f"{result.kind}: {result.detail}"
    return str(result.status)


async def main(folder: Path) -> dict[str, object]:
    """Everything, one after the other."""
    told: dict[str, object] = {}
    interface("lo")
    interface("lo:1", "8.8.4.4")
    connections = 0

    async def receive(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        await stream.receive_some(1_000)
        await stream.send_all(b"HTTP/1.1 200 K\r\nContent-Length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, receive, 0)
        port = listeners[0].socket.getsockname()[1]
        told["own"] = await send("8.8.4.4", [], port)
        told["own_connections"] = connections
        told["own_allowed"] = await send("8.8.4.4", ["8.8.4.4"], port)
        told["not_own_yet"] = await send("8.8.4.5", [], port)
        interface("lo:2", "8.8.4.5")
        told["own_by_now"] = await send("8.8.4.5", [], port)
        interface("lo:3", "9.9.9.1", "255.255.255.0")
        told["own_range"] = await send("9.9.9.77", [], port)
        Path("/proc/sys/net/ipv4/ip_nonlocal_bind").write_text("1")  # noqa: ASYNC240
        told["bound_to_anything"] = await send("8.8.4.6", [], port)
        nursery.cancel_scope.cancel()

    conf = folder / "resolv.conf"
    name_server("127.0.0.2", "198.51.100.1")
    name_server("127.0.0.3", "198.51.100.2")
    resolver = Resolver(Limits(cache_time=0, lookup_time=5_000, stale_time=0))
    found = await resolver.resolve("partner.example")
    told["empty"] = f"{found.kind}: {found.detail}" if isinstance(found, Fault) else found
    for key, place in (("mended", "127.0.0.2"), ("changed", "127.0.0.3")):
        conf.write_text(f"nameserver {place}\n")
        told[key] = await resolver.resolve("partner.example")
    return told


if __name__ == "__main__":
    laid_over = Path(sys.argv[1]) / "resolv.conf"
    laid_over.write_text("")
    subprocess.run(["mount", "--bind", laid_over, "/etc/resolv.conf"], check=True)
    print(json.dumps(trio.run(main, Path(sys.argv[1]))))
