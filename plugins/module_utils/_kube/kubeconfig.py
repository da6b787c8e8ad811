# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads kubeconfigs, and takes one context out of them as kubectl does (k8s.io/client-go, tools/clientcmd)."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError

_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
COMPARE = "compare it with the output of: kubectl config view --minify"


@dataclass(frozen=True)
class KubeContext:
    """One context of a kubeconfig. ``where`` names the kubeconfig in a sentence. Paths in the entries are absolute."""

    where: str
    name: str
    cluster_name: str
    user_name: str
    cluster: Mapping[str, Any] = field(repr=False)
    user: Mapping[str, Any] = field(repr=False)

    def as_kubeconfig(self, without: Iterable[str] = ()) -> dict[str, Any]:
        """A kubeconfig of this context alone; ``without``: fields of the user to leave out."""
        user = {name: value for name, value in self.user.items() if name not in without}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "context",
            "contexts": [{"name": "context", "context": {"cluster": "cluster", "user": "user"}}],
            "clusters": [{"name": "cluster", "cluster": dict(self.cluster)}],
            "users": [{"name": "user", "user": user}],
        }

    @property
    def auth_provider(self) -> Mapping[str, Any] | None:
        """What kubectl had before credential plugins; None without one."""
        found: Mapping[str, Any] | None = self.user.get("auth-provider")
        return found

    @property
    def whose(self) -> str:
        """The user in a sentence."""
        return f"user '{self.user_name}' of {self.where}"


def read_context(
    kubeconfig: str | Mapping[str, Any], context: str | None = None, *, user_needed: bool = True
) -> KubeContext:
    """The context named ``context``, or the current one, of a kubeconfig given as its content or as one or more paths.

    ``user_needed``: False if the credentials come from elsewhere. Raises BadInputError with what is wrong, never with a secret.
    """
    if isinstance(kubeconfig, Mapping):
        where, merged = "the kubeconfig", _entries(kubeconfig, "the kubeconfig", "")
    else:
        where, merged = _read_all(kubeconfig)
    name = context or merged.current
    if not name:
        known = _listed(merged.contexts)
        raise BadInputError(f"{_capital(where)} has no current-context; choose one with the option context ({known}).")
    found = merged.contexts.get(name)
    if found is None:
        raise BadInputError(
            f"{_capital(where)} has no context named '{name}'{_instead(name, merged.contexts)}; set the option context."
        )
    cluster_name, user_name = str(found.get("cluster") or ""), str(found.get("user") or "")
    cluster = merged.clusters.get(cluster_name)
    if cluster is None:
        raise BadInputError(
            f"The context '{name}' of {where} names the cluster '{cluster_name}', which isn't in it"
            f"{_instead(cluster_name, merged.clusters)}; correct the context."
        )
    user = merged.users.get(user_name)
    if user is None and user_needed:
        missing = f"names the user '{user_name}', which isn't in it" if user_name else "names no user"
        raise BadInputError(
            f"The context '{name}' of {where} {missing}{_instead(user_name, merged.users)}; correct the context."
        )
    chosen = KubeContext(where, name, cluster_name, user_name, cluster, user or {})
    _require_usable(chosen)
    return chosen


@dataclass
class _Entries:
    """The entries of one or more kubeconfigs by name."""

    current: str = ""
    contexts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    clusters: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    users: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def _read_all(paths: str) -> tuple[str, _Entries]:
    """Several paths are merged as kubectl merges those of KUBECONFIG: the first that has an entry wins, missing files are left out."""
    if "\n" in paths or paths.lstrip().startswith("{"):
        raise BadInputError(
            "The option kubeconfig takes a path or a dictionary, not a kubeconfig's content as text; convert that with the filter from_yaml."
        )
    merged = _Entries()
    read: list[str] = []
    for path in filter(None, paths.split(os.pathsep)):
        path = os.path.abspath(os.path.expanduser(path))
        if os.path.exists(path):
            own = _entries(_load(path), f"the kubeconfig {path}", os.path.dirname(path))
            merged.current = merged.current or own.current
            for kept, more in (
                (merged.contexts, own.contexts),
                (merged.clusters, own.clusters),
                (merged.users, own.users),
            ):
                kept.update({name: entry for name, entry in more.items() if name not in kept})
            read.append(path)
    if not read:
        raise BadInputError(
            f"The kubeconfig {paths} does not exist on the host where the task runs; give the right path, or host and credentials."
        )
    return f"the kubeconfig {os.pathsep.join(read)}", merged


