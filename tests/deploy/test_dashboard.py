"""deploy/dashboard.json: Grafana's schema, and queries that ask for what there is."""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from tests.deploy.conftest import query
from tests.deploy.promql import OUTER


class Part(BaseModel):
    """A part of a dashboard, with no key that Grafana would not know."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Source(Part):
    type: Literal["prometheus"]
    uid: Literal["${datasource}"]  # whichever the reader has


class Place(Part):
    h: int = Field(ge=1)
    w: int = Field(ge=1, le=24)
    x: int = Field(ge=0, le=23)
    y: int = Field(ge=0)


class Target(Part):
    ref_id: str = Field(pattern="^[A-Z]$")
    datasource: Source
    expr: str
    legend_format: str
    range: Literal[True]


class Row(Part):
    id: int
    type: Literal["row"]
    title: str
    collapsed: Literal[False]
    grid_pos: Place
    panels: list[Any] = Field(max_length=0)


class Panel(Part):
    id: int
    type: Literal["stat", "timeseries"]
    title: str = Field(min_length=3)
    description: str = Field(min_length=10)
    datasource: Source
    grid_pos: Place
    field_config: dict[Literal["defaults", "overrides"], Any]
    options: dict[str, Any]
    targets: list[Target] = Field(min_length=1)


class Variable(Part):
    name: str
    label: str
    type: Literal["datasource", "query"]
    query: str
    datasource: Source | None = None
    include_all: bool = False
    multi: bool = False
    all_value: str | None = None
    refresh: int = 0
    current: dict[str, str] | None = None


class Variables(Part):
    list: list[Variable]


class Annotation(Part):
    name: str
    datasource: Source
    enable: bool
    icon_color: str
    expr: str
    title_format: str


class Annotations(Part):
    list: list[Annotation]


class Dashboard(Part):
    """What Grafana 10 and later read (`schemaVersion` 39; a newer one migrates it)."""

    uid: str = Field(pattern="^[a-zA-Z0-9_-]{1,40}$")
    title: str
    description: str
    tags: list[str]
    schema_version: Literal[39]
    version: int
    editable: bool
    graph_tooltip: Literal[0, 1, 2]
    refresh: str
    timezone: str
    time: dict[Literal["from", "to"], str]
    annotations: Annotations
    templating: Variables
    links: list[Any]
    panels: list[Annotated[Row | Panel, Field(discriminator="type")]]


UNITS = {"none", "short", "s", "bytes", "percentunit"}


@pytest.fixture(scope="module")
def read(dashboard: dict[str, Any]) -> Dashboard:
    """The dashboard, checked."""
    return Dashboard.model_validate(dashboard)


def panels(read: Dashboard) -> list[Panel]:
    """Those with queries."""
    return [one for one in read.panels if isinstance(one, Panel)]


def test_the_schema_can_say_no(dashboard: dict[str, Any]) -> None:
    """A key that Grafana does not know, or a source that only one machine has, is found."""
    for wrong in ({"uid": "a b"}, {"panels": [{"type": "graph"}]}, {"extra": 1}):
        with pytest.raises(ValidationError):
            Dashboard.model_validate(dashboard | wrong)


def test_every_panel_has_its_place(read: Dashboard) -> None:
    """Ids are their own, nothing lies over another, nothing reaches over the edge."""
    ids = [one.id for one in read.panels]
    assert len(ids) == len(set(ids))
    places = [one.grid_pos for one in read.panels]
    assert all(one.x + one.w <= 24 for one in places)
    for a, b in itertools.combinations(places, 2):
        apart = a.x + a.w <= b.x or b.x + b.w <= a.x or a.y + a.h <= b.y or b.y + b.h <= a.y
        assert apart, (a, b)


def test_every_query_asks_for_what_there_is(read: Dashboard) -> None:
    """Metrics and labels are those of the table, and every metric is narrowed to the job that was chosen."""
    asked = [target.expr for panel in panels(read) for target in panel.targets]
    asked += [one.expr for one in read.annotations.list]
    assert len(asked) >= 30
    for text in asked:
        for used in query(text).used:
            assert ("job", "=~", "$job") in used.matchers, text


def test_legends_name_labels_that_the_answer_has(read: Dashboard) -> None:
    """And where an answer has labels of its own, the legend tells them apart."""
    for panel in panels(read):
        assert [one.ref_id for one in panel.targets] == [chr(65 + i) for i in range(len(panel.targets))]
        for target in panel.targets:
            left = query(target.expr).labels
            named = set(re.findall(r"\{\{(\w+)\}\}", target.legend_format))
            assert named <= left, (panel.title, target.expr)
            assert left - OUTER <= named, (panel.title, target.expr)
            assert not left or named, (panel.title, target.expr)


def test_variables_are_there(read: Dashboard, dashboard: dict[str, Any]) -> None:
    """Each `$name` in the file is a variable, and the list of jobs comes from a metric of kbsync."""
    defined = {one.name: one for one in read.templating.list}
    assert set(re.findall(r"\$\{?([a-z]+)\}?", str(dashboard))) == set(defined)
    metric = re.fullmatch(r"label_values\((\w+), job\)", defined["job"].query)
    assert metric is not None
    query(metric[1])


def test_units_are_known(read: Dashboard) -> None:
    """Units are Grafana's names."""
    assert {panel.field_config["defaults"]["unit"] for panel in panels(read)} <= UNITS
