"""What a service manager is told: systemd's notifications, `sd_notify(3)`, a datagram of `NAME=value` lines each.

Where nobody asked for them (`NOTIFY_SOCKET` is not set) nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """Tells the service manager at `address`, a path or an abstract name (`@…`).

    `watchdog_s`: seconds after which a service that said nothing is taken for hung; None where nobody watches.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self.address, self.watchdog_s = address, watchdog_s if address else None
        self._status = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Notifier:
        """As the service manager asked for it when it started this process."""
        found = os.environ if environment is None else environment
        watched = found.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
        try:
            seconds = int(found.get("WATCHDOG_USEC", "0")) / 1e6
        except ValueError:
            seconds = 0.0
        return cls(found.get("NOTIFY_SOCKET") or None, seconds if watched and seconds > 0 else None)

    def ready(self) -> None:
        """The service is up."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """What the service does now, in a few words."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={' '.join(text.split())}")

    def stopping(self) -> None:
        """The service begins to end."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, line: str) -> None:
        """One datagram. A manager that does not listen is no failure of the service."""
        if self.address is None:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(1.0)
            sender.sendto(line.encode("utf-8"), address)
