"""Who is at the other end of the wire, as far as that can be known: what a stranger's headers say about it is no proof."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

_REMEMBERED = 4096
# One subscriber has a whole /64 to choose an IPv6 address from.
_IPV6_PREFIX = 64

Network = IPv4Network | IPv6Network


class ClientAddresses:
    """Finds the address of a client. `trusted_proxies` are the addresses and networks whose X-Forwarded-For counts."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = tuple(ip_network(network) for network in trusted_proxies)
        self._normal = lru_cache(_REMEMBERED)(_normal)

    def of(self, scope: Scope) -> str:
        """Return the address that sent a request: the socket's, or what a trusted proxy says whom it speaks for."""
        peer: str = (scope.get("client") or ("unknown", 0))[0]
        if self._trusted and self._is_trusted(peer):
            return self._normal(self._forwarded(scope, peer))
        return self._normal(peer)

    def _forwarded(self, scope: Scope, peer: str) -> str:
        """Walk from our proxy outwards; the first address that is no proxy of ours is the last one that is proven."""
        lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        hops = [_without_port(hop.strip()) for hop in ",".join(lines).split(",") if hop.strip()]
        for hop in reversed(hops):
            if _address(hop) is None:
                return peer
            peer = hop
            if not self._is_trusted(hop):
                return hop
        return peer

    def _is_trusted(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)


def _without_port(hop: str) -> str:
    """Some proxies write where a client's connection came from, port and all, which is another one each time."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    host, _, port = hop.partition(":")
    return host if port.isdigit() and "." in host else hop


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; an IPv4 one in IPv6's clothes, as a socket for both shows it, is the IPv4 one."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _normal(text: str) -> str:
    """Return one name for all addresses of one client."""
    address = _address(text)
    if isinstance(address, IPv6Address):
        return str(ip_network((address.packed, _IPV6_PREFIX), strict=False))
    return text if address is None else str(address)
