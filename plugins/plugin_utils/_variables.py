# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with the values of the role's variables. Pure.

The role checks them itself, for all masters and before the first is touched, because Ansible's own check of argument_specs.yml prints the
whole specification for every host. So argument_specs.yml has no ``required`` and no ``choices``, and the type ``raw`` for all but texts and
lists, which Ansible converts from anything that is likely to be given.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, get_args

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import ETCD_SPEC, SAMPLING_SPEC
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Check
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import number_of

_RELEASE = re.compile(r"v?\d+\.\d+(\.\d+([-+].*)?)?")
_MINOR = re.compile(r"\d+\.\d+")
_URL = re.compile(r"https?://[^\s/]+")
_PREFIX = "rolling_upgrade_"

SEVERITIES = ("concern", "stale", "disagreement", "blocker", "failure", "not_reached", "never")
CHOICES: Mapping[str, Collection[str]] = {
    "select": ("all", "changed", "stale"),
    "engine": ("direct", "storage_version_migration", "kube_storage_version_migrator", "auto"),
    "managed_fields": ("keep", "rewrite", "prune"),
    "impact": ("low", "normal", "high"),
    "kubeadm_packages": ("tasks", "distribution"),
    "report_kind": ("upgrade", "check"),
    "stop_before": ("finalize", "migrate", "trim"),
    "fleet_purpose": ("audit", "check", "migrate"),
    "fleet_stop_on": SEVERITIES,
    "fleet_fail_on": SEVERITIES,
}
BOOLEANS = (
    "rollback",
    "accept_unchecked",
    "etcd_become",
    "kubeadm_drain",
    "openshift_allow_not_recommended",
    "openshift_allow_upgrade_with_warnings",
    "openshift_force",
    "encryption_drop_old",
    "encryption_keep_copy",
)
# As the filter bool and the modules both take them.
_TRUTHS = ("true", "yes", "on", "1", "false", "no", "off", "0")
# Lists that templates use, in which a text would be one of letters.
LISTS = ("ignore_blockers", "releases", "kubeadm_ignore_preflight_errors", "kubeadm_drop_flags")
DICTIONARIES = ("etcd", "sampling", "kubeadm_feature_gates", "kubeadm_drain_options")
# The keys of some of them, as the modules check them.
KEYS: Mapping[str, Mapping[str, Any]] = {
    "etcd": ETCD_SPEC["options"],
    "sampling": SAMPLING_SPEC["sampling"]["options"],
}
# The smallest value of numbers; a number in a text, as an extra variable or a template gives it, counts, too.
WHOLE_NUMBERS = {
    "workers": 1,
    "wait_timeout": 0,
    "stable_for": 0,
    "lease_duration": 1,
    "etcd_quota": 0,
    "etcd_snapshot_keep": 0,
    "expected_servers": 0,
    "fleet_max_failures": 0,
}
NUMBERS = {
    "max_rate": 0,
    "request_timeout": 0,
    "openshift_timeout": 0,
    "openshift_interval": 0,
    "openshift_grace": 0,
    "fleet_resume_within": 0,
}
# As storage_migrate wants it, which would say so when the masters are upgraded.
_MORE_THAN = ("request_timeout",)
_SECONDS = (
    "wait_timeout",
    "stable_for",
    "lease_duration",
    "request_timeout",
    "openshift_timeout",
    "openshift_interval",
    "openshift_grace",
    "fleet_resume_within",
)
# Tasks files that some drivers and the rotation of keys include, too.
_OTHER_TASKS_FILES = ("kubeadm_package_tasks_file", "encryption_write_tasks_file", "encryption_reload_tasks_file")
# Keywords by which a file is a playbook, not a list of tasks.
_OF_PLAYS = {"hosts", "import_playbook", "ansible.builtin.import_playbook"}
# The entry points that can't do without a release.
_NEED_A_RELEASE = ("main", "clusters", "upgrade_master", "converge")


def wrong_values(values: Mapping[str, Any], entry_point: str) -> list[str]:
    """Sentences about the values of variables, by their whole names; a variable that is not given is not in ``values``.

    Null is a value: the default doesn't replace it, and templates would read it as the text "None".
    """
    given = {name[len(_PREFIX) :]: value for name, value in values.items() if value is not None}
    nulls = sorted(name for name, value in values.items() if value is None)
    return [
        *(
            f"{name} is null (empty after its colon, or a template without a value); give it a value, or remove it."
            for name in nulls
        ),
        *_release(given.get("version", ""), entry_point if f"{_PREFIX}version" not in nulls else ""),
        *_emulated(given.get("emulate", ""), given.get("version", "")),
        *_finalized(given, entry_point),
        *_choices(given),
        *_booleans(given),
        *_lists(given),
        *_numbers(given),
        *_addresses(given),
        *_dictionaries(given),
        *_ignored(given.get("ignore_blockers")),
        *_stale_without_etcd(given),
        *_fleet(given, entry_point),
    ]


