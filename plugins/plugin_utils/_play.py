# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the role can work in a play: its strategy, its tags, its hosts, and the names of its extra variables. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

# Those that take all hosts through one task before the next one. debug is linear with a debugger.
_LOCKSTEP = ("linear", "debug", "mitogen_linear")
_PREFIX = "rolling_upgrade_"
# Variables of the collection's playbooks, which are no options of the role.
_OF_PLAYBOOKS = ("rolling_upgrade_hosts", "rolling_upgrade_gather_facts")


@dataclass(frozen=True)
class Play:
    """What a host sees of its play: all hosts (in the inventory's order), those that have not failed, and the batch of ``serial``.

    ``most_failures`` is its max_fail_percentage, or None; ``order`` and ``serial`` are as the play has them.
    """

    strategy: str = "linear"
    hosts: Sequence[str] = ()
    alive: Sequence[str] = ()
    batch: Sequence[str] = ()
    most_failures: Any = None
    order: str | None = None
    serial: Sequence[Any] = ()


def fleet_refusal(play: Play) -> str:
    """Why the waves of a fleet can't follow one another in this play."""
    if set(play.alive) - set(play.batch):
        return (
            "This play has serial, and a fleet has waves instead; remove serial, and set rolling_upgrade_fleet_waves."
        )
    if keeps_order(play) or len(play.batch) <= 1:
        return ""
    return (
        f"This play has the strategy {play.strategy}, but the waves of a fleet run one after another only with the strategy linear; set "
        "'strategy: linear' in the play. The setting forks limits how many clusters are handled at the same time."
    )


def fleet_report_refusals(extra: Collection[str], values: Mapping[str, Any]) -> list[str]:
    """Why the migrations of a fleet would all have the same report: no variable of the role has precedence over an extra variable."""
    if "rolling_upgrade_report_path" not in extra or values.get("rolling_upgrade_fleet_purpose") != "migrate":
        return []
    return [
        "rolling_upgrade_report_path is an extra variable, so all clusters would have the same report; leave it out: the report of each "
        "migration is in the folder clusters/NAME of rolling_upgrade_fleet_path."
    ]


def strategy_refusal(play: Play) -> str:
    """Why the strategy can't keep the masters' order. With one host in a batch there is nothing to keep; any strategy will do."""
    if keeps_order(play) or len(play.batch) <= 1:
        return ""
    return (
        f"This play has the strategy {play.strategy}, but the role upgrades the masters in order only with the strategy linear; "
        "set 'strategy: linear' in the play."
    )


def clusters_refusal(play: Play, host: str, group: str, masters: Sequence[str], groups: Mapping[str, str]) -> str:
    """Why a host can't take part in a play with several clusters. ``groups``: the group of each master of its cluster, as its own variables say.

    With groups that agree, no two clusters share a master.
    """
    if not group:
        return (
            f"{host} has no rolling_upgrade_cluster_group; set it in the inventory to the group with the masters of its cluster, or use the "
            "role's main for a play with one cluster."
        )
    if host not in masters:
        return f"rolling_upgrade_cluster_group of {host} is '{group}', and {host} is not among the masters of that group in this play."
    others = [f"{name} ('{found}')" for name, found in groups.items() if found != group]
    if others:
        return (
            f"The masters of the group {group} don't all have rolling_upgrade_cluster_group '{group}' in the inventory: {', '.join(others)}; "
            "give each of them the group of its cluster."
        )
    if play.most_failures is not None:
        return "This play has max_fail_percentage, which would interrupt the upgrades of other clusters; remove it."
    mine = [name for name in masters if name in play.batch]
    if len(mine) < len(masters):
        return (
            f"This play doesn't have all masters of {group} in one batch; remove serial, since the clusters are upgraded side by side anyway, and "
            "one master at a time in each."
        )
    if keeps_order(play) or len(mine) <= 1:
        return ""
    return (
        f"This play has the strategy {play.strategy} and {len(mine)} masters of {group}, which have their turns one after another only with the "
        "strategy linear; set 'strategy: linear' in the play."
    )


