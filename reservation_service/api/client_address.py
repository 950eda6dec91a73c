"""Who is at the other end of the wire, as far as that can be known: what a stranger's headers say about it is no proof."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

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
        hops = [hop.strip() for hop in ",".join(lines).split(",") if hop.strip()]
        for hop in reversed(hops):
            if not _is_address(hop):
                return peer
            peer = hop
            if not self._is_trusted(hop):
                return hop
        return peer

    def _is_trusted(self, text: str) -> bool:
        if not _is_address(text):
            return False
        address = ip_address(text)
        return any(address in network for network in self._trusted)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _normal(text: str) -> str:
    """Return one name for all addresses of one client."""
    if not _is_address(text):
        return text
    address = ip_address(text)
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ip_network((address.packed, _IPV6_PREFIX), strict=False))
