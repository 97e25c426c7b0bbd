"""`kbsync watch`: what is kept in sync beside what the config file names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state

if TYPE_CHECKING:
    from kbsync.facts import Subjects
    from kbsync.request.catalogue import Catalogue
    from kbsync.settings import Settings
    from kbsync.sync.watched import Watched
    from kbsync.sync.workbench import Workbench


@click.group("watch", short_help="Watch more relations, or fewer.")
def command() -> None:
    """Watch more relations, or fewer, beside those of the config file.

    What is added or removed counts from the next sync on, also while a daemon runs.
    """


@command.command("add", short_help="Watch relations.")
@click.argument("relations", nargs=-1, required=True)
@click.option("--class", "classes", multiple=True, metavar="ID", help="Only instances of this class (repeatable).")
@click.option("--subjects", metavar="IDS", help="Only these subjects, with commas between them.")
@click.option(
    "--subjects-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Only the subjects in this file, an id on each line.",
)
@click.option("--where", metavar="PATTERN", help="Only what this SPARQL pattern binds to ?item.")
@click.option(
    "--priority",
    type=click.IntRange(-(2**31), 2**31 - 1),
    metavar="N",
    help="Which facts are kept first where not all fit: those of relations with a higher N; 0 unless given.",
)
@click.option("--no-try", is_flag=True, help="Don't ask the endpoint whether the filter finds anything.")
@json_option
@pass_state
def add(
    state: State,
    relations: tuple[str, ...],
    classes: tuple[str, ...],
    subjects: str | None,
    subjects_file: Path | None,
    where: str | None,
    priority: int | None,
    no_try: bool,
) -> None:
    """Watch RELATIONS: all their subjects, or those of one filter. Again with another filter, change it; with
    nothing but another priority, change that.

    The next sync begins their first pull. A pattern is what stands between the braces of a WHERE; it is checked,
    and a filter is tried once at the endpoint, before anything is written.

    \b
    Example:
      kbsync watch add P169
      kbsync watch add P35 P6 --class Q6256
      kbsync watch add P54 --where "?item wdt:P641 wd:Q2736" --priority -1
    """
    from kbsync.cli.trigger import whoami
    from kbsync.store import watches
    from kbsync.sync.clock import now
    from kbsync.sync.workbench import Workbench

    wanted, chosen = list(dict.fromkeys(relations)), _chosen(classes, subjects, subjects_file, where, priority)
    done: list[dict[str, Any]] = []
    with Workbench(state.settings()) as bench:
        _check_relations(wanted, bench.settings, bench.catalogue)
        if not (no_try or chosen is None or chosen.everything):
            _try_filter(bench, wanted, chosen)
        with bench.store.begin() as tx:
            for one in wanted:
                was, now_is = watches.add(tx, one, chosen, whoami(), now(), priority)
                entry = {"filter": now_is.subjects.words, "priority": now_is.priority}
                before = {"was": was.subjects.words if was else None, "priority_was": was.priority if was else None}
                done.append({"relation": one, **entry, **before})
        if state.as_json:
            show.as_json({"added": done})
            return
        for entry in done:
            show.line(_said(entry, bench.catalogue, bench.settings))


def _said(entry: dict[str, Any], catalogue: Catalogue, settings: Settings) -> str:
    """What will happen."""
    name, chosen, was = entry["relation"], entry["filter"], entry["was"]
    if name in catalogue:
        name = f"{name} ({catalogue.relations[name].label})"
    if was == chosen:
        if entry["priority"] != entry["priority_was"]:
            return f"{name} has priority {entry['priority']} from the next sync on; before: {entry['priority_was']}"
        return f"{name} is watched already: {chosen}"
    if was is not None:
        return (
            f"{name}: {chosen}; before: {was}. The next sync retires what the filter no longer lets through, and "
            "reads what is new"
        )
    pages = settings.source.backfill_pages
    first = f"reads {pages} pages of its first pull, each later one more" if pages else "makes its first pull"
    meant = "taken as known" if settings.watch.baseline == "adopt" else "edited where the base model is wrong"
    mattering = f", priority {entry['priority']}" if entry["priority"] else ""
    return f"{name} is watched: {chosen}{mattering}. The next sync {first}; the facts that it finds are {meant}"


@command.command("list", short_help="What is watched.")
@json_option
@pass_state
def list_(state: State) -> None:
    """Show what is watched: who says so, which subjects, how much each matters, how far the first pull
    is, live and held facts.

    \b
    Example:
      kbsync watch list
    """
    from kbsync.sync.watched import watches_of

    settings = state.settings()
    with state.store() as store, store.read() as tx:
        found = watches_of(tx, settings)
    if state.as_json:
        show.as_json({"watched": found})
    elif not found:
        show.line("Nothing is watched; `kbsync watch add` adds relations.")
    else:
        show.table(
            ["relation", "", "by", "subjects", "priority", "first pull", "read", "facts", "held"],
            [_row(one) for one in found],
            title="Watched (read: subjects that the first pull has read; facts: live in the store)",
            numbers=["priority", "read", "facts", "held"],
        )


def _row(one: Watched) -> list[object]:
    source = "file, command" if one.also else one.source
    read = [one.backfill, one.subjects_read, one.facts, one.held]
    return [one.relation, one.label, source, one.filter, one.priority, *read]


@command.command("remove", short_help="Watch relations no longer.")
@click.argument("relations", nargs=-1, required=True)
@json_option
@pass_state
def remove(state: State, relations: tuple[str, ...]) -> None:
    """Watch RELATIONS no longer: the next sync withdraws their edits.

    What the store has of them stays as history; added again, they go on from there. A relation that the config file
    names can only be taken out there.

    \b
    Example:
      kbsync watch remove P169
    """
    from kbsync.errors import ConfigError
    from kbsync.store import watches

    settings, done = state.settings(), list[dict[str, Any]]()
    with state.store() as store, store.begin() as tx:
        for one in dict.fromkeys(relations):
            in_file = one in settings.watch.relations
            if not watches.remove(tx, one):
                if in_file:
                    where = state.config or "the environment"
                    raise ConfigError(f"{one} is watched by watch.relations in {where}; take it out there")
                raise ConfigError(f"{one} is not watched; `kbsync watch list` shows what is")
            done.append({"relation": one, "still_watched": in_file})
    if state.as_json:
        show.as_json({"removed": done})
        return
    for entry in done:
        if entry["still_watched"]:
            show.line(f"{entry['relation']} is no longer watched by command, but watch.relations still names it")
        else:
            show.line(f"{entry['relation']} is no longer watched; the next sync withdraws its edits")


def _chosen(
    classes: tuple[str, ...],
    subjects: str | None,
    subjects_file: Path | None,
    where: str | None,
    priority: int | None,
) -> Subjects | None:
    """The one filter that the options name; None where they give a priority alone. Raises ConfigError."""
    from kbsync.errors import ConfigError
    from kbsync.facts import Subjects, is_item_id
    from kbsync.source import patterns
    from kbsync.sync.watching import read_ids

    named = (subjects, subjects_file, where, classes or None)
    if priority is not None and all(one is None for one in named):
        return None
    if sum(one is not None for one in named) > 1:
        raise ConfigError("give one of --class, --subjects, --subjects-file and --where")
    if subjects_file is not None:
        return Subjects(ids=read_ids(subjects_file))
    if where is not None:
        try:
            patterns.check(where)
        except ConfigError as error:
            raise ConfigError(f"--where: {error}") from None
        return Subjects(where=where)
    option, ids = ("--class", [*classes]) if subjects is None else ("--subjects", subjects.split(","))
    ids = [one.strip() for one in ids]
    wrong = next((one for one in ids if not is_item_id(one)), None)
    if wrong is not None:
        raise ConfigError(f"{option}: {wrong!r} is not an item id such as Q5")
    return Subjects(tuple(sorted(set(ids)))) if subjects is None else Subjects(ids=frozenset(ids))


def _check_relations(wanted: list[str], settings: Settings, catalogue: Catalogue) -> None:
    """Raise ConfigError for one that the file watches, or that the catalogue has no words for."""
    import difflib

    from kbsync.errors import ConfigError

    labels = {entry.label: one for one, entry in catalogue.relations.items()}
    for one in wanted:
        if one in settings.watch.relations:
            raise ConfigError(f"{one} is watched by watch.relations already; its filter, too, goes into the file")
        if one in catalogue:
            continue
        near = difflib.get_close_matches(one.upper(), catalogue.relations, n=2, cutoff=0.7)
        near += [labels[name] for name in difflib.get_close_matches(one.lower(), labels, n=2, cutoff=0.6)]
        names = " or ".join(f"{other} ({catalogue.relations[other].label})" for other in dict.fromkeys(near))
        hint = f"did you mean {names}? If not, " if names else ""
        raise ConfigError(
            f"{one!r} is not in the catalogue {settings.watch.catalogue}; {hint}add an entry for it there, as "
            "docs/relations.md shows"
        )


def _try_filter(bench: Workbench, wanted: list[str], chosen: Subjects) -> None:
    """Raise ConfigError for a filter that finds nothing, SourceError for an endpoint that can't be asked."""
    from kbsync.errors import ConfigError, SourceError
    from kbsync.source.subjects import finds_any
    from kbsync.sync.asking import asking

    with asking(bench) as client:
        for one in wanted:
            try:
                found = finds_any(client, one, chosen)
            except SourceError as error:
                error.args = (f"the filter could not be tried, so nothing was added: {error}", *error.args[1:])
                raise
            if not found:
                raise ConfigError(
                    f"{bench.settings.source.endpoint} has no subject with {one} that the filter finds "
                    f"({chosen.words}), so nothing was added; --no-try adds it all the same"
                )
