"""What a request must be like before anything is done for it: decisions without a server."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

TRIES = 10  # wrong tokens of one address in a row, until
PAUSE_S = 6.0  # only one in so many seconds is looked at
_ADDRESSES = 1000  # that are remembered


def host_in(header: str) -> str | None:
    """The host of a Host header, in lower case and without its port; None where it is none."""
    host = header.strip().lower()
    if host.startswith("["):  # [::1]:8420
        host, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = host.partition(":")
    if not host or (port and not (port.isascii() and port.isdecimal())):
        return None
    return host


def host_allowed(header: str, allowed: Collection[str]) -> bool:
    """Whether a request was meant for us. A page of a stranger can make a browser ask us under the stranger's name
    (DNS rebinding), but never under an address or a name that is ours: those are let through."""
    host = host_in(header)
    if host is None:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host in {one.lower() for one in allowed}
    return True


def bearer(header: str) -> str | None:
    """The token of an Authorization header; None where there is none."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


class Tries:
    """How many wrong tokens each address may still send: a bucket that fills again, one in PAUSE_S."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address → tries left, at

    def wait_s(self, address: str) -> float:
        """Seconds until a token of this address is looked at again; 0 when it is now."""
        left = self._now(address)
        return 0.0 if left >= 1 else (1 - left) * PAUSE_S

    def failed(self, address: str) -> None:
        """A token of this address was wrong."""
        self._left[address] = (self._now(address) - 1, self._clock())
        self._left.move_to_end(address)
        while len(self._left) > _ADDRESSES:
            self._left.popitem(last=False)

    def _now(self, address: str) -> float:
        left, at = self._left.get(address, (float(TRIES), self._clock()))
        return min(float(TRIES), left + (self._clock() - at) / PAUSE_S)
