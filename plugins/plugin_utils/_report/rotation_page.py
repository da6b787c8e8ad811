# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of a key rotation's page: each master's steps, what was rewritten, and which keys encrypt objects in etcd. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import epoch_seconds
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.charts import (
    NARROW,
    WIDE,
    Chart,
    Scale,
    draw_axis,
    draw_breaks,
    parts_text,
    rewritten_chart,
    shortened,
    stored_chart,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.components import (
    Figure,
    Heading,
    ProofClaim,
    Table,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    InventoryMaster,
    Migration,
    Record,
    RotationNames,
    Step,
    StoredVariant,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.sentences import (
    last_failures,
    migration_figures,
    stale_figure,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.timeline import (
    StoredPart,
    StoredRow,
    key_label,
    open_failures,
    resource_rows,
    run_spans,
    sorted_parts,
    stale_objects,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.wording import clock, things, time_taken

STAGES = {1: "the new key can be read", 2: "the new key writes", 3: "the old keys are gone"}
_BAND = 26.0
_SHORT = {1: "readable", 2: "writes", 3: "old gone"}
_STATES = {"failed": "failed", "running": "in progress", "cut off": "interrupted"}


def rotation_page(record: Record) -> dict[str, Any]:
    """The template's variables."""
    rows = rotation_rows(record)
    claims = _claims(record)
    wrote = [migration for migration in record.migrations if migration.totals.get("rewritten")]
    drawn = [stored_chart(rows, width, wrong="under another key") for width in (WIDE, NARROW)]
    return {
        "heading": _heading(record, claims),
        "to_do": _to_do(record),
        "figures": _figures(record, rows),
        "claims": claims,
        "failures": open_failures(record),
        "resources": resource_rows(record),
        "masters": _masters(record),
        "steps_charts": [steps_chart(record, width) for width in (WIDE, NARROW)] if record.steps else [],
        "rewritten_charts": [rewritten_chart(wrote[-1], width) for width in (WIDE, NARROW)] if wrote else [],
        "stored_charts": drawn if all(drawn) else [],
        "stored": Table(
            "Under which key the objects of each resource were.",
            (("Resource", ""), ("Before", ""), ("After", "")),
            [(row.resource, parts_text(row.before), parts_text(row.after)) for row in rows],
        ),
        "stages": STAGES,
    }


def _rotation(record: Record) -> RotationNames:
    return record.rotation or RotationNames(None)


def rotation_rows(record: Record) -> list[StoredRow]:
    """By resource, objects by the key that they were under; those not under the new one count as stale."""
    wanted = (_rotation(record).provider, _rotation(record).key)
    sides = (record.stored.before, record.stored.after)
    names = sorted({name for side in sides if side for name in side.resources})
    rows = []
    for name in names:
        found = [side.resources.get(name) if side else None for side in sides]
        before, after = (
            None if side is None else _parts(resource.stored if resource else (), wanted)
            for side, resource in zip(sides, found)
        )
        rows.append(StoredRow(name, before, after, stale_objects(before), stale_objects(after)))
    return sorted(rows, key=lambda row: (-row.stale_after, -row.stale_before, row.resource))


def _parts(stored: Sequence[StoredVariant], wanted: tuple[str | None, str | None]) -> tuple[StoredPart, ...]:
    counts: dict[tuple[str, bool], int] = {}
    for variant in stored:
        which = (key_label(variant), (variant.provider, variant.key) != wanted)
        counts[which] = counts.get(which, 0) + variant.objects
    return sorted_parts(counts)


def _new_key(record: Record) -> str:
    return " ".join(name for name in (_rotation(record).provider, _rotation(record).key) if name)


def _old_keys(record: Record) -> str:
    return ", ".join(" ".join(part for part in key if part) for key in _rotation(record).old) or "none"


def _heading(record: Record, claims: Sequence[ProofClaim]) -> Heading:
    """Depends on what is proven, never on whether the run finished."""
    title = f"Rotation to the encryption key {_rotation(record).key}"
    if record.status in ("failed", "cut off"):
        failures = last_failures(record)
        badge = "Stopped" if record.status == "failed" else "Interrupted"
        return Heading(title, badge, "bad", failures[0].message if failures else "The last run failed.")
    if record.status == "succeeded" and all(claim.holds is not False for claim in claims):
        objects = record.stored.after.total("objects") if record.stored.after else 0
        left = "are gone from every master" if _rotation(record).drop_old else "are still there, as requested"
        text = f"Etcd was read: of {things(objects, 'object')}, none needs an old key. The old keys {left}."
        return Heading(title, "Done and proven", "good", text)
    return Heading(
        title,
        "In progress, or interrupted" if record.status == "running" else "Not finished",
        "open",
        f"This was the state at {clock(epoch_seconds(record.updated), date=True)} UTC. If no run is in progress, run the playbook "
        "again with the same key to resume.",
    )


def _to_do(record: Record) -> list[str]:
    if record.status == "succeeded":
        kept = "Run again without rolling_upgrade_encryption_drop_old=false to drop them."
        return [
            *([] if _rotation(record).drop_old else [kept]),
            f"Keep the old keys ({_old_keys(record)}) for as long as you keep backups of etcd made before this.",
        ]
    return [
        "Remove no key by hand, and no copy of the old configuration on the masters.",
        *(["Fix the objects under Failures; each has a hint."] if open_failures(record) else []),
        *(
            ["Fix what the message says."]
            if record.status in ("failed", "cut off") and not open_failures(record)
            else []
        ),
        "Run the same playbook with the same key again. Steps that are done are left alone, and this report is continued.",
    ]


def _figures(record: Record, rows: list[StoredRow]) -> list[Figure]:
    stages = ((1, "New key readable"), (2, "New key writes"), (3, "Old keys gone"))
    return [
        *(
            Figure(title, f"{record.masters_through(stage)} of {len(record.masters)}", "masters")
            for stage, title in stages
            if stage < 3 or _rotation(record).drop_old
        ),
        *migration_figures(record),
        *stale_figure(record, rows, "Under another key", "objects, before → after"),
    ]


def _steps_of(record: Record, master: str, stage: int) -> list[Step]:
    return [step for step in record.steps if step.master == master and step.stage == stage]


def _all_through(record: Record, stage: int) -> bool:
    return bool(record.masters) and record.masters_through(stage) == len(record.masters)


def _masters(record: Record) -> Table:
    """For each master, when it first completed each stage."""
    return Table(
        "When each master completed each stage. A stage begins when all masters have completed the one before.",
        (("Master", ""), ("API server", "name"), *((text.capitalize(), "") for text in STAGES.values())),
        [
            (master.name, _server_of(record, master), *(_stage_text(record, master, stage) for stage in STAGES))
            for master in record.masters
        ],
    )


def _server_of(record: Record, master: InventoryMaster) -> str:
    return next((step.server for step in record.steps if step.master == master.name and step.server), "")


def _stage_text(record: Record, master: InventoryMaster, stage: int) -> str:
    steps = _steps_of(record, master.name, stage)
    done = next((step.finished for step in steps if step.state == "done" and step.finished), None)
    if done is not None:
        return clock(epoch_seconds(done))
    return _STATES.get(steps[-1].state, "") if steps else "not yet"


def _claims(record: Record) -> list[ProofClaim]:
    """What nobody saw is unknown: neither proven nor contradicted."""
    after = record.stored.after
    return [
        ProofClaim(True, "Every master could read the new key before any master wrote with it.")
        if _all_through(record, 1)
        else ProofClaim(None, "Every master can read the new key."),
        ProofClaim(_all_through(record, 2) or None, f"Every master writes with {_new_key(record)}."),
        ProofClaim(True, f"Nothing that etcd held at revision {after.revision} needs an old key ({_old_keys(record)}).")
        if record.proof and after
        else ProofClaim(None, f"That nothing in etcd needs an old key ({_old_keys(record)})."),
        ProofClaim(_all_through(record, 3) or None, "No master still has an old key for these resources.")
        if _rotation(record).drop_old
        else ProofClaim(None, "The old keys were kept on purpose; they can still decrypt old backups."),
        *(ProofClaim(None, problem) for problem in (after.problems if after else ())),
    ]


def steps_chart(record: Record, width: float) -> Chart:
    """Each master's stages over time, and when objects were rewritten."""
    chart = Chart("steps", "The masters' steps over time", _description(record), width)
    left, pitch, top = (4.0, 56.0, 24.0) if chart.narrow else (150.0, 40.0, 24.0)
    scale = Scale(run_spans(record), left, width - 8)
    bottom = top + pitch * len(record.masters)
    draw_axis(chart, scale, top - 6, bottom + 30, bottom + 46)
    first = top + (16 if chart.narrow else 4)
    draw_breaks(
        chart, scale, left, [(y, y + _BAND) for y in (first + pitch * n for n in range(len(record.masters)))], 12
    )
    for place, master in enumerate(record.masters):
        y = first + pitch * place
        _draw_name(chart, master.name, left, y)
        for stage, step in _notable(record, master.name):
            _step_box(chart, scale, stage, step, y)
    for migration in record.migrations:
        _draw_rewriting(chart, scale, migration, bottom + 8)
    chart.height = bottom + 54
    return chart


def _draw_name(chart: Chart, name: str, left: float, y: float) -> None:
    if chart.narrow:
        chart.text(left, y - 4, shortened(name, chart.width - 20), "strong")
    else:
        chart.text(left - 10, y + 17, shortened(name, left - 12), "strong", "end")


def _draw_rewriting(chart: Chart, scale: Scale, migration: Migration, y: float) -> None:
    start, took = epoch_seconds(migration.started), time_taken(migration.seconds)
    x, until = scale.x(start), scale.x(start + migration.seconds)
    chart.box(x, y, max(until - x, 4.0), 18, "s3", f"rewriting objects, {clock(start)} ({took})")
    if x > chart.width / 2:
        chart.text(x - 6, y + 13, f"rewriting {took}", "muted", "end")
    else:
        chart.text(max(until, x + 4) + 6, y + 13, f"rewriting {took}", "muted", "start")


def _notable(record: Record, master: str) -> list[tuple[int, Step]]:
    """Each stage's steps, without later runs' checks of steps that were already done."""
    found: list[tuple[int, Step]] = []
    done: set[int] = set()
    for step in record.steps:
        if step.master == master and step.stage and step.stage not in done:
            found.append((step.stage, step))
            if step.state == "done":
                done.add(step.stage)
    return found


def _step_box(chart: Chart, scale: Scale, stage: int, step: Step, y: float) -> None:
    start = epoch_seconds(step.started)
    end = epoch_seconds(step.finished) if step.finished else start
    x = scale.x(start)
    span = max(scale.x(end) - x, 3.0)
    done = step.state == "done"
    look = f"s{stage - 1}" if done else "down" if step.state == "failed" else "upgrading"
    text = STAGES[stage] if done else f"{STAGES[stage]}: {_STATES[step.state]}"
    title = f"{step.master}, {text}: {clock(start)} to {clock(end)} ({time_taken(end - start)})"
    chart.box(x, y, span, _BAND, f"band {look}", title)
    if chart.fits(_SHORT[stage], span):
        on = "on-new" if done else "on-down" if look == "down" else "on-upgrading"
        chart.text(x + span / 2, y + 17, _SHORT[stage], on, "middle")


def _description(record: Record) -> str:
    told = []
    for master in record.masters:
        parts = [
            f"{STAGES[step.stage]}, {clock(epoch_seconds(step.finished))}"
            for step in record.steps
            if step.master == master.name and step.state == "done" and step.stage and step.finished
        ]
        told.append(f"{master.name}: {'; '.join(parts) or 'nothing yet'}.")
    return " ".join(told)
