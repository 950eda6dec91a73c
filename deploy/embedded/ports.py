"""Free loopback ports, kept between runs so that a bookmarked address goes on working when it can."""

import random
import socket
from collections.abc import Callable, Iterable, Mapping

LOOPBACK = "127.0.0.1"

# Below the range from which systems take the ports of outgoing connections: there, a client's socket could sit on a
# service's port while it restarts, and a probe of a port without a server could end up connected to itself.
_FIRST, _BEYOND = 20_000, 32_000
_TRIES = 200
_DRAW = random.SystemRandom()


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port now (connections just closed do not count)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port(draw: random.Random = _DRAW) -> int:
    """Return a port that nobody listens on. Somebody may take it before it is used: start soon."""
    for _ in range(_TRIES):
        port = draw.randrange(_FIRST, _BEYOND)
        if is_free(port):
            return port
    raise OSError(f"no free port between {_FIRST} and {_BEYOND}")


def choose_ports(
    names: Iterable[str], kept: Mapping[str, int], *, free: Callable[[int], bool] = is_free
) -> dict[str, int]:
    """Give each name a port of its own: the one it had before when that is free, else a new one."""
    chosen: dict[str, int] = {}
    for name in names:
        port = kept.get(name)
        while port is None or port in chosen.values() or not free(port):
            port = free_port()
        chosen[name] = port
    return chosen