def _release(value: Any, entry_point: str) -> Iterator[str]:
    if value == "":
        if entry_point in _NEED_A_RELEASE:
            yield f'{_PREFIX}version is required: the release to upgrade to, such as "1.37".'
    elif isinstance(value, float) and len(str(value).partition(".")[2]) == 1:
        yield f'{_PREFIX}version is the number {value}; put it in quotes, because an unquoted {value}0 is the same number: "{value}0".'
    elif not _RELEASE.fullmatch(str(value)):
        yield f'{_PREFIX}version is \'{value}\', but must be a release such as "1.37" or "v1.37.2".'


def _emulated(value: Any, version: Any) -> Iterator[str]:
    """One that isn't older would be refused by the API server of the first master, or taken for one that emulates nothing."""
    if value == "":
        return
    if isinstance(value, float) or not _MINOR.fullmatch(str(value)):
        yield f"{_PREFIX}emulate is '{value}', but must be a minor release in quotes, such as \"1.36\"."
    elif _RELEASE.fullmatch(str(version)) and number_of(str(value)) >= number_of(str(version)):
        yield f"{_PREFIX}emulate is '{value}', but must be older than {_PREFIX}version, which is '{version}'."


def _finalized(given: Mapping[str, Any], entry_point: str) -> Iterator[str]:
    """Without a release to emulate, there would be nothing to stop before; several_releases knows which one."""
    if given.get("stop_before") == "finalize" and given.get("emulate", "") == "" and entry_point in _NEED_A_RELEASE:
        yield f"{_PREFIX}stop_before is 'finalize', which needs {_PREFIX}emulate: the release to emulate until then, such as \"1.36\"."


def _choices(given: Mapping[str, Any]) -> Iterator[str]:
    for name, allowed in CHOICES.items():
        value = str(given.get(name, ""))
        if value and value not in allowed:
            yield f"{_PREFIX}{name} is '{value}', but must be {_or(allowed)}{_meant(value, allowed)}"


def _booleans(given: Mapping[str, Any]) -> Iterator[str]:
    for name in BOOLEANS:
        value = given.get(name, False)
        if str(value).lower() not in _TRUTHS:
            yield f"{_PREFIX}{name} is '{value}', but must be true or false."


def _lists(given: Mapping[str, Any]) -> Iterator[str]:
    for name in LISTS:
        value = given.get(name)
        if value and isinstance(value, (str, Mapping)):
            yield f"{_PREFIX}{name} is '{value}', but must be a list, such as [{value}]."


def _numbers(given: Mapping[str, Any]) -> Iterator[str]:
    for name, least in {**WHOLE_NUMBERS, **NUMBERS}.items():
        if name not in given:
            continue
        value = given[name]
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        whole = name in WHOLE_NUMBERS
        enough = number > least if name in _MORE_THAN else number >= least
        if enough and not (whole and number % 1):
            continue
        limit = f"{'more than' if name in _MORE_THAN else 'at least'} {least}"
        kind = f"a {'whole ' if whole else ''}number{' of seconds,' if name in _SECONDS else ' of'} {limit}"
        yield f"{_PREFIX}{name} is '{value}', but must be {kind}."


def _addresses(given: Mapping[str, Any]) -> Iterator[str]:
    servers = given.get("servers") or []
    if isinstance(servers, (str, Mapping)):
        yield f"{_PREFIX}servers must be a list of URLs, such as [https://10.0.0.11:6443]."
        servers = []
    for name, value in [*(("servers", url) for url in servers), ("server", given.get("server") or "")]:
        if value and not _URL.match(str(value)):
            yield f"{_PREFIX}{name} has '{value}', which is not the URL of an API server, such as https://10.0.0.11:6443."


def _dictionaries(given: Mapping[str, Any]) -> Iterator[str]:
    """Keys and types, as the modules check them."""
    for name in DICTIONARIES:
        options, value = KEYS.get(name), given.get(name) or {}
        if not isinstance(value, Mapping):
            yield f"{_PREFIX}{name} must be a dictionary{' with the keys ' + ', '.join(options) if options else ''}."
        elif options and value:
            yield from _keys(name, value, options)
    etcd = given.get("etcd") or {}
    if isinstance(etcd, Mapping) and etcd and not etcd.get("endpoints"):
        yield f"{_PREFIX}etcd has no endpoints, such as [https://127.0.0.1:2379]."