def _load(path: str) -> Mapping[str, Any]:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            document = yaml.safe_load(file)
    except (yaml.YAMLError, ValueError) as error:
        raise BadInputError(f"The kubeconfig {path} is not a valid kubeconfig; {COMPARE}.") from error
    except OSError as error:
        raise BadInputError(
            f"The kubeconfig {path} can't be read ({error.strerror}); run the task as a user who can, or give another file."
        ) from error
    if document is None:
        raise BadInputError(f"The kubeconfig {path} is empty; give another one, or host and credentials.")
    if not isinstance(document, Mapping):
        raise BadInputError(f"The kubeconfig {path} is not a valid kubeconfig; {COMPARE}.")
    return document


def _entries(document: Mapping[str, Any], where: str, folder: str) -> _Entries:
    current = document.get("current-context")
    return _Entries(
        current if isinstance(current, str) else "",
        _named(document, "contexts", "context", where, folder),
        _named(document, "clusters", "cluster", where, folder),
        _named(document, "users", "user", where, folder),
    )


def _named(
    document: Mapping[str, Any], plural: str, singular: str, where: str, folder: str
) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    entries = document.get(plural) or []
    for entry in entries if isinstance(entries, list) else [None]:
        value = (entry.get(singular) or {}) if isinstance(entry, Mapping) else None
        if not isinstance(entry, Mapping) or not isinstance(value, Mapping) or not entry.get("name"):
            raise BadInputError(f"{_capital(where)} is not a valid kubeconfig ({plural} is malformed); {COMPARE}.")
        found.setdefault(str(entry["name"]), _with_absolute_paths(value, folder))
    return found


def _with_absolute_paths(entry: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Paths in a kubeconfig are relative to its folder, and so is a command that isn't only a name."""
    absolute = {
        name: os.path.normpath(os.path.join(folder, value))
        if name in _PATHS and value and isinstance(value, str)
        else value
        for name, value in entry.items()
    }
    plugin = entry.get("exec")
    command = plugin.get("command") if isinstance(plugin, Mapping) else None
    if isinstance(plugin, Mapping) and isinstance(command, str) and os.sep in command:
        absolute["exec"] = {**plugin, "command": os.path.normpath(os.path.join(folder, command))}
    return absolute


def _require_usable(chosen: KubeContext) -> None:
    if not chosen.cluster.get("server"):
        raise BadInputError(
            f"The cluster '{chosen.cluster_name}' of {chosen.where} names no server; check its entry, or give the option host."
        )
    for entry in (chosen.cluster, chosen.user):
        for name in _PATHS:
            path = entry.get(name)
            instead = entry.get("token" if name == "tokenFile" else f"{name}-data")
            if path and not instead and not os.path.isfile(str(path)):
                raise BadInputError(
                    f"{_capital(chosen.where)} names a file that does not exist: {path} ({name}); correct it, or put the "
                    "content into the kubeconfig (kubectl config view --flatten)."
                )
    provider = chosen.auth_provider
    if provider is not None and not _is_provider(provider):
        raise BadInputError(
            f"{_capital(chosen.where)} is not a valid kubeconfig (the auth-provider of user '{chosen.user_name}' is malformed); {COMPARE}."
        )
    of_another = [name for name in ("as-uid", "as-groups", "as-user-extra") if chosen.user.get(name)]
    if of_another and not chosen.user.get("as"):
        raise BadInputError(f"The {chosen.whose} has {of_another[0]} without as; name the user to impersonate.")


def _is_provider(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    settings = value.get("config") or {}
    return isinstance(settings, Mapping) and not any(
        isinstance(setting, (Mapping, list)) for setting in settings.values()
    )


def _instead(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f" (it has {_listed(names)})"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:10]) or "none"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
