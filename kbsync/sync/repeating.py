"""Something small that is done again and again while something large is under way."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(act: Callable[[], object], every_s: float, name: str) -> Iterator[None]:
    """Call `act` every so many seconds, the first time after the first of them, from a thread that ends with the
    block."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(every_s):
            act()

    named = contextvars.copy_context()  # what the thread logs names the run, too
    thread = threading.Thread(target=named.run, args=(work,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
