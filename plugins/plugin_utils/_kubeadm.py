# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the driver kubeadm refuses, how it configures kubeadm, and what it tells it. Pure, except for checking whether files exist."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import minor_of, number_of

_PREFIX = "rolling_upgrade_kubeadm_"
# The components that emulate a release, as ClusterConfiguration names them, and their flag for that.
_EMULATING = ("apiServer", "controllerManager", "scheduler")
_EMULATED_VERSION = "emulated-version"
# In these versions of ClusterConfiguration, extraArgs are a mapping; since then, a list of names and values.
_MAPPINGS = ("kubeadm.k8s.io/v1beta2", "kubeadm.k8s.io/v1beta3")
# kubeadm's checks that fail if CoreDNS would become older, and its phases that leave what they name as it is.
_COREDNS_CHECKS = ("CoreDNSMigration", "CoreDNSUnsupportedPlugins")
_ADDONS, _COREDNS, _KUBELET = "addon", "addon/coredns", "kubelet-config"
# What of a note counts also for an upgrade or rollback to another minor: only a kubelet that was to stay has not been touched.
_OF_ANY_RELEASE = ("version", "was_cordoned", "keeps_kubelet")
_SKIPS_PHASES = (1, 32)
_SIMPLE_VERSION = re.compile(r"v?1[.][0-9]+([.][0-9]+)?")
_FULL_VERSION = re.compile(r"v?[0-9]+[.][0-9]+[.][0-9]+")


def refusals(options: Mapping[str, Any]) -> list[str]:
    """Why the options can't work, one sentence each; they are named without ``rolling_upgrade_kubeadm_``."""
    return [
        *_version(str(options["version"])),
        *_too_old(str(options["version"]), bool(options.get("emulate") or options.get("rollback"))),
        *_packages(options),
        *_files(options),
        *_feature_gates(options.get("feature_gates")),
    ]


def unfinished(note: str, version: str, cordoned: bool, path: str = "") -> dict[str, Any]:
    """What an interrupted run noted on a master, as far as it is still true for an upgrade to ``version``; empty without a note.

    Raises ValueError if the note is damaged. ``cordoned``: whether the Node is now. One that was cordoned before that run stays cordoned in it, so if it no
    longer is, somebody uncordoned it since.
    """
    if not note.strip():
        return {}
    found = _noted(note, path)
    if minor_of(str(found.get("version") or "")) != minor_of(version):
        found = {name: value for name, value in found.items() if name in _OF_ANY_RELEASE}
    return {**found, "was_cordoned": cordoned and bool(found.get("was_cordoned", True))}


def _noted(note: str, path: str) -> dict[str, Any]:
    try:
        found = json.loads(note)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"The note that an interrupted run left on this master is damaged; delete {path or 'it'}, and uncordon the Node if that run drained it."
        )
    return found


def begun_on_kubelet(note: Mapping[str, Any]) -> bool:
    """Whether an interrupted run may have drained this master, or installed another kubelet. ``note``: as ``unfinished`` returns it."""
    return bool(note) and not note.get("keeps_kubelet", False)


def keeps_kubelet(
    note: Mapping[str, Any], version: str, *, emulate: str, rollback: bool, running: str, installed: str, server: str
) -> bool:
    """Whether the kubelet of a master stays as it is in an upgrade or rollback to ``version``.

    ``running``: the kubelet's version, as its Node reports it. ``installed``: what is there when it starts again, empty if that is unknown.
    ``server``: the version of this master's API server before the step.
    """
    if emulate:
        return True  # Whatever it is at, one of the new release would be newer than its API server.
    if begun_on_kubelet(note):
        return False
    there = _fits(running, version) and minor_of(installed or version) == minor_of(version)
    # A rollback before the second step finds it where it should be.
    return there and (rollback or _fits(server, version))


def flags_of_upgrade(
    verb: str, options: Mapping[str, Any], *, emulate: bool, rollback: bool, keep_kubelet: bool
) -> list[str]:
    """The flags of ``kubeadm upgrade apply`` or ``node``.

    ``options``: ``config``, the path of an UpgradeConfiguration on the master; ``documents``, what that file holds; ``patches`` and
    ``ignore_preflight_errors``. kubeadm takes ``--skip-phases`` instead of the file's ``skipPhases``, so the flag names these, too.
    """
    section = _section(options.get("documents") or (), verb)
    ignored = [str(check) for check in options.get("ignore_preflight_errors") or ()]
    if rollback and verb == "apply" and not _ignores_all([*ignored, *(section.get("ignorePreflightErrors") or ())]):
        ignored += _COREDNS_CHECKS
    skipped = [_ADDONS] if emulate else [_COREDNS] if rollback else []
    if keep_kubelet and (emulate or rollback):
        skipped.append(_KUBELET)
    if skipped:
        skipped += [phase for phase in section.get("skipPhases") or () if phase not in skipped]
    given = {
        "--config": options.get("config"),
        "--patches": options.get("patches"),
        "--ignore-preflight-errors": ",".join(ignored),
        "--skip-phases": ",".join(skipped),
    }
    return [word for flag, value in given.items() if value for word in (flag, str(value))]


