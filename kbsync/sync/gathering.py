"""The end of the pull stage: the evidence that the trust filter lacks for changes that may become edits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from kbsync.facts import Fact, ValueKind
from kbsync.source import evidence
from kbsync.source.client import SparqlClient
from kbsync.store import states, trust
from kbsync.store.tables import Way
from kbsync.sync.clock import now
from kbsync.sync.trusting import Pair, classes_of, judged_pairs
from kbsync.sync.watching import effective
from kbsync.sync.workbench import Workbench


def gather(bench: Workbench, client: SparqlClient) -> Counter[str]:
    """Read classes and scores of what changed, where they are asked for and not known; counts by name.

    What is wanted follows from the store, so what a run that was cut off did not read, the next one does.
    """
    settings = bench.settings
    if settings.trust.types == "off" and not settings.trust.score_url:
        return Counter()
    with bench.store.read() as tx:
        settings = effective(tx, settings)
        pairs = judged_pairs(tx, settings)
    counts: Counter[str] = Counter()
    if settings.trust.types != "off":
        counts += _classes(bench, client, pairs)
    if settings.trust.score_url:
        counts += _scores(bench, pairs)
    return counts


def _classes(bench: Workbench, client: SparqlClient, pairs: Collection[Pair]) -> Counter[str]:
    """Classes of subjects and objects that the catalogue has types for; those in doubt are read again."""
    with bench.store.read() as tx:
        there = states.facts_now(tx, pairs).keys()
        doubted = {
            one.fact
            for one in trust.open_verdicts(tx)
            if not one.passed and "class of" in (one.detail or one.reason)
        }
        wanted = _items(bench, there)
        again = set(_items(bench, there & doubted))
        read = trust.classes_of(tx, wanted)
        known_roots = trust.roots(tx)
    missing = sorted(wanted.keys() - read.keys() | again)
    found = evidence.fetch_classes(client, missing) if missing else {}
    with bench.store.begin() as tx:
        trust.save_classes(tx, now(), found)
    kinds = {**read, **found}
    asked = {(one, root) for item, roots in wanted.items() for one in kinds.get(item, ()) for root in roots}
    new = asked - known_roots.keys()
    roots = evidence.fetch_roots(client, {one for one, _ in new}, {root for _, root in new}) if new else {}
    with bench.store.begin() as tx:
        trust.save_roots(tx, now(), {pair: below for pair, below in roots.items() if pair not in known_roots})
    return Counter({"classes read": len(found)}) if found else Counter()


def _items(bench: Workbench, facts: Iterable[Fact]) -> dict[str, set[str]]:
    """The items to know the classes of, each with the catalogue's classes that it is compared with."""
    found: dict[str, set[str]] = {}
    for fact in facts:
        entry = bench.catalogue.relations.get(fact.relation)
        if entry is None:
            continue
        if bench.settings.trust.types == "both" and (classes := classes_of(entry, "subject")):
            found.setdefault(fact.subject, set()).update(classes)
        if fact.value.kind is ValueKind.ITEM and (classes := classes_of(entry, "object")):
            found.setdefault(fact.value.text, set()).update(classes)
    return found


def _scores(bench: Workbench, pairs: Collection[Pair]) -> Counter[str]:
    """Scores of the revisions at which changes were found that have not passed yet."""
    with bench.store.read() as tx:
        there = [one for one in states.signals(tx, pairs) if one.now.present]
        done = {(v.fact, v.since) for v in trust.open_verdicts(tx) if v.passed and v.way is not Way.LABEL}
        new = [one.past[-1].revision for one in there if one.past and (one.fact, one.since) not in done]
        wanted = {revision for revision in new if revision is not None}
        missing = sorted(wanted - trust.scores(tx, wanted).keys())
    found = evidence.fetch_scores(bench.settings.trust, missing)
    with bench.store.begin() as tx:
        trust.save_scores(tx, now(), found)
    counts = Counter({"scores read": len(found), "scores missing": len(missing) - len(found)})
    return +counts
