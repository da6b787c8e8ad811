# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the play and the role's variables, which only the controller has; what they mean is decided in plugin_utils."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible import context
from ansible.errors import AnsibleError
from ansible.parsing.mod_args import ModuleArgsParser
from ansible.playbook.role_include import IncludeRole
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import clean_line
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _play, _variables
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._handlers import may_have_handlers
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import report_identity

_SPEC: dict[str, Any] = {
    "entry_point": {"type": "str", "required": True},
    "masters": {"type": "list", "elements": "str", "required": True},
    "refuse": {"type": "bool", "default": True},
}
_OWN_NAME = re.compile(r"\brolling_upgrade_\w+")
# Entry points that take masters down one after another.
_ROLLS = ("main", "clusters", "upgrade_master", "rotate_encryption_key")
# With the one that includes main, which then checks its own variables.
_IN_ORDER = (*_ROLLS, "several_releases")
_GROUP, _REPORT = "rolling_upgrade_cluster_group", "rolling_upgrade_report_path"
# What hosts with the same address may differ in: behind NAT, a bastion that takes the host from the user's name, or a Proxmox host with containers.
_REACHED_BY = (
    "ansible_host",
    "ansible_port",
    "ansible_ssh_port",
    "ansible_user",
    "ansible_ssh_user",
    "ansible_ssh_common_args",
    "proxmox_vmid",
)
_HOP, _STOP_BEFORE = "rolling_upgrade_hop", "rolling_upgrade_stop_before"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core is not typed for this
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, given = self.validate_argument_spec(argument_spec=_SPEC)
        variables = task_vars or {}
        result.update(problems=[], later={}, names={}, server={}, sure={}, shared_reports={}, handlers=True)
        # Over the connection local, facts are those of the controller.
        here = "local" not in str(self._connection.transport)
        result["located"] = here and bool((variables.get("ansible_facts") or {}).get("all_ipv4_addresses"))
        unselected = self._unselected()
        if unselected and not self._included_dynamically():
            return result  # The tags leave the whole role out, as somebody wants.
        entry, masters = given["entry_point"], given["masters"]
        play = self._play(variables)
        result["handlers"] = self._may_have_handlers()
        result["first"] = next(iter(play.batch), None)
        if entry == "clusters":
            result["shared_reports"] = self._shared_reports(play, variables)
        at_once = unselected or self._refused_at_once(entry, play, masters, variables, result["shared_reports"])
        no_list = _play.text_refusal(self._task.args["masters"])
        if no_list and entry == "main" and variables.get("inventory_hostname") != result["first"]:
            return result  # The first one says it, and ends the others.
        at_once = at_once or no_list
        if at_once:
            result.update(failed=True, problems=[at_once], msg=f"{at_once} Nothing was touched.")
            return result
        specs = self._argument_specs()
        own_options = specs.get(entry, {}).get("options", {})
        values, problems = self._values(own_options, variables)
        if _HOP in variables and values.get(_STOP_BEFORE) == "finalize":  # several_releases knows what that means here.
            values.pop(_STOP_BEFORE, None)
        options = {name for spec in specs.values() for name in spec.get("options", {})}
        # Those of other entry points count, too: rolling_upgrade_emulate is in the release that each of them expects.
        values.update({name: None for name in options - set(own_options) if variables.get(name, "") is None})
        extra = load_extra_vars(self._loader)
        problems += [
            *(self._hosts_refusals(entry, play, masters, variables) if entry in _IN_ORDER else ()),
            *(self._same_hosts(masters, variables) if entry in _IN_ORDER else ()),
            *_play.unknown_extra_variables(extra, options),
            *_play.mistyped_variables(set(variables) - set(extra), options, self._names_in_role()),
            *self._of_variables(entry, values),
            *(_play.fleet_report_refusals(extra, values) if entry == "fleet" else ()),
        ]
        hosts = variables.get("hostvars") or {}
        later = {
            name: self._of_variables(entry, _overlaid(values, hosts[name], own_options))
            for name in masters
            if name not in play.batch and name in hosts
        }
        result.update(problems=problems, later=later)
        if entry in ("main", "clusters"):
            self._describe_masters(result, masters, play, variables, values)
        if problems and given["refuse"]:
            # Other masters may be done.
            alone = f"{variables.get('inventory_hostname')} was not touched."
            touched = alone if entry == "upgrade_master" else "No master was touched."
            result.update(failed=True, msg=" ".join([*problems, touched]))
        return result

    def _refused_at_once(
        self,
        entry: str,
        play: _play.Play,
        masters: Collection[str],
        variables: Mapping[str, Any],
        shared_reports: Mapping[str, str],
    ) -> str:
        """What can't wait for the first master, because this host is ahead of it or nothing else runs; empty if there is nothing."""
        group = str(self._templar.template(variables.get(_GROUP) or ""))
        if entry == "clusters":
            refusal = self._clusters_refusal(play, group, masters, variables)
            # In another order, the others don't wait for what this host finds.
            return refusal or ("" if _play.keeps_order(play) else shared_reports.get(group, ""))
        return (
            _play.one_cluster_refusal(entry, group)
            or (_play.strategy_refusal(play) if entry in _IN_ORDER else "")
            or (_play.fleet_refusal(play) if entry == "fleet" else "")
        )

    def _describe_masters(
        self,
        result: Mapping[str, Any],
        masters: Collection[str],
        play: _play.Play,
        variables: Mapping[str, Any],
        values: Mapping[str, Any],
    ) -> None:
        """Adds to the result how each master's own API server can be recognized. ``values``: this host's options."""
        hosts = variables.get("hostvars") or {}
        for name in masters:
            if name not in hosts:
                continue
            here = name == variables.get("inventory_hostname")
            own = variables if here else hosts[name]
            url = values.get("rolling_upgrade_server") if here else own.get("rolling_upgrade_server")
            result["names"][name] = self._names(name, own)
            result["server"][name] = str(url or "")
            # A later batch has not gathered facts, and may get its address from the play.
            result["sure"][name] = name in play.batch or bool(own.get("ansible_facts"))

    def _argument_specs(self) -> dict[str, Any]:
        """What the role's meta/argument_specs.yml says, by entry point."""
        role = self._task._role
        path = os.path.join(role._role_path, "meta", "argument_specs.yml") if role else ""
        if not os.path.isfile(path):
            return {}
        with open(path, encoding="utf-8") as file:
            found: dict[str, Any] = yaml.safe_load(file)["argument_specs"]
        return found

    def _names_in_role(self) -> set[str]:
        """Every variable that the role or a playbook of the collection sets or reads."""
        role = self._task._role
        if role is None:
            return set()
        folders = [Path(role._role_path), Path(role._role_path).parents[1] / "playbooks"]
        files = [path for folder in folders for path in folder.rglob("*.yml")]
        return {name for path in files for name in _OWN_NAME.findall(path.read_text(encoding="utf-8"))}

    def _values(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The options that are set, as this host sees them, and which of them can't be evaluated."""
        values, problems = {}, []
        for name in options:
            if name in variables:
                try:
                    values[name] = self._templar.template(variables[name])
                except Exception as error:
                    problems.append(f"{name} can't be evaluated: {clean_line(str(error).splitlines()[0]).rstrip('.')}.")
        return values, problems

    def _play(self, variables: Mapping[str, Any]) -> _play.Play:
        return _play.Play(
            strategy=str(self._task.get_play().strategy or "linear"),
            hosts=variables.get("ansible_play_hosts_all") or (),
            alive=variables.get("ansible_play_hosts") or (),
            batch=variables.get("ansible_play_batch") or (),
            most_failures=self._task.get_play().max_fail_percentage,
            order=self._task.get_play().order,
            serial=self._task.get_play().serial or (),
        )

    def _hosts_refusals(
        self, entry: str, play: _play.Play, masters: Collection[str], variables: Mapping[str, Any]
    ) -> list[str]:
        """The others that need all masters in the play say so themselves; upgrade_master upgrades those that its play has."""
        inventory = variables.get("hostvars") or {}
        problems = _play.hosts_refusals(play, list(masters), inventory, all_in_play=entry in ("main", "clusters"))
        if entry in ("main", "upgrade_master"):  # The others have no batches.
            problems.append(_play.batches_refusal(play, list(masters), one_each=entry == "upgrade_master"))
        if entry == "upgrade_master":
            problems.append(_play.stranger_refusal(str(variables.get("inventory_hostname")), list(masters)))
        return [problem for problem in problems if problem]

    def _clusters_refusal(
        self, play: _play.Play, group: str, masters: Collection[str], variables: Mapping[str, Any]
    ) -> str:
        hosts = variables.get("hostvars") or {}
        groups = {name: str(hosts[name].get(_GROUP) or "") for name in masters if name in hosts}
        return _play.clusters_refusal(play, str(variables.get("inventory_hostname")), group, list(masters), groups)

    def _shared_reports(self, play: _play.Play, variables: Mapping[str, Any]) -> dict[str, str]:
        """Found by the first host of the play for all: otherwise each host would look at all others."""
        if _play.keeps_order(play) and variables.get("inventory_hostname") != play.batch[0]:
            return {}
        hosts = variables.get("hostvars") or {}
        here, raw = str(variables.get("inventory_hostname")), variables.get(_REPORT) or ""
        groups = {name: str(hosts[name].get(_GROUP) or "") for name in play.hosts}
        if str(self._templar.template(raw) or "") == str(hosts[here].get(_REPORT) or ""):
            paths = ((groups[name], str(hosts[name].get(_REPORT) or "")) for name in play.hosts)
            return _play.shared_reports(paths, report_identity)
        # The play or the import says it, which hostvars doesn't have: once for each cluster, as each has one report.
        one_of = {group: name for name, group in groups.items()}
        own = getattr(hosts, "raw_get", hosts.get)  # hosts[name] would evaluate all variables, lookups included.
        return _play.shared_reports(
            ((group, self._as_of(name, raw, own(name), variables)) for group, name in one_of.items()), report_identity
        )

    def _as_of(self, name: str, raw: Any, own: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
        """A value of the play as it is for another host; empty if that can't be evaluated from here."""
        try:
            known = {**variables, **dict(own), "inventory_hostname": name}
            return str(self._templar.copy_with_new_env(available_variables=known).template(raw) or "")
        except Exception:  # a variable that has no value here
            return ""

    def _may_have_handlers(self) -> bool:
        role = self._task._role
        try:
            return may_have_handlers(self._task.get_play(), role.get_name() if role else "")
        except AttributeError:  # another release of ansible-core
            return True

    def _unselected(self) -> str:
        tags = {str(tag) for tag in self._task.tags} - {"always"}
        return _play.tags_refusal(tags, context.CLIARGS.get("tags") or ())

    def _included_dynamically(self) -> bool:
        """Whether include_role brought the role in, so that its tags decided only about the inclusion itself."""
        above = self._task._parent
        while above is not None:
            if isinstance(above, IncludeRole) and not above.statically_loaded:
                return True
            above = getattr(above, "_parent", None)
        return False

    def _of_variables(self, entry: str, values: Mapping[str, Any]) -> list[str]:
        problems = _variables.wrong_values(values, entry)
        if entry in _ROLLS:
            # The rotation of keys has no driver.
            given = values if entry != "rotate_encryption_key" else {**values, "rolling_upgrade_driver": ""}
            read = self._loader.load_from_file
            problems += _variables.tasks_file_refusals(
                given, self._find_tasks, read, self._parse, clusters=entry == "clusters"
            )
        return problems

    def _find_tasks(self, name: str) -> str | None:
        """Where include_tasks would find the file: as it does, in the role, beside the playbook and in the working folder."""
        role = self._task._role._role_path if self._task._role else self._loader.get_basedir()
        ways = (
            lambda: self._loader.path_dwim_relative(role, "tasks", name, is_role=True),
            lambda: self._loader.path_dwim_relative(
                os.path.join(role, "tasks", "drivers", "tasks"), "tasks", name, is_role=True
            ),
            lambda: self._loader.path_dwim(name),
        )
        for way in ways:
            path = str(way())
            if os.path.isfile(path):
                return path
        return None

    def _parse(self, task: Mapping[str, Any]) -> str:
        """What Ansible would say about a task when it is included, such as that there is no such module."""
        try:
            ModuleArgsParser(task_ds=dict(task), collection_list=self._task.collections).parse()
        except AnsibleError as error:
            return clean_line(str(error).splitlines()[0])
        return ""

    def _same_hosts(self, masters: Collection[str], variables: Mapping[str, Any]) -> list[str]:
        hosts = variables.get("hostvars") or {}
        addresses, nodenames = {}, {}
        for name in masters:
            own = hosts[name] if name in hosts else {}
            addresses[name] = tuple(self._text(own, key) for key in _REACHED_BY)
            nodenames[name] = str((own.get("ansible_facts") or {}).get("nodename") or "")
        return _play.same_hosts(addresses, nodenames)

    def _text(self, own: Mapping[str, Any], name: str) -> str:
        """A variable of a host; empty if it has none, or if that can't be evaluated."""
        try:
            return str(self._templar.template(own.get(name) or ""))
        except Exception:  # a variable that has no value here
            return ""

    def _names(self, name: str, own: Mapping[str, Any]) -> list[str]:
        """Every name and address of a host, as tasks/own_server.yml has them."""
        facts = own.get("ansible_facts") or {}
        found = [name, own.get("ansible_host"), *(facts.get(fact) for fact in ("hostname", "fqdn", "nodename"))]
        found += [*(facts.get("all_ipv4_addresses") or ()), *(facts.get("all_ipv6_addresses") or ())]
        return [str(self._templar.template(value)) for value in found if value]


def _overlaid(values: Mapping[str, Any], of_host: Mapping[str, Any], options: Collection[str]) -> dict[str, Any]:
    """The values with those of another host's own variables."""
    merged = dict(values)
    for name in options:
        if name in of_host:
            try:
                merged[name] = of_host[name]
            except Exception:  # It is evaluated in that master's own turn, before it is touched.
                merged.pop(name, None)
    return merged
