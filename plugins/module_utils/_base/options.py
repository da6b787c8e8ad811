# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Argument specs that several modules share, and checks that a spec can't express. Pure."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError

STATE_STORE_SPEC: dict[str, Any] = {
    "type": "dict",
    "options": {
        "kind": {"type": "str", "choices": ["configmap", "file"], "default": "configmap"},
        "namespace": {"type": "str", "default": "kube-system"},
        "name": {"type": "str", "default": "kube-storage-upgrade"},
        "path": {"type": "path"},
    },
}

CLUSTER_SPEC: dict[str, Any] = {
    "servers": {"type": "list", "elements": "str"},
    "expected_servers": {"type": "int"},
    "ignored_servers": {"type": "list", "elements": "str"},
    "accept_unchecked": {"type": "bool", "default": False},
    "tls_server_name": {"type": "str"},
    "cluster_name": {"type": "str"},
    "state_store": STATE_STORE_SPEC,
    "progress": {"type": "bool"},
    "details": {"type": "bool"},
}

SAMPLING_SPEC: dict[str, Any] = {
    "sampling": {
        "type": "dict",
        "options": {
            "connections": {"type": "int", "default": 30},
            "at_once": {"type": "int", "default": 6},
            "require_identity": {"type": "bool", "default": True},
        },
    }
}

_ETCD_ACCESS: dict[str, Any] = {
    "ca_cert": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "proxy": {"type": "str"},
}

ETCD_SPEC: dict[str, Any] = {
    "type": "dict",
    "options": {
        "endpoints": {"type": "list", "elements": "str"},
        **_ETCD_ACCESS,
        "prefix": {"type": "str", "default": "/registry"},
        "overrides": {
            "type": "list",
            "elements": "dict",
            "options": {
                "resources": {"type": "list", "elements": "str", "required": True},
                "endpoints": {"type": "list", "elements": "str", "required": True},
                **_ETCD_ACCESS,
                "prefix": {"type": "str"},
            },
        },
    },
}

_RELEASE = re.compile(r"v?\d+\.\d+(\.\d+([-+].*)?)?")
_STATE_OF_RELEASE = re.compile(_RELEASE.pattern + r"( emulating v?\d+\.\d+| itself)?")


def require_positive(params: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuses zero and negative numbers, and anything that isn't a number."""
    for name in names:
        value = params.get(name)
        if value is not None and not 0 < value < math.inf:
            raise BadInputError(f"{name} must be a number greater than 0, not {value:g}.")


def require_not_negative(params: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuses negative numbers, and anything that isn't a number."""
    for name in names:
        value = params.get(name)
        if value is not None and not 0 <= value < math.inf:
            raise BadInputError(f"{name} must be 0 or a greater number, not {value:g}.")


def require_release(params: Mapping[str, Any], name: str) -> None:
    """Refuses anything but a release of Kubernetes such as ``1.37`` or ``v1.37.2``."""
    value = params.get(name)
    if value is not None and not _RELEASE.fullmatch(value):
        raise BadInputError(f"{name} must be a release such as 1.37 or v1.37.2, not '{value}'.")


def require_state_of_release(params: Mapping[str, Any], name: str) -> None:
    """Like require_release, but accepts ``1.37 emulating 1.36`` and ``1.36 itself``, too."""
    value = params.get(name)
    if value is not None and not _STATE_OF_RELEASE.fullmatch(value):
        raise BadInputError(
            f"{name} must be a release such as 1.37 or v1.37.2, or '1.37 emulating 1.36', or '1.36 itself', not '{value}'."
        )


def require_known(wanted: Iterable[str] | None, known: Iterable[str], option: str) -> None:
    """Refuses resources that no API server stores, and suggests similar names."""
    names = sorted(known)
    for name in wanted or ():
        if name in names:
            continue
        close = difflib.get_close_matches(name, names, n=3) or [
            known for known in names if known.split(".")[0] == name.split(".")[0].lower()
        ]
        hint = (
            f"; did you mean {' or '.join(close)}?"
            if close
            else "; write it as plural.group, such as deployments.apps."
        )
        raise BadInputError(f"{option}: no API server stores a resource named '{name}'{hint}")
