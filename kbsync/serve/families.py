"""Every metric that `/metrics` may show: the one table that the exposition, the docs and the alerts go by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. A counter's name ends in `_total`; units are in the names."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()


FAMILIES = (
    Family("kbsync_build_info", "gauge", "This program; always 1.", ("version", "schema", "python")),
    Family("kbsync_store_up", "gauge", "Whether the store can be read; without it, nothing below is known."),
    Family("kbsync_ready", "gauge", "Whether /readyz says yes."),
    Family("kbsync_role", "gauge", "What this process is: leader, standby, or only a server.", ("role",)),
    Family("kbsync_stalled_seconds", "gauge", "Since the daemon's work last advanced by a step."),
    # runs
    Family("kbsync_runs_total", "counter", "Runs that ended, those pruned from the ledger too.", ("status",)),
    Family("kbsync_runs", "gauge", "Runs in the ledger.", ("status", "trigger")),
    Family("kbsync_running_seconds", "gauge", "Since the run under way began; 0 while there is none."),
    Family("kbsync_last_success_timestamp_seconds", "gauge", "When a sync last ended well, changed or not."),
    Family("kbsync_last_run_timestamp_seconds", "gauge", "When a run last ended so.", ("status",)),
    Family("kbsync_last_run_duration_seconds", "gauge", "How long the last run that ended took.", ("trigger",)),
    Family("kbsync_last_stage_duration_seconds", "gauge", "How long a stage took when it last ended.", ("stage",)),
    Family("kbsync_triggers_waiting", "gauge", "Requests for a run that no run has taken."),
    Family("kbsync_approval_waiting", "gauge", "1 while a run waits for somebody to approve its changes."),
    # the daemon
    Family("kbsync_daemon_up", "gauge", "1 while a daemon leads the store, whichever process it is."),
    Family("kbsync_paused", "gauge", "1 while `kbsync pause` keeps everything from starting by itself."),
    Family("kbsync_daemon_next_run_timestamp_seconds", "gauge", "When the leading daemon syncs next."),
    Family("kbsync_lease_epoch", "gauge", "How often a lease was taken.", ("lease",)),
    # the source
    Family("kbsync_endpoint_lag_seconds", "gauge", "Age of the newest edit of Wikidata that was read."),
    Family("kbsync_relation_lag_seconds", "gauge", "Age of the newest edit read of one relation.", ("relation",)),
    Family("kbsync_first_pull_complete", "gauge", "Whether a relation's first pull has read all.", ("relation",)),
    Family("kbsync_endpoint_requests_total", "counter", "Requests that an endpoint was sent.", ("host",)),
    Family("kbsync_endpoint_refused_total", "counter", "Requests that it refused, to be tried again.", ("host",)),
    Family("kbsync_endpoint_refusals", "gauge", "Refusals in a row, up to now.", ("host",)),
    Family("kbsync_breaker_open", "gauge", "1 while an endpoint is left alone.", ("host",)),
    Family("kbsync_next_try_timestamp_seconds", "gauge", "When it is tried again; 0 where at once.", ("host",)),
    Family("kbsync_page_size_rows", "gauge", "Rows of a page that an endpoint has time for.", ("host",)),
    Family("kbsync_stream_events_total", "counter", "Events of the mutation stream.", ("outcome",)),
    Family("kbsync_touches_waiting", "gauge", "Items that the stream named and that wait to be read."),
    Family("kbsync_last_reconcile_timestamp_seconds", "gauge", "When a relation was last compared as a whole."),
    Family("kbsync_last_reconcile_divergences", "gauge", "What the last comparison found.", ("kind",)),
    # facts and edits
    Family("kbsync_changes_total", "counter", "Changes of facts that pulls have found.", ("kind",)),
    Family("kbsync_facts", "gauge", "Facts that hold now.", ("relation",)),
    Family("kbsync_edit_requests", "gauge", "Facts in words.", ("status",)),
    Family("kbsync_held_facts", "gauge", "Facts that can't be edited.", ("reason",)),
    Family("kbsync_held_changes", "gauge", "Changes that the trust filter holds.", ("reason",)),
    # what edits did
    Family("kbsync_outcomes", "gauge", "Prompts of the last evaluation.", ("phase", "kind", "success", "accuracy")),
    Family("kbsync_evaluation_value", "gauge", "Metrics of the last evaluation.", ("metric", "phase")),
    Family("kbsync_gate_verdicts", "gauge", "Verdicts of the gate in the ledger.", ("metric", "result")),
    Family("kbsync_gate_passed", "gauge", "The last verdict by each of the gate's rules.", ("metric",)),
    Family("kbsync_gate_value", "gauge", "What was measured for it.", ("metric",)),
    Family("kbsync_gate_threshold", "gauge", "What it was held against.", ("metric",)),
    # models
    Family("kbsync_live_facts", "gauge", "Edits that the live model holds."),
    Family("kbsync_live_info", "gauge", "The live model; always 1.", ("checkpoint",)),
    Family("kbsync_live_timestamp_seconds", "gauge", "When it went live."),
    Family("kbsync_live_damaged", "gauge", "1 where its files are not what was written."),
    Family("kbsync_checkpoints", "gauge", "Checkpoints whose files are kept.", ("status",)),
    Family("kbsync_checkpoint_bytes", "gauge", "Their size."),
    # the machine
    Family("kbsync_store_bytes", "gauge", "Size of the database."),
    Family("kbsync_disk_free_bytes", "gauge", "Room on the disk of a folder.", ("folder",)),
    Family("kbsync_threads", "gauge", "Threads of this process."),
    Family("kbsync_http_answers_total", "counter", "Answers of this process over HTTP.", ("code",)),
    Family("kbsync_scrape_seconds", "gauge", "How long the figures of this scrape took to collect."),
)  # fmt: skip

BY_NAME = {one.name: one for one in FAMILIES}

# From prometheus-client's collector, on Linux.
PROCESS = (
    Family("process_resident_memory_bytes", "gauge", "Memory that this process has in use."),
    Family("process_virtual_memory_bytes", "gauge", "Memory that it has reserved."),
    Family("process_start_time_seconds", "gauge", "When it started."),
    Family("process_cpu_seconds_total", "counter", "Processor time that it has used."),
    Family("process_open_fds", "gauge", "Files that it has open."),
    Family("process_max_fds", "gauge", "Files that it may have open."),
)
