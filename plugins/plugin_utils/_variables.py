# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with the values of the role's variables. Pure.

The role checks them itself, for all masters and before the first is touched, because Ansible's own check of argument_specs.yml prints the
whole specification for every host. So argument_specs.yml has no ``required`` and no ``choices``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, get_args

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import ETCD_SPEC, SAMPLING_SPEC
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Check

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
    "stop_before": ("migrate", "trim"),
    "fleet_purpose": ("audit", "check", "migrate"),
    "fleet_stop_on": SEVERITIES,
    "fleet_fail_on": SEVERITIES,
}
# The smallest value of numbers; a number in a text, as an extra variable or a template gives it, counts, too.
_AT_LEAST = {
    "workers": 1,
    "max_rate": 0,
    "wait_timeout": 0,
    "stable_for": 0,
    "lease_duration": 1,
    "request_timeout": 0,
    "etcd_quota": 0,
    "expected_servers": 0,
    "fleet_max_failures": 0,
    "fleet_resume_within": 0,
}
# The entry points that can't do without a release.
_NEED_A_RELEASE = ("main", "clusters", "upgrade_master", "converge")


def wrong_values(values: Mapping[str, Any], entry_point: str) -> list[str]:
    """Sentences about the values of variables, by their whole names; a variable that is not given is not in ``values``."""
    given = {name[len(_PREFIX) :]: value for name, value in values.items() if value is not None}
    return [
        *_release(given.get("version", ""), entry_point),
        *_emulated(given.get("emulate", "")),
        *_choices(given),
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


def _emulated(value: Any) -> Iterator[str]:
    if value != "" and (isinstance(value, float) or not _MINOR.fullmatch(str(value))):
        yield f"{_PREFIX}emulate is '{value}', but must be a minor release in quotes, such as \"1.36\"."


def _choices(given: Mapping[str, Any]) -> Iterator[str]:
    for name, allowed in CHOICES.items():
        value = str(given.get(name, ""))
        if value and value not in allowed:
            yield f"{_PREFIX}{name} is '{value}', but must be {_or(allowed)}{_meant(value, allowed)}."


def _numbers(given: Mapping[str, Any]) -> Iterator[str]:
    for name, least in _AT_LEAST.items():
        value = given.get(name, "")
        if value == "":
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not number >= least:
            yield f"{_PREFIX}{name} is '{value}', but must be a number of at least {least}."


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
    for name, options in (("etcd", ETCD_SPEC["options"]), ("sampling", SAMPLING_SPEC["sampling"]["options"])):
        value = given.get(name) or {}
        if not isinstance(value, Mapping):
            yield f"{_PREFIX}{name} must be a dictionary with the keys {', '.join(options)}."
            continue
        unknown = sorted(str(key) for key in value if key not in options)
        for key in unknown:
            yield f"{_PREFIX}{name} has the unknown key '{key}'{_meant(key, options) or '; its keys are ' + ', '.join(options)}."
        if not unknown and value:
            messages = ArgumentSpecValidator(dict(options)).validate(dict(value)).error_messages
            yield from (f"{_PREFIX}{name}: {message}." for message in messages)
    etcd = given.get("etcd") or {}
    if isinstance(etcd, Mapping) and etcd and not etcd.get("endpoints"):
        yield f"{_PREFIX}etcd has no endpoints, such as [https://127.0.0.1:2379]."


def _ignored(names: Any) -> Iterator[str]:
    known = get_args(Check)
    for name in names if isinstance(names, (list, tuple)) else ():
        check = str(name).partition("/")[0]
        if check not in known:
            yield f"{_PREFIX}ignore_blockers names '{name}', and there is no check '{check}'{_meant(check, known)}."


def _stale_without_etcd(given: Mapping[str, Any]) -> Iterator[str]:
    if given.get("select") == "stale" and not given.get("etcd"):
        yield f"{_PREFIX}select is 'stale', which is found by reading etcd; set {_PREFIX}etcd, or select 'changed'."


def _fleet(given: Mapping[str, Any], entry_point: str) -> Iterator[str]:
    if entry_point == "fleet" and given.get("fleet_purpose") == "check" and not given.get("version"):
        yield f"{_PREFIX}fleet_purpose is 'check', which needs {_PREFIX}version: the release to check for, such as \"1.37\"."
    waves = given.get("fleet_waves") or []
    if isinstance(waves, (str, Mapping)) or not isinstance(waves, (list, tuple)):
        yield f"{_PREFIX}fleet_waves must be a list of waves, such as [canary, 10%, 50%]."


def tasks_file_refusal(
    given: Mapping[str, Any], find: Callable[[str], str | None], read: Callable[[str], Any], clusters: bool = False
) -> str:
    """Why the tasks file of the driver ``tasks`` can't be included. ``find`` returns its path; ``read`` raises if it isn't YAML.

    ``clusters``: whether masters of several clusters run it at the same time.
    """
    name = f"{_PREFIX}tasks_file"
    if str(given.get(f"{_PREFIX}driver", "tasks")) != "tasks":
        return ""
    value = str(given.get(name) or "")
    if not value:
        return f"The driver tasks needs {name}, the tasks that upgrade one master."
    path = find(value)
    if path is None:
        return f"{name} is '{value}', and there is no such file; give its absolute path, such as \"{{{{ playbook_dir }}}}/one_master.yml\"."
    try:
        tasks = read(path)
    except Exception as error:
        sentence = str(error).strip().splitlines()[0].rstrip(".:")
        return f"{name} can't be read from {path}: {sentence}."
    if not isinstance(tasks, (list, tuple)) or not tasks:
        return f"{name} must hold a list of tasks, and {path} doesn't."
    if clusters and _runs_once(tasks):
        return (
            f"{path} has tasks with run_once, which would run for one of the clusters only; remove it, since the file runs on one master of each "
            "cluster at a time."
        )
    return ""


def _runs_once(node: Any) -> bool:
    """Whether any of these tasks, or of those in their blocks, has run_once."""
    if isinstance(node, Mapping):
        return bool(node.get("run_once")) or any(_runs_once(node.get(part)) for part in ("block", "rescue", "always"))
    return isinstance(node, (list, tuple)) and any(_runs_once(task) for task in node)


def _or(names: Collection[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"


def _meant(value: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(value, sorted(known), n=1)
    return f"; {close[0]} may be meant" if close else ""
