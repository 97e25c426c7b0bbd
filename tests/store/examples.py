"""Facts, statements, pages and requests for the store's tests, and how to look at all rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from kbsync.facts import (
    Change,
    Cursor,
    EditRequest,
    Fact,
    Item,
    Neighbor,
    Prompt,
    Pulled,
    Rank,
    Statement,
    Value,
    ValueKind,
)
from kbsync.store.checkpoints import NewCheckpoint
from kbsync.store.runs import finish_run, start_run
from kbsync.store.tables import Base, RunStatus

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def later(minutes: float) -> datetime:
    """`minutes` after noon."""
    return NOON + timedelta(minutes=minutes)


def item(text: str) -> Value:
    """An object that is an item."""
    return Value(ValueKind.ITEM, text)


def fact(subject: str = "Q30", value: str = "Q6279", relation: str = "P6") -> Fact:
    """A fact about a head of government, unless told otherwise."""
    return Fact(subject, relation, item(value))


def statement(number: int, value: str, subject: str = "Q30", relation: str = "P6", **more: object) -> Statement:
    """A best statement of normal rank, unless told otherwise."""
    fields: dict[str, object] = {"rank": Rank.NORMAL, "best": True, **more}
    return Statement(f"{subject}-{number}", subject, relation, item(value), **fields)  # type: ignore[arg-type]


def page(
    statements: Sequence[Statement] = (),
    gone: Sequence[tuple[str, str]] = (),
    changes: Sequence[Change] = (),
    items: Sequence[Item] = (),
    labels: Sequence[Item] = (),
    cursor: Cursor | None = None,
    relation: str = "P6",
) -> Pulled:
    """One page of the source."""
    return Pulled(relation, tuple(items), tuple(labels), tuple(statements), tuple(gone), tuple(changes), {}, cursor)


def named(entity: str, label: str | None, revision: int | None = 1) -> Item:
    """An item with an English label."""
    return Item(entity, label, label and "en", revision, NOON if revision else None)


def new_run(tx: Session, minutes: float = 0, done: bool = True) -> int:
    """A run that is over (or still runs), on the base model `base`."""
    run_id = start_run(tx, "manual", later(minutes), {}, "base", "settings")
    if done:
        finish_run(tx, run_id, RunStatus.PUBLISHED, later(minutes + 0.5))
    return run_id


def edit_request(
    about: Fact | None = None, name: str = "the United States", new: str = "Joe Biden", old: str | None = None
) -> EditRequest:
    """A request in words."""
    return EditRequest(
        fact=about or fact(),
        subject_label=name,
        relation_label="head of government",
        target_new=new,
        target_old=old,
        rewrite=Prompt.fill("The head of government of {} is", name),
        question=Prompt.fill("Who is the head of government of {}?", name),
        generation=Prompt.fill("{} is led by", name),
        paraphrases=(Prompt.fill("{} is governed by", name),),
        neighborhood=(Neighbor("Q142", Prompt.fill("{} is governed by", "France"), "Attal", False),),
    )


def new_checkpoint(name: str) -> NewCheckpoint:
    """A checkpoint of one byte."""
    return NewCheckpoint(name, f"checkpoints/{name}", f"w-{name}", "m", "base", "settings", f"l-{name}", 1)


def all_rows(tx: Session) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, as values."""
    return {
        table.name: sorted((tuple(row) for row in tx.execute(select(table))), key=repr)
        for table in Base.metadata.sorted_tables
    }


words = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)  # NUL and surrogates have their own test
subjects = st.sampled_from(["Q1", "Q2", "Q3"])
values = st.one_of(
    st.builds(item, st.sampled_from(["Q7", "Q8", "Q9"])),
    st.builds(Value, st.just(ValueKind.STRING), words),
    st.just(Value(ValueKind.UNKNOWN, "")),
)
times = st.none() | st.datetimes(
    datetime(1, 1, 2),
    datetime(9999, 12, 30),
    timezones=st.just(UTC),
)


@st.composite
def statement_lists(draw: st.DrawFn) -> list[Statement]:
    """Statements of three subjects with few ids, so that pages speak of the same ones."""
    return [
        Statement(
            id=f"{subject}-{number}",
            subject=subject,
            relation="P6",
            value=draw(values),
            rank=draw(st.sampled_from(Rank)),
            best=draw(st.booleans()),
            start=draw(times),
            end=draw(times),
        )
        for subject, number in draw(st.lists(st.tuples(subjects, st.integers(1, 3)), max_size=6, unique=True))
    ]


@st.composite
def pages(draw: st.DrawFn) -> Pulled:
    """A page with any statements, deletions, labels and cursor, and changes that may or may not be right."""
    statements = draw(statement_lists())
    gone = draw(st.lists(st.tuples(subjects, st.integers(1, 3)), max_size=3, unique=True))
    return page(
        statements,
        [(f"{subject}-{number}", "deleted") for subject, number in gone],
        items=[named(one, draw(words), draw(st.integers(1, 5))) for one in draw(st.sets(subjects))],
        labels=[named(one, draw(words), None) for one in draw(st.sets(st.sampled_from(["Q7", "Q8"])))],
        cursor=draw(st.none() | st.builds(Cursor, st.sampled_from([NOON, later(1)]), subjects)),
    )


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    """A prompt with its subject anywhere, braces and all."""
    return Prompt.fill(draw(words).replace("{}", "") + "{}", draw(words))


edit_requests = st.builds(
    EditRequest,
    fact=st.builds(Fact, subjects, st.just("P6"), values),
    subject_label=words,
    relation_label=words,
    target_new=words,
    target_old=st.none() | words,
    rewrite=prompts(),
    question=prompts(),
    generation=prompts(),
    paraphrases=st.lists(prompts(), max_size=2).map(tuple),
    neighborhood=st.lists(
        st.builds(Neighbor, subject=subjects, prompt=prompts(), target=words, same_object=st.booleans()),
        max_size=2,
    ).map(tuple),
)
