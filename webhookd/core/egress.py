"""Where webhookd may connect to. THE rules on addresses; one function decides on every dial.

Theory
======

A subscription's URL comes from outside, and the daemon sits inside. So an address is dialled only
if it is public, or if the operator named it. The name in the URL decides nothing by itself (it can
resolve to anything, and to something else a second later): `judge_address` looks at the very
address that is about to be dialled.

The table of what is not public is our own: `ipaddress.is_global` lets NAT64, `::/96`, `fec0::/10`,
multicast and 6to4 pass, and differs between versions of Python. An IPv6 address that carries an
IPv4 address which the network will hand the packet to is judged as that IPv4 address.

In order, the first that applies decides:

1. `deny` names the host or the address: blocked.
2. It is a cloud's metadata service, which hands out credentials to whoever asks: blocked, unless
   that very address stands in `allow`. A range or a host name never opens it.
3. `allow` names the host or the address: fine, with http too.
4. It is not public: blocked.
5. It is an address of this very machine, public though it is: blocked. What listens there may trust
   whoever connects from here.
6. The scheme is http: blocked.

Where a proxy is on the way
===========================

The proxy resolves the name, so there is no address to judge, and a second look-up of our own would
say nothing of the first. `judge_proxied` judges what there is: an address in the URL as above, and
a name by `deny` and `allow`. A name that can only lead to the inside of somebody's network (one
label, `.local`, `.internal` ...) is blocked unless `allow` names it. All else is for the rules of
the proxy itself.

The proxy is a host that the operator named, which is what `allow` asks for: `judge_proxy` lets any
address through that is neither in `deny` nor a metadata service.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from webhookd.core.model import Proxy, Url
from webhookd.core.urls import UrlError, parse_host

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Names:
    """What one list, `allow` or `deny`, names."""

    addresses: frozenset[Address] = frozenset()
    """Written as single addresses: these alone open a metadata service."""
    ranges: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    """`.example.com` for `*.example.com`: every name below it, not itself."""

    def has_host(self, host: str) -> bool:
        return host in self.hosts or host.endswith(self.suffixes)

    def has_address(self, address: Address) -> bool:
        return address in self.addresses or any(address in network for network in self.ranges)


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What the operator allows and denies; by default public addresses over https."""

    allow: Names = Names()
    deny: Names = Names()
    proxy: Proxy | None = None
    """Everyone's proxy, but for subscriptions that name another one or none."""
    source: str = field(default="", compare=False)
    """The file that says so, for remedies; `''` where no file was read. It decides nothing."""


_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google, and most others
        "169.254.170.2",  # AWS: credentials of a container
        "169.254.170.23",  # AWS: credentials of a pod
        "169.254.0.23",  # Tencent
        "169.254.42.42",  # Scaleway
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's host agent, in a public range
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS: credentials of a pod
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
    )
)

_KINDS_4: Final = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "reserved"),  # once the anycast of 6to4 relays
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarking"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
    )
)