def one_cluster_refusal(entry_point: str, group: str) -> str:
    """Why an entry point for one cluster can't run where the masters have the group of their cluster."""
    if not group or entry_point not in ("main", "rotate_encryption_key"):
        return ""
    return (
        f"rolling_upgrade_cluster_group is '{group}', but this entry point is for plays with one cluster; leave it empty, or, to upgrade several "
        "clusters, use the role's entry point clusters (the playbook kube_storage.upgrade.upgrade_clusters)."
    )


def keeps_order(play: Play) -> bool:
    """Whether all hosts go through one task before the next one."""
    return play.strategy.rsplit(".", 1)[-1] in _LOCKSTEP


def stranger_refusal(host: str, masters: Sequence[str]) -> str:
    """Why a host that runs the role by itself is none of the masters."""
    if host in masters:
        return ""
    return (
        f"{host} is not in rolling_upgrade_masters ({', '.join(masters)}), by which the role knows which master's turn it is; list all masters of the "
        "cluster there, or leave the variable out."
    )


def batches_refusal(play: Play, masters: Sequence[str], *, one_each: bool) -> str:
    """Why the batches of ``serial`` can't have their turns one after another: some masters would be done by the time a later one refuses.

    ``one_each``: whether a batch may have one master only. Whether this one has several that begin together is found out when they do.
    """
    sizes = _batch_sizes(len(play.hosts), play.serial)
    if len(sizes) <= 1:
        return ""
    hosts = _in_order(play.hosts, play.order)
    numbers = chain.from_iterable(repeat(number, size) for number, size in enumerate(sizes))
    batch_of = dict(zip(hosts or play.hosts, numbers))
    batches = [batch_of[name] for name in masters if name in batch_of]
    if hosts is None or batches != sorted(batches):
        ordered = play.order not in (None, "inventory")
        fix = "remove order from the play" if ordered else "list them in the order of the inventory"
        return (
            f"With serial, this play has its batches in another order than that of its masters ({', '.join(masters)}), in which the role "
            f"upgrades them; {fix}{'' if one_each else ', or remove serial'}."
        )
    if one_each and sizes[0] == 1 and len(set(batches)) < len(batches):
        return (
            "upgrade_master is for one master at a time, and a later batch of this play has several; set 'serial: 1' in the play, or use the "
            "role's main."
        )
    return ""


def _in_order(hosts: Sequence[str], order: str | None) -> list[str] | None:
    """The hosts as the play has them in its batches; None if that is left to chance."""
    if order == "shuffle":
        return None
    if order in ("sorted", "reverse_sorted"):
        return sorted(hosts, reverse=order == "reverse_sorted")
    return list(reversed(hosts)) if order == "reverse_inventory" else list(hosts)


def _batch_sizes(hosts: int, serial: Sequence[Any]) -> list[int]:
    """As Ansible makes batches: the last value counts for all that follow, and 0 means all that are left."""
    sizes: list[int] = []
    values = list(serial) or [0]
    while sum(sizes) < hosts:
        value = str(values[min(len(sizes), len(values) - 1)])
        size = int(int(value[:-1]) / 100 * hosts) or 1 if value.endswith("%") else int(value)
        left = hosts - sum(sizes)
        sizes.append(min(size, left) if size > 0 else left)
    return sizes


def shared_reports(hosts: Iterable[tuple[str, str]], identity: Callable[[str], str]) -> dict[str, str]:
    """For each group whose report another one has, too, a sentence. ``hosts``: the group and the report's path of each host of the play.

    ``identity`` is the same for all paths that name the same report.
    """
    groups_at: dict[str, dict[str, str]] = {}
    for group, path in hosts:
        if path:
            groups_at.setdefault(identity(path), {}).setdefault(group, path)
    return {
        group: f"rolling_upgrade_report_path is {path} for the clusters of {', '.join(groups)}; give each a report of its own, such as "
        '"./{{ rolling_upgrade_cluster_group }}.html".'
        for groups in groups_at.values()
        for group, path in groups.items()
        if len(groups) > 1
    }


