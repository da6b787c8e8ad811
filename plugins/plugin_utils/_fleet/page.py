# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page of a fleet: a row for each cluster, to sort and filter without a server, and which resource is stale where.

Pure, except for reading its template and its script.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import epoch_seconds, parse_time
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.folder import CHECK, MIGRATION, STATE
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import (
    MIGRATE,
    NOT_BEGUN,
    RUNNING,
    STOPPED,
    ClusterRow,
    FleetRecord,
    Severity,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.run import state_words
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report import page as report_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.components import Figure, Heading, Table
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.wording import (
    clock,
    number,
    some_of,
    things,
    time_taken,
)
from markupsafe import Markup

_RESOURCES = 20
_NAMED = 3
_TONES = {
    Severity.FINE.value: "good",
    Severity.CONCERN.value: "fair",
    Severity.STALE.value: "fair",
    Severity.DISAGREEMENT.value: "bad",
    Severity.BLOCKER.value: "bad",
    Severity.FAILURE.value: "bad",
    Severity.NOT_REACHED.value: "open",
    NOT_BEGUN: "open",
}
_STATES = (*(severity.value for severity in reversed(Severity)), NOT_BEGUN)
_COLUMNS = (
    ("Cluster", ""),
    ("State", ""),
    ("Why", "text"),
    ("Releases", ""),
    ("Agree", ""),
    ("Stale", "n"),
    ("Oldest stored", ""),
    ("Blockers", "n"),
    ("Concerns", "n"),
    ("Safe up to", ""),
    ("CRDs to trim", "n"),
    ("Keys, since first seen", ""),
    ("Plain Secrets", "n"),
    ("etcd used", "n"),
    ("Migrated", ""),
    ("Snapshot", ""),
    ("Looked at", ""),
)


class Cell(NamedTuple):
    """``sort``: the number to sort by; an empty text if it is unknown, None to sort by the text."""

    text: str
    sort: Any = None
    look: str = ""
    link: str = ""


class ShownRow(NamedTuple):
    """``rank``: the worst first."""

    host: str
    title: str
    state: str
    words: str
    tone: str
    rank: int
    link: str
    cells: list[Cell]


class Matrix(NamedTuple):
    """``rows``: host, title and a count for each of ``resources``, and one for all others if some are left out."""

    resources: list[str]
    left_out: bool
    rows: list[tuple[str, str, list[int]]]


def fleet_page(record: FleetRecord) -> str:
    script, script_hash = _script()
    return report_page.render(
        "fleet.html.j2",
        record=_Shown(record),
        heading=heading(record),
        to_do=to_do(record),
        standing=[],
        figures=figures(record),
        waves=_waves(record),
        columns=_COLUMNS,
        states=[(state, state_words(state)) for state in _STATES],
        rows=shown_rows(record),
        stale=stale_table(record.clusters),
        matrix=matrix(record.clusters),
        script=Markup(script),
        script_hash=script_hash,
        json_name="fleet.json",
    )


class _Shown:
    """What the page's frame asks of any record."""

    cluster = None

    def __init__(self, record: FleetRecord) -> None:
        self.started, self.updated, self.waves = record.started, record.updated, record.waves
        self.runs: list[Any] = []


@cache
def _script() -> tuple[str, str]:
    """The script, and the hash by which the page allows just this one."""
    script = (Path(report_page.__file__).parent / "fleet.js").read_text(encoding="utf-8")
    return script, "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def heading(record: FleetRecord) -> Heading:
    about = _title(record)
    count = things(len(record.clusters), "cluster")
    if record.status == STOPPED:
        return Heading(about, "Stopped", "bad", f"{record.stopped} Later waves did not begin.")
    if record.status == RUNNING:
        left = len(record.rows_in(NOT_BEGUN))
        waiting = f"{number(left)} of {count} have not had their turn yet."
        return Heading(about, "In progress", "open", waiting if left else f"All {count} have had their turn.")
    worst = [state for state in _STATES if record.rows_in(state)]
    found = [f"{len(record.rows_in(state))} {state_words(state)}" for state in worst]
    tones = {_TONES[state] for state in worst}
    tone = next((tone for tone in ("bad", "open", "fair") if tone in tones), "good" if worst else "open")
    badge = "Nothing found" if tone == "good" else found[0] if found else "No clusters"
    return Heading(about, badge, tone, f"{count}: {', '.join(found) or 'none'}.")


def _title(record: FleetRecord) -> str:
    if record.purpose == MIGRATE:
        return "Fleet: the migration"
    return (
        f"Fleet: check before the upgrade to {record.version}" if record.version else "Fleet: what is stored, and how"
    )


def to_do(record: FleetRecord) -> list[str]:
    steps = []
    if record.rows_in(Severity.NOT_REACHED.value):
        steps.append("Nothing is known about clusters that were not reached. Find out why, and run again.")
    if record.rows_in(Severity.FAILURE.value):
        steps.append("Fix what failed, which the column Why says, and run again.")
    if record.rows_in(Severity.BLOCKER.value):
        steps.append("Fix the blockers; the page of each cluster says how.")
    if record.rows_in(Severity.DISAGREEMENT.value):
        steps.append("Finish or repair the API servers that differ. Don't migrate anything there until they agree.")
    if record.rows_in(Severity.STALE.value):
        steps.append(
            "Migrate the clusters that hold stale objects: run the playbook with rolling_upgrade_fleet_purpose=migrate."
        )
    if record.status == STOPPED:
        steps.append("Run it again with the same folder to resume: clusters that are done are left alone.")
    return steps


def figures(record: FleetRecord) -> list[Figure]:
    rows = record.clusters
    read = [row for row in rows if row.stale is not None]
    found = [Figure("Clusters", number(len(rows)), "")]
    found += [
        Figure(_sentence(state_words(state)), number(len(record.rows_in(state))), "")
        for state in _STATES
        if record.rows_in(state)
    ]
    if read:
        stale = sum(row.stale or 0 for row in read)
        found.append(Figure("Stale objects", number(stale), f"where etcd was read, {len(read)} of {len(rows)}"))
    return found


def _sentence(words: str) -> str:
    """With a capital first letter, otherwise unchanged."""
    return words[:1].upper() + words[1:]


def _waves(record: FleetRecord) -> Table:
    def state(finished: str | None, clusters: Sequence[str]) -> str:
        if not clusters:
            return "empty: none of its clusters is in this play"
        if finished:
            return f"finished at {clock(epoch_seconds(finished), True)}"
        return "did not begin" if record.status == STOPPED else "not finished"

    return Table(
        "The waves, in order.",
        (("Wave", ""), ("Clusters", "n"), ("State", "text")),
        [(wave.name, number(len(wave.clusters)), state(wave.finished, wave.clusters)) for wave in record.waves],
    )


def shown_rows(record: FleetRecord) -> list[ShownRow]:
    """The worst first, then by name."""
    now = epoch_seconds(record.updated)
    found = [
        ShownRow(
            row.host,
            row.title,
            row.state,
            state_words(row.state),
            _TONES[row.state],
            _STATES.index(row.state),
            row.pages.get(STATE, ""),
            _cells(row, now),
        )
        for row in record.clusters
    ]
    return sorted(found, key=lambda row: (row.rank, row.title))


def _cells(row: ClusterRow, now: float) -> list[Cell]:
    ready = sum(server.ready for server in row.servers)
    down = f", {len(row.servers) - ready} not ready" if ready < len(row.servers) else ""
    masters = f" ({things(len(row.servers), 'master')}{down})" if row.servers else ""
    share = row.etcd_share
    return [
        Cell(" ".join(row.why), look="text", link=row.pages.get(MIGRATION, "")),
        Cell(", ".join(row.releases) + masters),
        Cell("" if row.agree is None else "yes" if row.agree else "no"),
        _count(row.stale),
        Cell(row.oldest or ("none old" if row.stale == 0 else "")),
        _count(row.blockers, row.pages.get(CHECK, "")),
        _count(row.concerns),
        Cell(row.safe_up_to or ""),
        _count(None if row.untrimmed is None else len(row.untrimmed)),
        _keys(row, now),
        _count(row.plain_secrets),
        Cell("", "", "n") if share is None else Cell(f"{share:.0%}", round(share, 4), "n"),
        _when(row.migrated),
        _when(row.snapshot),
        _when(row.observed),
    ]


def _count(count: int | None, link: str = "") -> Cell:
    return Cell("", "", "n") if count is None else Cell(number(count), count, "n", link)


def _when(at: str | None) -> Cell:
    moment = parse_time(at)
    return Cell("", "") if moment is None else Cell(clock(moment.timestamp(), True)[:16], round(moment.timestamp()))


def _keys(row: ClusterRow, now: float) -> Cell:
    """Sorted by the key that was first seen the longest ago; etcd doesn't show how old a key really is."""
    if not row.keys:
        return Cell("none" if row.objects is not None else "", 0 if row.objects is not None else "")
    ages = [now - epoch_seconds(key.seen) for key in row.keys]
    names = some_of([key.key or key.provider for key in row.keys], _NAMED)
    return Cell(f"{names}, first seen {time_taken(max(ages))} ago", round(max(ages)))


def stale_table(rows: Sequence[ClusterRow]) -> Table:
    found = _stale_by_resource(rows)
    return Table(
        "Resources with stale objects, and in how many clusters.",
        (("Resource", ""), ("Clusters", "n"), ("Objects", "n")),
        [(name, number(clusters), number(objects)) for name, (clusters, objects) in found],
    )


def _stale_by_resource(rows: Sequence[ClusterRow]) -> list[tuple[str, tuple[int, int]]]:
    """How many clusters have stale objects of a resource, and how many objects; the most clusters first."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        for name, count in row.stale_resources.items():
            clusters, objects = found.get(name, (0, 0))
            found[name] = (clusters + 1, objects + count)
    return sorted(found.items(), key=lambda item: (-item[1][0], -item[1][1], item[0]))


def matrix(rows: Sequence[ClusterRow]) -> Matrix:
    names = [name for name, _counts in _stale_by_resource(rows)]
    shown = names[:_RESOURCES]
    left_out = len(names) > len(shown)
    found = []
    for row in sorted(rows, key=lambda row: (-(row.stale or 0), row.title)):
        if row.stale_resources:
            counts = [row.stale_resources.get(name, 0) for name in shown]
            rest = [sum(row.stale_resources.values()) - sum(counts)] if left_out else []
            found.append((row.host, row.title, counts + rest))
    return Matrix(shown, left_out, found)
