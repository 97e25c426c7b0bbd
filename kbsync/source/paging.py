"""Pages that fit into the endpoint's time: halved when an answer is too slow or cut, grown again slowly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kbsync.source.client import TOO_LARGE, Row, SparqlClient

CHUNK = 1000  # ids of one VALUES clause


def chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """`items` in their order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def select_page(client: SparqlClient, most: int, make: Callable[[int], str]) -> tuple[list[Row], int]:
    """The rows of the query that `make` gives for a number of rows, at most `most`, and that number.

    Raises what `SparqlClient.select` raises when not even the smallest page is answered.
    """
    while True:
        size = min(client.guard.page_size, most)
        can_shrink = client.guard.can_shrink(size)
        try:
            rows = client.select(make(size), can_shrink=can_shrink)
        except TOO_LARGE:
            if not can_shrink:
                raise
            client.guard.page_was_too_large(size)
            continue
        client.guard.page_was_read()
        return rows, size


def select_chunks(
    client: SparqlClient, ids: Sequence[str], most: int, make: Callable[[Sequence[str]], str]
) -> Iterator[tuple[Sequence[str], list[Row]]]:
    """The rows of `make(chunk)` for chunks of at most `most` ids, together with the chunk that they answer."""
    start, guard = 0, client.guard
    while start < len(ids):
        whole = guard.page_size == client.settings.page_size
        size = most if whole else min(most, guard.page_size)
        chunk = ids[start : start + size]
        can_shrink = guard.can_shrink(len(chunk))
        try:
            rows = client.select(make(chunk), can_shrink=can_shrink)
        except TOO_LARGE:
            if not can_shrink:
                raise
            guard.page_was_too_large(len(chunk))
            continue
        guard.page_was_read()
        start += len(chunk)
        yield chunk, rows