_KINDS_6: Final = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "an IPv4-compatible form, which is reserved"),
        ("64:ff9b:1::/48", "a local NAT64 form, which is private"),
        ("2001::/32", "a Teredo tunnel"),
        ("2001:2::/48", "for benchmarking"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_UNICAST_6: Final = IPv6Network("2000::/3")
"""All that is given out as public IPv6; what lies outside has a kind of its own or is reserved."""

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_COMPATIBLE: Final = IPv6Network("::/96")
_NAT64_LOCAL: Final = IPv6Network("64:ff9b:1::/48")
_TEREDO: Final = IPv6Network("2001::/32")
_LOW_32: Final = 0xFFFF_FFFF

_INSIDE: Final = (".localhost", ".local", ".internal", ".home.arpa", ".lan", ".intranet")
"""Ends of names that no public name server knows: they lead to wherever the resolver stands."""


def parse_policy(
    allow: Sequence[str], deny: Sequence[str], proxy: Proxy | None = None
) -> EgressPolicy:
    """The policy of two lists of ranges (`10.1.0.0/16`), addresses, host names and `*.domain`s.

    Raises:
        ValueError: an entry is none of these; the text names it.
    """
    return EgressPolicy(_parse_names("allow", allow), _parse_names("deny", deny), proxy)


def judge_url(url: Url, policy: EgressPolicy) -> str | None:
    """Why `url` can never be delivered to, or None: what is known without resolving its name.

    For the moment when a subscription is made. `judge_address` decides again at each dial.
    """
    if _literal(url.host) is not None:
        return judge_address(url.host, url, policy)
    if policy.deny.has_host(url.host):
        return f"blocked: {url.host} is in deny"
    allow = policy.allow
    by_address = allow.addresses or allow.ranges
    if url.scheme == "http" and not by_address and not allow.has_host(url.host):
        return _needs_https(url.host)
    return None


def doubt_url(url: Url, policy: EgressPolicy) -> str | None:
    """What will block a URL that `judge_url` lets pass, unless its name resolves as is hoped."""
    if url.scheme == "https" or _literal(url.host) is not None or policy.allow.has_host(url.host):
        return None
    return (
        f"http to {url.host} is blocked at each attempt, unless an address or a range in [egress] "
        "allow has the address that it resolves to"
    )


def judge_proxied(url: Url, policy: EgressPolicy, *, is_own: bool = False) -> str | None:
    """Why a proxy must not be asked for `url`; None: it may be. See the head of this file.

    `is_own` says that the URL has an address of this machine in it.
    """
    if _literal(url.host) is not None:
        return judge_address(url.host, url, policy, is_own=is_own)
    if policy.deny.has_host(url.host):
        return f"blocked: {url.host} is in deny"
    if policy.allow.has_host(url.host):
        return None
    if "." not in url.host or url.host.endswith(_INSIDE):
        return f"blocked: {url.host} is a name of the inside"
    return _needs_https(url.host) if url.scheme == "http" else None


def judge_proxy(address: str, proxy: Proxy, policy: EgressPolicy) -> str | None:
    """Why `address`, to which the host of `proxy` resolved, must not be dialled."""
    parsed = _literal(address.partition("%")[0])
    if parsed is None:
        return f"blocked: the proxy {proxy.host} resolved to {address!a}, which is no address"
    blocked = _denied(parsed, proxy.host, policy)
    return blocked and f"{blocked}, and the proxy {proxy.host} leads there"


def judge_address(
    address: str, url: Url, policy: EgressPolicy, *, is_own: bool = False
) -> str | None:
    """Why `address`, to which the host of `url` resolved, must not be dialled; None: it may be.

    A zone (`fe80::1%eth0`) is passed over. Text that is no address is blocked. `is_own` says that
    it is an address of this machine.
    """
    parsed = _literal(address.partition("%")[0])
    if parsed is None:
        return f"blocked: {url.host} resolved to {address!a}, which is no address"
    blocked = _denied(parsed, url.host, policy)
    if blocked is not None:
        return blocked
    allow, carried, effective = policy.allow, _carried(parsed), _effective(parsed)
    if not _METADATA.isdisjoint((parsed, *carried)):
        return None  # its very address is allowed, or it would be blocked by now
    if allow.has_host(url.host) or parsed in allow.addresses or allow.has_address(effective):
        return None
    kind = _kind(effective)
    if kind is not None:
        shown = _name(parsed, () if effective is parsed else carried)
        return f"blocked: {shown} is {kind}"
    if is_own:
        return f"blocked: {parsed} is an address of this machine"
    if url.scheme == "http":
        return _needs_https(str(parsed))
    return None


def _denied(parsed: Address, host: str, policy: EgressPolicy) -> str | None:
    """What holds whoever names the address: `deny`, and metadata for its exact address alone."""
    carried = _carried(parsed)
    forms = (parsed, *carried)
    if policy.deny.has_host(host) or any(policy.deny.has_address(form) for form in forms):
        return f"blocked: {_name(parsed, carried)} is in deny"
    if not _METADATA.isdisjoint(forms) and policy.allow.addresses.isdisjoint(forms):
        return f"blocked: {_name(parsed, carried)} is cloud metadata"
    return None


def _needs_https(place: str) -> str:
    return f"blocked: {place} needs https (http only where allow names the range or host)"


def _parse_names(which: str, entries: Sequence[str]) -> Names:
    addresses: set[Address] = set()
    ranges: list[Network] = []
    hosts: set[str] = set()
    suffixes: list[str] = []
    for entry in entries:
        try:
            address = _literal(entry)
            if address is not None:
                addresses.add(address)
            elif "/" in entry:
                ranges.append(ipaddress.ip_network(entry))
            elif entry.startswith("*."):
                suffixes.append(f".{parse_host(entry[2:])}")
            else:
                hosts.add(parse_host(entry))
        except UrlError as error:
            reason = str(error).removeprefix("invalid url: ")
            raise ValueError(f"egress.{which}: {entry!a}: {reason}") from None
        except ValueError as error:
            raise ValueError(f"egress.{which}: {entry!a}: {error}") from None
    return Names(frozenset(addresses), tuple(ranges), frozenset(hosts), tuple(suffixes))


def _literal(text: str) -> Address | None:
    """The address that `text` is; None for anything else, an address with a zone included."""
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


def _effective(address: Address) -> Address:
    """The address that a packet to `address` is meant for in the end."""
    if isinstance(address, IPv6Address):
        if address in _MAPPED or address in _NAT64:
            return IPv4Address(int(address) & _LOW_32)
        if address in _SIX_TO_FOUR:
            return IPv4Address(int(address) >> 80 & _LOW_32)
    return address


def _carried(address: Address) -> tuple[IPv4Address, ...]:
    """Every IPv4 address that stands within `address`: denied or metadata, it taints the whole."""
    effective = _effective(address)
    if effective is not address:
        return (IPv4Address(int(effective)),)
    if isinstance(address, IPv6Address):
        if address in _COMPATIBLE or address in _NAT64_LOCAL:
            return (IPv4Address(int(address) & _LOW_32),)
        if address in _TEREDO:
            server, client = int(address) >> 64 & _LOW_32, ~int(address) & _LOW_32
            return (IPv4Address(server), IPv4Address(client))
    return ()


def _kind(address: Address) -> str | None:
    """What `address` is, if it is not public."""
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _KINDS_4 if address in network), None)
    kind = next((kind for network, kind in _KINDS_6 if address in network), None)
    if kind is None and address not in _UNICAST_6:
        return "reserved"
    return kind


def _name(address: Address, carried: Sequence[IPv4Address]) -> str:
    inner = " and ".join(str(form) for form in carried)
    return f"{address} (which carries {inner})" if inner else str(address)