def _section(documents: Iterable[Any], verb: str) -> Mapping[str, Any]:
    """What the UpgradeConfiguration says about ``kubeadm upgrade apply`` or ``node``."""
    for document in documents:
        if isinstance(document, Mapping) and document.get("kind") == "UpgradeConfiguration":
            return document.get(verb) or {}
    return {}


def _ignores_all(checks: Iterable[Any]) -> bool:
    """Whether all checks are ignored; kubeadm then refuses the names of single ones."""
    return any(str(check).lower() == "all" for check in checks)


def adapted(configuration: Mapping[str, Any], emulate: str, feature_gates: Mapping[str, bool]) -> dict[str, Any]:
    """kubeadm's ClusterConfiguration in which all components emulate a minor, or none if ``emulate`` is empty, with these feature gates.

    What needs no change stays as it is.
    """
    changed = dict(configuration)
    none: Any = {} if configuration.get("apiVersion") in _MAPPINGS else []
    for section in _EMULATING:
        part = changed.get(section) or {}
        given = part.get("extraArgs") or none
        arguments = _with_argument(given, _EMULATED_VERSION, emulate)
        if arguments != given:
            changed[section] = {**part, "extraArgs": arguments}
    if any((changed.get("featureGates") or {}).get(gate) is not value for gate, value in feature_gates.items()):
        changed["featureGates"] = {**(changed.get("featureGates") or {}), **feature_gates}
    return changed


def _with_argument(arguments: Any, name: str, value: str) -> Any:
    """``extraArgs`` with one argument, or without it if the value is empty."""
    if isinstance(arguments, Mapping):
        return {key: given for key, given in arguments.items() if key != name} | ({name: value} if value else {})
    now = [argument.get("value") for argument in arguments if argument.get("name") == name]
    if now == ([value] if value else []):
        return arguments
    others = [argument for argument in arguments if argument.get("name") != name]
    return [*others, {"name": name, "value": value}] if value else others


def _version(version: str) -> Iterator[str]:
    if not _SIMPLE_VERSION.fullmatch(version):
        yield f"rolling_upgrade_version is '{version}', but must be a release such as 1.37 or v1.37.2."


def _too_old(version: str, two_steps: bool) -> Iterator[str]:
    """Before 1.32, kubeadm upgrade apply has no --skip-phases, and kubeadm upgrade node no phase for addons."""
    if two_steps and _SIMPLE_VERSION.fullmatch(version) and number_of(version) < _SKIPS_PHASES:
        yield (
            "kubeadm can skip phases only since 1.32, so its driver supports neither rolling_upgrade_emulate nor rolling_upgrade_rollback "
            f"for {version}; use the driver tasks."
        )


def _packages(options: Mapping[str, Any]) -> Iterator[str]:
    packages = options.get("packages")
    if packages == "tasks":
        yield from _package_tasks(str(options.get("package_tasks_file") or ""))
    elif packages == "distribution":
        yield from _package_version(str(options["version"]), str(options.get("package_version") or ""))
    else:
        yield f"{_PREFIX}packages is '{packages}', but must be tasks or distribution."


def _package_tasks(path: str) -> Iterator[str]:
    if not (os.path.isabs(path) and os.path.isfile(path)):
        missing = f", and there is no file '{path}'" if path else ""
        yield (
            f"{_PREFIX}package_tasks_file must be the absolute path of your tasks that install packages on a master "
            f"(or set {_PREFIX}packages to distribution){missing}."
        )


def _package_version(version: str, package_version: str) -> Iterator[str]:
    if not package_version and not _FULL_VERSION.fullmatch(version):
        yield (
            "To pin the distribution's packages, give a full rolling_upgrade_version such as v1.37.2, or the packages' "
            f"{_PREFIX}package_version such as 1.37.2-1.1."
        )
    elif not _fits(package_version, version):
        yield f"{_PREFIX}package_version is '{package_version}', which is not a package of {version}."


def _fits(found: str, version: str) -> bool:
    """Whether ``v1.37.2``, or a package such as ``1.37.2-1.1`` or ``1.37.2-*``, is of a release."""
    return re.match(rf"v?{re.escape(version.removeprefix('v'))}([.+-]|$)", found) is not None


def _files(options: Mapping[str, Any]) -> Iterator[str]:
    config, patches = str(options.get("config_file") or ""), str(options.get("patches") or "")
    if config and not os.path.isfile(config):
        yield f"There is no file '{config}', which {_PREFIX}config_file names."
    if config and patches:
        yield (
            "kubeadm takes no patches directory beside a configuration file; name it in the file that "
            f"{_PREFIX}config_file names, and leave {_PREFIX}patches out."
        )
    if patches and not os.path.isabs(patches):
        yield f"{_PREFIX}patches must be an absolute path on the masters."


def _feature_gates(gates: Any) -> Iterator[str]:
    if not isinstance(gates, Mapping) or not all(isinstance(value, bool) for value in gates.values()):
        yield f"{_PREFIX}feature_gates must be a dictionary of kubeadm's feature gates, each true or false."
