# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A reference page for each playbook, made from the playbook itself and the role's argument specs.

A playbook takes the variables of the role's entry points that it runs, and those that it names itself with a default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from antsibull_docs_parser.parser import Context, parse
from antsibull_docs_parser.rst import to_rst_plain

ROLE = "kube_storage.upgrade.rolling_upgrade"
# Variables of the playbooks alone; every other one is described in the role's argument specs.
OWN = {
    "rolling_upgrade_hosts": ("str", "The hosts of the play. By default {hosts}."),
    "rolling_upgrade_gather_facts": ("bool", "Whether to gather facts about the hosts, V(true) by default. Your tasks files may need them."),
}  # fmt: skip
_USED = re.compile(r"\b(rolling_upgrade_\w+)(?= *\| *default\(| is (?:not )?defined)")


@dataclass(frozen=True)
class Variable:
    name: str
    kind: str
    default: Any
    required: bool
    description: str
    #: The role's entry point that documents it; empty if it is the playbook's own.
    entry_point: str


def entry_points_of(playbook: Any) -> list[str]:
    """The role's entry points that it runs, in order."""
    return list(_entry_points(playbook))


def _entry_points(found: Any) -> Iterator[str]:
    if isinstance(found, list):
        for item in found:
            yield from _entry_points(item)
    elif isinstance(found, Mapping):
        for key, value in found.items():
            if key.rpartition(".")[2] in ("include_role", "import_role") and value.get("name") == ROLE:
                yield value.get("tasks_from", "main")
            else:
                yield from _entry_points(value)


def variables_of(path: Path, specs: Mapping[str, Any]) -> list[Variable]:
    """What a playbook takes: what is required first, then by name."""
    text = path.read_text(encoding="utf-8")
    plays = yaml.safe_load(text)
    # What task files that it shares with others take or set belongs to it, too.
    text += "".join((path.parent / name).read_text(encoding="utf-8") for name in re.findall(r"tasks/\w+\.yml", text))
    found: dict[str, Variable] = {}
    for entry_point in [*entry_points_of(plays), *specs]:
        options = specs[entry_point]["options"]
        wanted = options if entry_point in entry_points_of(plays) else set(_USED.findall(text))
        for name, spec in options.items():
            if name in wanted and name not in found:
                found[name] = _described(name, spec, entry_point, entry_point in entry_points_of(plays))
    for name, (kind, description) in OWN.items():
        if name in text:
            hosts = re.search(rf"{name} \| default\('([^']+)'\)", text)
            found[name] = Variable(name, kind, None, False, description.format(hosts=f"V({hosts[1]})" if hosts else ""), "")  # fmt: skip
    registered = set(re.findall(r"(?:register: |^ +)(rolling_upgrade_\w+)(?=:|\n)", text, re.MULTILINE))
    unknown = set(_USED.findall(text)) - set(found) - registered
    if unknown:
        raise ValueError(f"{path.name} takes variables that nothing describes: {', '.join(sorted(unknown))}")
    return sorted(found.values(), key=lambda variable: (not variable.required, variable.name))


def _described(name: str, spec: Mapping[str, Any], entry_point: str, runs: bool) -> Variable:
    description = spec["description"]
    text = " ".join(description) if isinstance(description, list) else str(description)
    # What a playbook names itself is optional there, whatever an entry point that it doesn't run requires.
    return Variable(name, spec.get("type", "str"), spec.get("default"), bool(spec.get("required")) and runs, text, entry_point)  # fmt: skip


def page(path: Path, specs: Mapping[str, Any]) -> str:
    """The page, as reStructuredText."""
    name = f"kube_storage.upgrade.{path.stem}"
    plays = yaml.safe_load(path.read_text(encoding="utf-8"))
    title = f"{name} playbook"
    runs = entry_points_of(plays)
    lines = [
        f".. _playbook_{path.stem}:\n",
        title,
        "=" * len(title),
        "",
        f"{plays[0]['name']}.",
        "",
        ".. code-block:: console\n",
        f"    $ ansible-playbook {name} -i inventory.yml -e @variables.yml",
        "",
    ]
    if runs:
        links = ", ".join(f":ansplugin:`{entry} <{ROLE}#role:{entry}>`" for entry in runs)
        lines += [f"It runs these entry points of the role :ansplugin:`{ROLE}#role`: {links}.", ""]
    lines += [
        "Variables\n---------\n",
        ".. list-table::\n   :header-rows: 1\n   :widths: 36 64\n",
        "   * - Variable\n     - Meaning",
    ]
    for variable in variables_of(path, specs):
        lines += _row(variable)
    return "\n".join(lines) + "\n"


def _row(variable: Variable) -> list[str]:
    name = f":ansopt:`{ROLE}#role:{variable.entry_point}:{variable.name}`" if variable.entry_point else f"``{variable.name}``"  # fmt: skip
    facts = [variable.kind, *(["**required**"] if variable.required else [])]
    shown = "" if variable.default in (None, "", [], {}) or "{{" in str(variable.default) else variable.default
    if shown != "":
        facts.append(f"default ``{str(shown).lower() if isinstance(shown, bool) else shown}``")
    description = to_rst_plain(parse(variable.description, Context()))
    return [f"   * - {name}", "", f"       {', '.join(facts)}", f"     - {description}"]