def hosts_refusals(
    play: Play, masters: Sequence[str], inventory: Collection[str], *, all_in_play: bool = False
) -> list[str]:
    """Masters that aren't hosts, are named twice, or failed before the role; with ``all_in_play`` also those that the play leaves out."""
    problems = []
    if not masters:
        return ["rolling_upgrade_masters is empty; it must list the masters in order, or be left out."]
    twice = sorted({name for name in masters if list(masters).count(name) > 1})
    if twice:
        problems.append(f"rolling_upgrade_masters lists {', '.join(twice)} more than once.")
    # The implicit localhost is a host of a play that names it, but is in no inventory.
    strange = [name for name in masters if name not in inventory and name not in play.hosts]
    if strange:
        problems.append(f"rolling_upgrade_masters lists {', '.join(strange)}, which the inventory doesn't have.")
    left_out = [name for name in dict.fromkeys(masters) if name not in play.hosts and name not in strange]
    if left_out and all_in_play:
        problems.append(
            f"rolling_upgrade_masters lists {', '.join(left_out)}, which this play leaves out, so the upgrade could not be finished; run it on all "
            "masters, without --limit."
        )
    failed = [name for name in masters if name in play.hosts and name not in play.alive]
    if failed:
        are = "is" if len(failed) == 1 else "are"
        problems.append(
            f"{', '.join(failed)} {are} no longer in this play, because a task before failed there or the host can't be reached."
        )
    return problems


def no_hosts_refusal(patterns: Sequence[str], limit: str = "") -> str:
    """Why a play would do nothing, and what to do. ``limit``: that of the command line, if it is what leaves no host."""
    name = "name the hosts or their group with -e rolling_upgrade_hosts=NAME"
    if limit:
        return f"--limit {limit} leaves no host of '{','.join(patterns)}', so there is nothing to do; run without --limit, or {name}."
    return f"No host of the inventory matches '{','.join(patterns)}', so there is nothing to do; {name}, and the inventory with -i."


def same_hosts(addresses: Mapping[str, tuple[str, ...]], nodenames: Mapping[str, str] | None = None) -> list[str]:
    """Masters that are one host under several names.

    ``addresses``: of each master its ansible_host, then whatever else Ansible may tell hosts behind one address apart by; empty if not given.
    ``nodenames``: how hosts call themselves, as far as that is known. Behind a loopback address there may be different hosts, as with containers.
    """
    names: dict[tuple[str, ...], list[str]] = {}
    for name, address in addresses.items():
        host = address[0]
        if host and host != "localhost" and not host.startswith("127.") and host != "::1":
            names.setdefault(address, []).append(name)
    return [
        f"{', '.join(same)} have the same ansible_host, {address[0]}; leave only one of them in the play, or correct the address."
        for address, same in names.items()
        if len(same) > 1 and len({(nodenames or {}).get(name) for name in same} - {None, ""}) < len(same)
    ]


def tags_refusal(tags: Collection[str], only: Collection[str]) -> str:
    """Why ``--tags`` would leave out the tasks of a role that the play includes dynamically; empty if they run.

    ``tags``: those of the role's first task, without ``always``.
    """
    if _selects(tags, only):
        return ""
    names = ", ".join(sorted(only))
    return (
        f"With --tags {names} none of the role's tasks would run, because include_role doesn't pass its tags on. "
        f"Give it 'apply: {{tags: [{names}]}}' beside 'name', or use import_role."
    )


def _selects(tags: Collection[str], only: Collection[str]) -> bool:
    """Whether ``--tags`` has a task run that has these tags. The rules are those of ansible.playbook.taggable."""
    named = bool(set(tags) & set(only))
    every = "all" in only or ("tagged" in only and bool(tags)) or ("untagged" in only and not tags)
    return not only or named or (every and "never" not in tags)


def playbook_tags_refusal(only: Collection[str], skipped: Collection[str]) -> str:
    """Why ``--tags`` or ``--skip-tags`` would leave out all tasks of a playbook of the collection, which have no tags; empty if they run."""
    if _selects((), only) and not {"all", "untagged"} & set(skipped):
        return ""
    option, names = ("--skip-tags", skipped) if _selects((), only) else ("--tags", only)
    return f"With {option} {','.join(sorted(names))} nothing would run, because the tasks of this playbook have no tags; run without {option}."


