# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options by which every module finds a cluster and its API servers, as one typed value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import auth_of, normalize_url
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Expectation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.sampling import SamplingSettings


@dataclass(frozen=True)
class ClusterOptions:
    """Which cluster to talk to, and which API servers it should have.

    ``auth``: kubernetes.core's auth options that were given, by their names; its own code reads them (auth.py).
    ``urls``: the API servers that the user named; None if they are discovered.
    ``tls_server_name``: the name that each server's certificate must have; None for its address, or the kubeconfig's name.
    ``expectation``: how many servers there must be, at which release, and which exceptions the user allows.
    ``name``: what the user calls the cluster.
    ``show_server_messages``: whether to show what servers, webhooks and policies say about an object.
    ``sampling``: how to ask through one address that hides the servers; None if each is asked at its own.
    """

    auth: Mapping[str, Any] = field(default_factory=dict, repr=False)
    urls: tuple[str, ...] | None = None
    tls_server_name: str | None = None
    expectation: Expectation = Expectation()
    sampling: SamplingSettings | None = None
    show_server_messages: bool = False
    name: str | None = None

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> ClusterOptions:
        """From a module's parameters. Raises BadInputError."""
        sampling = _sampling_of(params)
        urls = _urls_of(params)
        expected = params.get("expected_servers")
        if expected is not None and expected < 1:
            raise BadInputError("expected_servers must be at least 1.")
        if urls is not None and expected is None:
            expected = len(urls)
        return cls(
            auth=auth_of(params),
            urls=urls,
            tls_server_name=params.get("tls_server_name"),
            expectation=Expectation(
                servers=expected,
                version=params.get("expected_version"),
                ignored=tuple(params.get("ignored_servers") or ()),
                accepts_unchecked=bool(params.get("accept_unchecked")),
            ),
            sampling=sampling,
            show_server_messages=bool(params.get("show_server_messages")),
            name=params.get("cluster_name"),
        )


def _urls_of(params: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The option servers; one that is named twice counts once."""
    if not params.get("servers"):
        return None
    return tuple(dict.fromkeys(normalize_url(url) for url in params["servers"]))


def _sampling_of(params: Mapping[str, Any]) -> SamplingSettings | None:
    """The option sampling; an empty one takes every default."""
    given = params.get("sampling")
    if given is None:
        return None
    if params.get("servers"):
        raise BadInputError(
            "servers and sampling are mutually exclusive: if you can name each server, you don't need samples."
        )
    for name in ("connections", "at_once"):
        if given[name] < 1:
            raise BadInputError(f"sampling: {name} must be at least 1.")
    return SamplingSettings(given["connections"], given["at_once"], given["require_identity"])
