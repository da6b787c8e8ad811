# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the page of an encryption key rotation shows: each master's steps, what was rewritten, and under which key etcd holds what. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.parts import Claim, Figure, Heading, Table
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.pictures import (
    NARROW,
    WIDE,
    Picture,
    Scale,
    parts_text,
    rewritten_picture,
    shortened,
    stored_picture,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import Record
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.story import (
    StoredPart,
    StoredRow,
    all_rewritten,
    clock,
    duration,
    number,
    open_failures,
    resource_rows,
    run_spans,
    seconds,
    things,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.words import hint, last_failures

STAGES = {1: "the new key can be read", 2: "the new key writes", 3: "the old keys are gone"}
_SHORT = {1: "readable", 2: "writes", 3: "old gone"}
_STATES = {"failed": "did not come through", "running": "is under way", "cut off": "was cut off"}


def rotation_page(record: Record) -> dict[str, Any]:
    """What the template needs."""
    rows = rotation_rows(record)
    wrote = [one for one in record["migrations"] if one["totals"].get("rewritten")]
    drawn = [stored_picture(rows, width, wrong="under another key") for width in (WIDE, NARROW)]
    return {
        "heading": _heading(record),
        "to_do": _to_do(record),
        "figures": _figures(record, rows),
        "claims": _claims(record),
        "failures": [{**one, "hint": hint(one)} for one in open_failures(record)],
        "resources": resource_rows(record),
        "masters": _masters(record),
        "steps_pictures": [steps_picture(record, width) for width in (WIDE, NARROW)] if record["steps"] else [],
        "rewritten_pictures": [rewritten_picture(wrote[-1], width) for width in (WIDE, NARROW)] if wrote else [],
        "stored_pictures": drawn if all(drawn) else [],
        "stored": Table(
            "Under which key the objects of each resource were.",
            (("Resource", ""), ("Before", ""), ("After", "")),
            [(row.resource, parts_text(row.before), parts_text(row.after)) for row in rows],
        ),
        "stages": STAGES,
    }


def rotation_rows(record: Record) -> list[StoredRow]:
    """By resource, objects by the key that they were under; what is not under the new one counts as stale."""
    wanted = (record["rotation"].get("provider"), record["rotation"].get("key"))
    sides = [record["stored"][when] for when in ("before", "after")]
    names = sorted({name for side in sides if side for name in side["resources"]})
    rows = []
    for name in names:
        parts = [
            None if side is None else _parts((side["resources"].get(name) or {}).get("stored") or (), wanted)
            for side in sides
        ]
        before, after = (sum(one.objects for one in side or () if one.stale) for side in parts)
        rows.append(StoredRow(name, parts[0], parts[1], before, after))
    return sorted(rows, key=lambda row: (-row.stale_after, -row.stale_before, row.resource))


def _parts(stored: Any, wanted: tuple[str | None, str | None]) -> tuple[StoredPart, ...]:
    counts: dict[tuple[str, bool], int] = {}
    for row in stored:
        label = "plain" if row["provider"] == "identity" else f"{row['provider']} {row['key'] or ''}".rstrip()
        which = (label, (row["provider"], row["key"]) != wanted)
        counts[which] = counts.get(which, 0) + row["objects"]
    parts = [StoredPart(label, count, old) for (label, old), count in counts.items()]
    return tuple(sorted(parts, key=lambda part: (part.stale, -part.objects, part.label)))


def _new_key(record: Record) -> str:
    return " ".join(str(one) for one in (record["rotation"].get("provider"), record["rotation"]["key"]) if one)


def _old_keys(record: Record) -> str:
    return (
        ", ".join(" ".join(str(part) for part in one if part) for one in record["rotation"].get("old") or ()) or "none"
    )


def _heading(record: Record) -> Heading:
    title = f"Rotation to the encryption key {record['rotation']['key']}"
    status, after = record["status"], record["stored"]["after"]
    if status == "succeeded":
        left = (
            "The old keys are gone from every master."
            if record["rotation"].get("drop_old")
            else "The old keys are still there, as was asked."
        )
        objects = after["totals"]["objects"] if after else 0
        return Heading(
            title,
            "Done and proven",
            "good",
            f"Etcd was read: of {things(objects, 'object')} nothing needs an old key. {left}",
        )
    if status == "failed":
        failures = last_failures(record)
        return Heading(title, "Stopped", "bad", failures[0]["message"] if failures else "The last run failed.")
    return Heading(
        title,
        "Under way, or cut off" if status == "running" else "Not finished",
        "open",
        f"This is how things stood at {clock(seconds(record['updated']), date=True)} UTC. If no run is under way, run the playbook "
        "again with the same key: it goes on from here.",
    )


def _to_do(record: Record) -> list[str]:
    if record["status"] == "succeeded":
        steps = (
            []
            if record["rotation"].get("drop_old")
            else ["Run again without rolling_upgrade_encryption_drop_old=false to drop them."]
        )
        return [
            *steps,
            f"Keep the old keys ({_old_keys(record)}) for as long as you keep backups of etcd made before this.",
        ]
    return [
        "Remove no key by hand: every master can read everything as things stand.",
        *(["Mend the objects under Failures; each has a hint."] if open_failures(record) else []),
        *(["Mend what the message says."] if record["status"] == "failed" and not open_failures(record) else []),
        "Run the same playbook with the same key again. Steps that are done are left alone, and this report goes on.",
    ]


def _figures(record: Record, rows: list[StoredRow]) -> list[Figure]:
    found = [
        Figure(
            title,
            f"{sum(1 for one in record['masters'] if _came_through(record, one['name'], stage))} of {len(record['masters'])}",
            "masters",
        )
        for stage, title in ((1, "New key readable"), (2, "New key writes"), (3, "Old keys gone"))
        if stage < 3 or record["rotation"].get("drop_old")
    ]
    if record["migrations"]:
        rewritten = all_rewritten(resource_rows(record))
        took = sum(one["seconds"] for one in record["migrations"])
        found.append(Figure("Objects rewritten", number(rewritten), f"in {duration(took)}"))
        found.append(Figure("Failures", number(len(open_failures(record))), ""))
    sides = [record["stored"][when] for when in ("before", "after")]
    if any(sides):
        counts = (sum(row.stale_before for row in rows), sum(row.stale_after for row in rows))
        values = [number(count) if side else "?" for side, count in zip(sides, counts)]
        found.append(Figure("Under another key", " → ".join(values), "objects, before → after"))
    return found


def _steps_of(record: Record, master: str, stage: int) -> list[Mapping[str, Any]]:
    return [step for step in record["steps"] if step["master"] == master and step.get("stage") == stage]


def _came_through(record: Record, master: str, stage: int) -> bool:
    return any(step["state"] == "done" for step in _steps_of(record, master, stage))


def _masters(record: Record) -> Table:
    """For each master, when it first came through each stage."""

    def told(master: str, stage: int) -> str:
        steps = _steps_of(record, master, stage)
        done = next((step for step in steps if step["state"] == "done"), None)
        if done is not None:
            return clock(seconds(done["finished"]))
        return _STATES.get(steps[-1]["state"], "") if steps else "not yet"

    return Table(
        "When each master came through each stage. A stage begins when all masters are through the one before.",
        (("Master", ""), ("API server", "name"), *((text.capitalize(), "") for text in STAGES.values())),
        [
            (
                one["name"],
                next(
                    (step["server"] for step in record["steps"] if step["master"] == one["name"] and step["server"]), ""
                ),
                *(told(one["name"], stage) for stage in STAGES),
            )
            for one in record["masters"]
        ],
    )


def _claims(record: Record) -> list[Claim]:
    names = [one["name"] for one in record["masters"]]

    def all_through(stage: int) -> bool:
        return bool(names) and all(_came_through(record, name, stage) for name in names)

    found = [
        Claim(all_through(1), "Every master could read the new key before any master wrote with it.")
        if all_through(1)
        else Claim(None, "Every master can read the new key."),
        Claim(all_through(2) or None, f"Every master writes with {_new_key(record)}."),
    ]
    after = record["stored"]["after"]
    if record["proof"] and after:
        found.append(
            Claim(
                True, f"Nothing that etcd held at revision {after['revision']} needs an old key ({_old_keys(record)})."
            )
        )
    else:
        found.append(Claim(None, f"That nothing in etcd needs an old key ({_old_keys(record)})."))
    if record["rotation"].get("drop_old"):
        found.append(Claim(all_through(3) or None, "No master has an old key for these resources any more."))
    else:
        found.append(Claim(None, "The old keys were kept on purpose; they can still decrypt old backups."))
    if after:
        found += [Claim(None, str(problem)) for problem in after["problems"]]
    return found


def steps_picture(record: Record, width: float) -> Picture:
    """Each master's stages over time, and when objects were rewritten."""
    picture = Picture("steps", "The masters' steps over time", _description(record), width)
    narrow = picture.narrow
    left = 4.0 if narrow else 150.0
    spans = run_spans(record)
    scale = Scale(spans, left, width - 8)
    height, pitch, top = 26.0, 56.0 if narrow else 40.0, 24.0
    bottom = top + pitch * len(record["masters"])
    for at, x in scale.ticks():
        picture.line([(x, top - 6), (x, bottom + 30)], "grid")
        picture.text(min(max(x, 24.0), width - 26), bottom + 46, clock(at), "muted", "middle")
    for (_begin, end), (start, _end), x, span in zip(spans, spans[1:], scale.starts, scale.widths):
        picture.text(
            min(max(x + span + 17, left + 50), width - 60), 12, f"{duration(start - end)} later", "muted", "middle"
        )
    for place, master in enumerate(record["masters"]):
        y = top + pitch * place + (16 if narrow else 4)
        if narrow:
            picture.text(left, y - 4, shortened(master["name"], width - 20), "strong")
        else:
            picture.text(left - 10, y + 17, shortened(master["name"], left - 12), "strong", "end")
        for step in _notable(record, master["name"]):
            _step_box(picture, scale, step, y, height)
    for one in record["migrations"]:
        start = seconds(one["started"])
        x, until = scale.x(start), scale.x(start + one["seconds"])
        title = f"rewriting objects, {clock(start)} ({duration(one['seconds'])})"
        picture.box(x, bottom + 8, max(until - x, 4.0), 18, "s3", title)
        text = f"rewriting {duration(one['seconds'])}"
        before = x > width / 2
        picture.text(
            x - 6 if before else max(until, x + 4) + 6, bottom + 21, text, "muted", "end" if before else "start"
        )
    picture.height = bottom + 54
    return picture


def _notable(record: Record, master: str) -> list[Mapping[str, Any]]:
    """Without the looks of later runs at what was done already."""
    found: list[Mapping[str, Any]] = []
    done: set[int] = set()
    for step in record["steps"]:
        if step["master"] == master and step.get("stage") and step["stage"] not in done:
            found.append(step)
            if step["state"] == "done":
                done.add(step["stage"])
    return found


def _step_box(picture: Picture, scale: Scale, step: Mapping[str, Any], y: float, height: float) -> None:
    start = seconds(step["started"])
    end = seconds(step["finished"]) if step["finished"] else start
    x = scale.x(start)
    span = max(scale.x(end) - x, 3.0)
    stage = int(step["stage"])
    done = step["state"] == "done"
    look = f"s{stage - 1}" if done else "down" if step["state"] == "failed" else "upgrading"
    text = STAGES[stage] if done else f"{STAGES[stage]}: {_STATES[step['state']]}"
    picture.box(
        x,
        y,
        span,
        height,
        f"band {look}",
        f"{step['master']}, {text}: {clock(start)} to {clock(end)} ({duration(end - start)})",
    )
    if picture.fits(_SHORT[stage], span):
        on = "on-new" if done else "on-down" if look == "down" else "on-upgrading"
        picture.text(x + span / 2, y + 17, _SHORT[stage], on, "middle")


def _description(record: Record) -> str:
    told = []
    for master in record["masters"]:
        parts = [
            f"{STAGES[step['stage']]}, {clock(seconds(step['finished']))}"
            for step in record["steps"]
            if step["master"] == master["name"] and step["state"] == "done" and step.get("stage")
        ]
        told.append(f"{master['name']}: {'; '.join(parts) or 'nothing yet'}.")
    return " ".join(told)
