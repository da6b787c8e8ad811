# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 15: the table of facts in the role's README names each, who sets it and who reads it; options are alike in all entry points.

Variables of other masters are read one by one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, nodes

ROLE = Path(__file__).resolve().parents[2] / "roles" / "rolling_upgrade"
NAME = re.compile(r"\brolling_upgrade_\w+")
DRIVERS = sorted(folder.name for folder in (ROLE / "tasks" / "drivers").iterdir())
# Facts of one driver, or of the rotation of keys or a fleet, which have their own.
OF_PARTS = (
    *(f"rolling_upgrade_{driver}_" for driver in DRIVERS),
    "rolling_upgrade_encryption_",
    "rolling_upgrade_fleet",
)


def set_in(node: Any) -> Iterator[str]:
    """The facts that tasks set, and the results that they register."""
    if isinstance(node, list):
        for item in node:
            yield from set_in(item)
    elif isinstance(node, dict):
        yield from (node.get("ansible.builtin.set_fact") or {}).keys()
        if "register" in node:
            yield str(node["register"])
        for part in node.values():
            yield from set_in(part)


def computed() -> dict[str, tuple[str, str]]:
    """By fact that more than one file of tasks uses: who sets it and who else reads it. forget.yml, which resets them, doesn't count."""
    setters: dict[str, set[str]] = defaultdict(set)
    readers: dict[str, set[str]] = defaultdict(set)
    for path in [*sorted((ROLE / "tasks").rglob("*.yml")), ROLE / "vars" / "main.yml"]:
        name = "vars" if path.parent.name == "vars" else str(path.relative_to(ROLE / "tasks").with_suffix(""))
        if name == "forget" or name.startswith("rotate_encryption_key"):
            continue
        text = path.read_text(encoding="utf-8")
        for fact in set_in(yaml.safe_load(text)) if name != "vars" else ():
            setters[fact].add(name)
        for fact in set(NAME.findall(text)):
            readers[fact].add(name)
    return {
        fact: (", ".join(sorted(setters[fact])), ", ".join(sorted(readers[fact] - setters[fact])))
        for fact in sorted(setters)
        if readers[fact] - setters[fact] and not fact.startswith(OF_PARTS)
    }


def test_the_table_of_facts_is_complete() -> None:
    text = (ROLE / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `(rolling_upgrade_\w+)` \| ([^|]+) \| ([^|]*) \| ([^|]*) \|$", text)
    assert {fact: (setters, readers) for fact, _meaning, setters, readers in rows} == computed()
    assert all(len(meaning) > 10 for _fact, meaning, _setters, _readers in rows)


def variables_in(node: Any) -> Iterator[str]:
    """The variables of tasks and blocks. Those of an include outrank facts."""
    if isinstance(node, list):
        for item in node:
            yield from variables_in(item)
    elif isinstance(node, dict):
        if not any(name.startswith("ansible.builtin.include_") for name in node):
            yield from node.get("vars") or {}
        for name, part in node.items():
            if name != "vars":
                yield from variables_in(part)


def test_no_variable_of_a_task_has_the_name_of_a_fact() -> None:
    """A fact outranks it, so the task would get the fact: no kubelet was the one that it should be."""
    tasks = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((ROLE / "tasks").rglob("*.yml"))]
    assert sorted(set(set_in(tasks)) & set(variables_in(tasks))) == []


def test_an_option_is_the_same_in_all_entry_points() -> None:
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    first: dict[str, dict[str, Any]] = {}
    for spec in specs.values():
        for name, option in spec["options"].items():
            known = first.setdefault(name, option)
            for key in ("type", "elements", "default"):
                assert known.get(key) == option.get(key), (name, key)


