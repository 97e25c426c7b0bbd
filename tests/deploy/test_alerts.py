"""deploy/alerts.yml: each alert asks for what there is, and says what to do."""

from __future__ import annotations

import re
import shlex
from typing import Any

import click

from kbsync.facts import DivergenceKind
from kbsync.request.plan import MODEL_FULL
from kbsync.settings import ScheduleSettings, ServeSettings, Settings, duration
from kbsync.store.leases import LEADER
from kbsync.store.tables import RunStatus
from tests.deploy.conftest import DEPLOY, query
from tests.deploy.promql import OUTER
from tests.test_docs import SPAN, anchors, parse

VALUES = {  # labels whose values are known, and all that they can be
    ("kbsync_runs_total", "status"): set(RunStatus),
    ("kbsync_last_reconcile_divergences", "kind"): set(DivergenceKind),
    ("kbsync_lease_epoch", "lease"): {LEADER, "run"},
    ("kbsync_held_facts", "reason"): {MODEL_FULL, "beyond max_live"},
    ("kbsync_evaluation_value", "metric"): {"capacity"},
    ("kbsync_http_answers_total", "code"): {"401", "429"},
}
Rules = list[dict[str, Any]]


def test_every_alert_is_a_rule_of_prometheus(alerts: Rules) -> None:
    """The keys that Prometheus knows, a name of its own, a severity, and a length of time."""
    names = [rule["alert"] for rule in alerts]
    assert len(names) == len(set(names)) >= 20
    for rule in alerts:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert re.fullmatch(r"Kbsync[A-Za-z]+", rule["alert"])
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert re.fullmatch(r"\d+[mhd]", rule.get("for", "1m")), rule["alert"]


def test_every_expression_asks_for_what_there_is(alerts: Rules) -> None:
    """Metrics and labels are those of the table, counters are taken as rates, and values exist."""
    for rule in alerts:
        for used in query(rule["expr"]).used:
            for label, _, value in used.matchers:
                assert set(value.split("|")) <= VALUES[used.metric, label], rule["alert"]


def test_every_expression_is_a_condition(alerts: Rules) -> None:
    """It compares, or asks whether there is nothing: an alert without a condition would fire for ever."""
    for rule in alerts:
        assert re.search(r"[<>=]=?|absent", re.sub(r"\{[^}]*\}", "", rule["expr"])), rule["alert"]


def test_texts_name_labels_that_the_answer_has(alerts: Rules) -> None:
    """A template with a label that an aggregation took away would be empty."""
    for rule in alerts:
        left = query(rule["expr"]).labels
        texts = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", texts)) <= left | (OUTER & left), rule["alert"]
        assert texts.count("{{") == texts.count("}}")


def test_every_alert_says_what_to_do(alerts: Rules) -> None:
    """In a summary, an action, and a page of docs with the heading that it names."""
    for rule in alerts:
        notes = rule["annotations"]
        assert set(notes) == {"summary", "action", "page"}, rule["alert"]
        path, _, anchor = notes["page"].partition("#")
        assert anchor in anchors(DEPLOY.parent / path), notes["page"]
        assert len(notes["action"]) > 60, rule["alert"]


def test_commands_and_settings_of_the_actions_exist(alerts: Rules) -> None:
    """Each command parses, and each setting is one."""
    commands = settings = 0
    for rule in alerts:
        for span in SPAN.findall(rule["annotations"]["action"]):
            if span.startswith("kbsync "):
                commands += 1
                try:
                    parse(shlex.split(span)[1:])
                except click.MissingParameter:  # what is to be decided, say
                    continue
            elif (found := re.fullmatch(r"([a-z]+)\.([a-z_]+)", span)) is not None:
                settings += 1
                section, key = found.groups()
                assert key in Settings.model_fields[section].annotation.model_fields, span  # type: ignore[union-attr]
    assert commands >= 15
    assert settings >= 4


def test_thresholds_fit_the_defaults(alerts: Rules) -> None:
    """With the default settings nothing fires on a day on which all is well."""
    exprs = {rule["alert"]: rule["expr"] for rule in alerts}
    last = {
        name: float(re.split(r"[<>]=? ", text)[-1].split(" *")[0]) for name, text in exprs.items() if "> " in text
    }
    assert last["KbsyncStalled"] >= duration(ServeSettings().hung_after).total_seconds()
    assert last["KbsyncOutOfDate"] > 4 * 60 * float(ScheduleSettings().interval_minutes or 0)
    assert "15 * 86400" in exprs["KbsyncReconcileOverdue"]  # schedule.reconcile is once a week
    assert ScheduleSettings().reconcile.endswith(" 0")