def _keys(name: str, value: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    unknown = sorted(str(key) for key in value if key not in options)
    for key in unknown:
        yield f"{_PREFIX}{name} has the unknown key '{key}'{_meant(key, options, '; its keys are ' + ', '.join(options) + '.')}"
    if not unknown:
        messages = ArgumentSpecValidator(dict(options)).validate(dict(value)).error_messages
        yield from (f"{_PREFIX}{name}: {message}." for message in messages)


def _ignored(names: Any) -> Iterator[str]:
    known = get_args(Check)
    for name in names if isinstance(names, (list, tuple)) else ():
        check = str(name).partition("/")[0]
        if check not in known:
            yield f"{_PREFIX}ignore_blockers names '{name}', and there is no check '{check}'{_meant(check, known)}"


def _stale_without_etcd(given: Mapping[str, Any]) -> Iterator[str]:
    if given.get("select") == "stale" and not given.get("etcd"):
        yield f"{_PREFIX}select is 'stale', which is found by reading etcd; set {_PREFIX}etcd, or select 'changed'."


def _fleet(given: Mapping[str, Any], entry_point: str) -> Iterator[str]:
    if entry_point == "fleet" and given.get("fleet_purpose") == "check" and not given.get("version"):
        yield f"{_PREFIX}fleet_purpose is 'check', which needs {_PREFIX}version: the release to check for, such as \"1.37\"."
    waves = given.get("fleet_waves") or []
    if isinstance(waves, (str, Mapping)) or not isinstance(waves, (list, tuple)):
        yield f"{_PREFIX}fleet_waves must be a list of waves, such as [canary, 10%, 50%]."


def tasks_file_refusals(
    given: Mapping[str, Any],
    find: Callable[[str], str | None],
    read: Callable[[str], Any],
    parse: Callable[[Mapping[str, Any]], str],
    clusters: bool = False,
) -> list[str]:
    """Why the tasks files that are given can't be included, and that the driver ``tasks`` lacks its own.

    ``find`` returns a file's path; ``read`` raises if it isn't YAML; ``parse`` says what is wrong with one task, or nothing.
    ``clusters``: whether masters of several clusters run them at the same time.
    """
    name = f"{_PREFIX}tasks_file"
    wanted = [name] if str(given.get(f"{_PREFIX}driver", "tasks")) == "tasks" else []
    if wanted and not given.get(name):
        return [f"The driver tasks needs {name}, the tasks that upgrade one master."]
    problems = []
    for name in (*wanted, *(f"{_PREFIX}{other}" for other in _OTHER_TASKS_FILES)):
        value = str(given.get(name) or "")
        path = find(value) if value else None
        if path is None and value and "kubeadm" not in name:  # That driver's check says more about it.
            problems.append(
                f"{name} is '{value}', and there is no such file; give its absolute path, such as "
                f'"{{{{ playbook_dir }}}}/{os.path.basename(value)}".'
            )
        elif path is not None:
            problems.append(_contents_refusal(name, path, read, parse, clusters))
    return [problem for problem in problems if problem]


def _contents_refusal(
    name: str, path: str, read: Callable[[str], Any], parse: Callable[[Mapping[str, Any]], str], clusters: bool
) -> str:
    try:
        tasks = read(path)
    except Exception as error:
        sentence = str(error).strip().splitlines()[0].rstrip(".:")
        return f"{name} can't be read from {path}: {sentence}."
    if not isinstance(tasks, (list, tuple)) or not tasks:
        return f"{name} must hold a list of tasks, and {path} doesn't."
    if any(isinstance(task, Mapping) and _OF_PLAYS & set(task) for task in tasks):
        return f"{name} must hold a list of tasks, and {path} is a playbook; put the tasks of its plays into a file of their own."
    if clusters and _runs_once(tasks):
        return (
            f"{path} has tasks with run_once, which would run for one of the clusters only; remove it, since the file runs on one master of each "
            "cluster at a time."
        )
    problem = next(filter(None, map(parse, _tasks(tasks))), "")
    return f"{name} can't be used, because a task in {path} is wrong: {problem.rstrip('.')}." if problem else ""


def _tasks(nodes: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """The tasks of a file, with those in blocks. What names collections of its own is left to Ansible, which knows what they have."""
    for node in nodes:
        if not isinstance(node, Mapping) or "collections" in node:
            continue
        parts = [node[part] for part in ("block", "rescue", "always") if isinstance(node.get(part), (list, tuple))]
        if parts:
            yield from _tasks(task for part in parts for task in part)
        else:
            yield node


def _runs_once(node: Any) -> bool:
    """Whether any of these tasks, or of those in their blocks, has run_once."""
    if isinstance(node, Mapping):
        return bool(node.get("run_once")) or any(_runs_once(node.get(part)) for part in ("block", "rescue", "always"))
    return isinstance(node, (list, tuple)) and any(_runs_once(task) for task in node)


def _or(names: Collection[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"


def _meant(value: str, known: Collection[str], otherwise: str = ".") -> str:
    """The end of a sentence: the name that was probably meant, or ``otherwise``."""
    close = difflib.get_close_matches(value, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else otherwise