def text_refusal(masters: Any) -> str:
    """Why ``rolling_upgrade_masters`` can't be used if it is not a list: its characters would be taken for hosts."""
    if isinstance(masters, (list, tuple)):
        return ""
    return f"rolling_upgrade_masters is '{masters}', but must be a list, such as [master-1, master-2, master-3]."


def mistyped_variables(given: Iterable[str], options: Collection[str], used: Collection[str]) -> list[str]:
    """Variables, from any source, that were probably meant as an option. ``used``: every name that the role itself uses."""
    problems = []
    for name in sorted(set(given) - {*options, *used, *_OF_PLAYBOOKS}):
        close = _closest(name, options) if name.startswith(_PREFIX) else ""
        if close:
            problems.append(f"{name} is not a variable of the role; did you mean {close}?")
    return problems


def _closest(name: str, options: Collection[str]) -> str:
    """By what follows the prefix, which would make any two of them similar."""
    known = sorted(option.removeprefix(_PREFIX) for option in options)
    close = difflib.get_close_matches(name.removeprefix(_PREFIX), known, n=1, cutoff=0.85)
    return f"{_PREFIX}{close[0]}" if close else ""


def unknown_extra_variables(given: Iterable[str], options: Collection[str]) -> list[str]:
    """Extra variables that look like options of the role, but are none: mistyped, or facts of the role that none may override."""
    problems = []
    known = {*options, *_OF_PLAYBOOKS}
    for name in sorted(given):
        if not name.startswith(_PREFIX) or name in known:
            continue
        close = _closest(name, known)
        hint = (
            f"did you mean {close}?"
            if close
            else "'ansible-doc -t role kube_storage.upgrade.rolling_upgrade' lists them."
        )
        problems.append(f"{name} is not a variable of the role; {hint}")
    return problems


def looks_of(masters: Sequence[str], hosts: Mapping[str, Any], batch: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """What upgrade_play found on each master of this batch. ``hosts``: the variables of all hosts."""
    return {name: hosts[name].get("rolling_upgrade_play") or {} for name in masters if name in batch}


def report_refusal(masters: Sequence[str], hosts: Mapping[str, Any], batch: Sequence[str]) -> list[str]:
    """Why the report of these masters' cluster can't have its path, as the first host of this batch found."""
    looks = looks_of(masters, hosts, batch)
    # The first host as it was then; it may have been refused since.
    name = next((look["first"] for look in looks.values() if look.get("first")), None)
    first = hosts[name].get("rolling_upgrade_play") or {} if name else {}
    group = hosts[next(iter(looks))].get("rolling_upgrade_cluster_group") if looks else ""
    found = (first.get("shared_reports") or {}).get(group or "")
    return [found] if found else []


def identities(masters: Sequence[str], hosts: Mapping[str, Any], batch: Collection[str]) -> dict[str, dict[str, Any]]:
    """How to recognize the API server of each master: its ``names``, the URL of its ``server``, and whether all names (``sure``) and all
    addresses (``located``) are known.

    What is known of masters that are not in this batch, the first master found.
    """
    looks = looks_of(masters, hosts, batch)
    first: Mapping[str, Any] = looks.get(masters[0], {}) if masters else {}
    found = {}
    for name in masters:
        look = looks.get(name) or first
        found[name] = {key: (look.get(key) or {}).get(name) for key in ("names", "server", "sure")}
        found[name]["located"] = name in looks and bool(look.get("located"))
    return found


def merged_problems(problems: Mapping[str, Sequence[str]]) -> list[str]:
    """The problems of all masters, once if all have the same, otherwise with the names of the masters."""
    found: dict[str, list[str]] = {}
    for master, sentences in problems.items():
        for sentence in sentences:
            found.setdefault(sentence, []).append(master)
    return [
        sentence if len(masters) == len(problems) else f"{', '.join(masters)}: {sentence}"
        for sentence, masters in found.items()
    ]