def test_what_is_the_same_in_several_entry_points_is_written_once() -> None:
    """The others have an alias of it (``*servers``)."""
    text = (ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    document = yaml.compose(text)
    assert document is not None
    (top,) = (value for _key, value in document.value)
    first: dict[tuple[str, str], Any] = {}
    for _entry, spec in top.value:
        (options,) = (value for key, value in spec.value if key.value == "options")
        for name, option in options.value:
            assert first.setdefault((name.value, yaml.serialize(option)), option) is option, name.value


def test_every_option_with_a_default_in_the_specification_has_that_one() -> None:
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    for spec in specs.values():
        for name, option in spec["options"].items():
            if "default" in option and "{{" not in str(defaults.get(name)):
                assert defaults.get(name) == option["default"], name


def keys_in(node: Any) -> Iterator[str]:
    """Every key of a mapping, such as the variables of a task."""
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from keys_in(part)
    if isinstance(node, dict):
        yield from map(str, node)


@pytest.mark.parametrize("driver", DRIVERS)
def test_each_option_of_a_driver_is_in_the_specification(driver: str) -> None:
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    documents = [(ROLE / "vars" / "main.yml").read_text(encoding="utf-8")]
    documents += [path.read_text(encoding="utf-8") for path in (ROLE / "tasks" / "drivers" / driver).rglob("*.yml")]
    own = {name for text in documents for name in NAME.findall(text) if name.startswith(f"rolling_upgrade_{driver}_")}
    computed_here = {name for text in documents for part in (set_in, keys_in) for name in part(yaml.safe_load(text))}
    options = own - computed_here
    assert options <= specs["main"]["options"].keys()
    if (ROLE / "tasks" / "drivers" / driver / "main.yml").exists():
        assert options <= specs["upgrade_master"]["options"].keys()


def expressions(node: Any, of: str = "") -> Iterator[str]:
    """Every template of a file of tasks, conditions with braces around them."""
    if isinstance(node, list):
        for item in node:
            yield from expressions(item, of)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from expressions(value, str(key))
    elif isinstance(node, str):
        yield node if "{{" in node else f"{{{{ {node} }}}}" if of in ("when", "that", "until", "failed_when") else ""


def whole_hosts(template: str) -> Iterator[str]:
    """Where a template has all variables of a host at once, instead of one of them."""
    if "hostvars" not in template:
        return
    tree = Environment(autoescape=True).parse(template)
    followed = tree.find_all((nodes.Filter, nodes.Getattr, nodes.Getitem))
    inputs = {id(getattr(above, "node", None)): above for above in followed}
    for entry in tree.find_all(nodes.Getitem):
        if isinstance(entry.node, nodes.Name) and entry.node.name == "hostvars":
            if not isinstance(inputs.get(id(entry)), (nodes.Getattr, nodes.Getitem)):
                yield "hostvars[…]"
    for extracted in tree.find_all(nodes.Filter):
        words = [argument.value for argument in extracted.args if isinstance(argument, nodes.Const)]
        if extracted.name == "map" and words == ["extract"] and len(extracted.args) == 2:
            above = inputs.get(id(extracted))
            while isinstance(above, nodes.Filter) and above.name in ("selectattr", "rejectattr"):
                above = inputs.get(id(above))
            names = [option.key for option in above.kwargs] if isinstance(above, nodes.Filter) else []
            if not (isinstance(above, nodes.Filter) and above.name == "map" and "attribute" in names):
                yield "map('extract', hostvars)"


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ hostvars[masters | first] }}", 1),
        ("{{ (hostvars[a] if b else hostvars[c]).done }}", 2),
        ("{{ hostvars[a] | default({}) }}", 1),
        ("{{ hostvars[a if b else c].done | default('') == token }}", 0),
        ("{{ hostvars[a]['done'] }}", 0),
        ("{{ masters | map('extract', hostvars) | list }}", 1),
        ("{{ masters | map('extract', hostvars, 'done') | list }}", 0),
        ("{{ masters | map('extract', hostvars) | selectattr('done', 'defined') | map(attribute='name') | list }}", 0),
        ("{{ masters | map('extract', hostvars) | selectattr('done', 'defined') | list }}", 1),
        ("{{ masters | zip(masters | map('extract', hostvars) | map(attribute='done', default='')) }}", 0),
        ("{{ masters | mine.own.filter(hostvars, batch) }}", 0),
    ],
)
def test_whole_hosts_are_found(template: str, found: int) -> None:
    assert len(list(whole_hosts(template))) == found


def test_no_variable_holds_all_variables_of_a_host() -> None:
    """Until 2.18, ansible-core evaluates all of them then, lookups included, and a YAML date among them makes one text of them."""
    folders = [ROLE / "tasks", ROLE / "vars", ROLE / "defaults", ROLE.parents[1] / "playbooks"]
    found = []
    for path in (path for folder in folders for path in sorted(folder.rglob("*.yml"))):
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        found += [(path.name, text) for template in expressions(documents) for text in whole_hosts(template)]
    assert found == []


def tasks_of(node: Any) -> Iterator[dict[str, Any]]:
    """All tasks of a file, those in blocks and plays, too."""
    if isinstance(node, list):
        for item in node:
            yield from tasks_of(item)
    elif isinstance(node, dict):
        yield node
        for part in ("tasks", "block", "rescue", "always"):
            yield from tasks_of(node.get(part))


def test_etcd_is_read_as_root_where_the_user_says_so() -> None:
    """Where only root may read its client certificate."""
    readers = 0
    for path in [*(ROLE / "tasks").rglob("*.yml"), *(ROLE.parents[1] / "playbooks").glob("*.yml")]:
        for task in tasks_of(yaml.safe_load(path.read_text(encoding="utf-8"))):
            options = [value for value in task.values() if isinstance(value, dict) and "etcd" in value]
            if any("rolling_upgrade_etcd" in str(option["etcd"]) for option in options):
                readers += 1
                assert "rolling_upgrade_etcd_become" in str(task.get("become")), (path.name, task["name"])
    assert readers > 10
