"""What the trust filter wants to know beside the statements: classes of items, and scores of revisions."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Collection, Iterable, Sequence

from kbsync import __version__
from kbsync.errors import KbsyncError
from kbsync.settings import TrustSettings
from kbsync.source import parse, queries
from kbsync.source.client import SparqlClient
from kbsync.source.paging import select_chunks
from kbsync.source.transport import opener_for

CHUNK = 500  # ids of one VALUES clause
MOST_BYTES = 1 << 16  # of an answer of the scoring service
MOST_FAILURES = 3  # in a row, and the service is left alone until the next run


def fetch_classes(client: SparqlClient, items: Iterable[str]) -> dict[str, set[str]]:
    """What each of `items` is an instance of (P31); an empty set where it is of nothing."""
    ids = sorted(set(items))
    found: dict[str, set[str]] = {one: set() for one in ids}
    for _, rows in select_chunks(client, ids, CHUNK, queries.classes):
        for row in rows:
            item, kind = parse.entity_id(row.get("item")), parse.entity_id(row.get("class"))
            if item in found and kind is not None:
                found[item].add(kind)
    return found


def fetch_roots(
    client: SparqlClient, classes: Collection[str], roots: Collection[str]
) -> dict[tuple[str, str], bool]:
    """For each class and each root: whether the class is the root or below it (P279)."""
    ids, wanted = sorted(classes), sorted(roots)
    found = {(one, root): one == root for one in ids for root in wanted}
    for _, rows in select_chunks(client, ids if wanted else (), CHUNK, lambda chunk: queries.below(chunk, wanted)):
        for row in rows:
            item, root = parse.entity_id(row.get("item")), parse.entity_id(row.get("root"))
            if item is not None and root is not None and (item, root) in found:
                found[item, root] = True
    return found


def fetch_scores(settings: TrustSettings, revisions: Sequence[int]) -> dict[int, float]:
    """The probability that each revision will be reverted, asked of `trust.score_url` one by one.

    The form is Lift Wing's: POST {"rev_id", "lang"}, and `output.probabilities.true` in the answer. A revision
    without a usable answer is left out; after three failures in a row no more are asked.
    """
    opener = opener_for(settings.score_url)
    found: dict[int, float] = {}
    failures = 0
    for revision in revisions:
        score = _score(opener, settings, revision)
        if score is not None:
            found[revision], failures = score, 0
        elif (failures := failures + 1) == MOST_FAILURES:
            break
    return found


def _score(opener: urllib.request.OpenerDirector, settings: TrustSettings, revision: int) -> float | None:
    body = json.dumps({"rev_id": revision, "lang": "wikidata"}).encode()
    headers = {"Content-Type": "application/json", "User-Agent": f"kbsync/{__version__}"}
    request = urllib.request.Request(settings.score_url, body, headers, method="POST")  # noqa: S310  (http, checked)
    try:
        with opener.open(request, timeout=settings.score_timeout_s) as response:
            answer = json.loads(response.read(MOST_BYTES))
        score = answer["output"]["probabilities"]["true"]
    except (KbsyncError, OSError, http.client.HTTPException, ValueError, KeyError, TypeError, RecursionError):
        return None
    is_number = isinstance(score, (int, float)) and not isinstance(score, bool)
    return float(score) if is_number and 0 <= score <= 1 else None
