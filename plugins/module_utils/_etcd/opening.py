# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Opens the etcd clusters that the option ``etcd`` names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.addresses import same_address
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.access import Access, tls_context
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import (
    DEFAULT_PREFIX,
    Etcd,
    EtcdClusters,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.grpc import GrpcClient
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import (
    stored_as,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.protocols import GatewayOrGrpc
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Client, TransportSettings
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.factory import open_client
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.http2 import UNIX, Http2Client
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.proxy import parse_proxy

_DEFAULT_ENDPOINT = "https://127.0.0.1:2379"
_KUBEADM_PKI = "/etc/kubernetes/pki/etcd"
# kubeadm makes this client certificate for etcd's liveness probe; it may read.
_KUBEADM_FILES = {
    "ca_cert": f"{_KUBEADM_PKI}/ca.crt",
    "client_cert": f"{_KUBEADM_PKI}/healthcheck-client.crt",
    "client_key": f"{_KUBEADM_PKI}/healthcheck-client.key",
}
_NO_FILES: Mapping[str, str | None] = dict.fromkeys(_KUBEADM_FILES)
_USER = ("username", "password")


def open_clusters(options: Mapping[str, Any] | None) -> EtcdClusters:
    """From the option ``etcd``, with its ``overrides``; raises like ``open_etcd``."""
    default = open_etcd(options)
    overrides = []
    names: set[str] = set()
    for number, override in enumerate((options or {}).get("overrides") or (), 1):
        resources = tuple(_overridden(name) for name in override.get("resources") or ())
        doubles = sorted(names & set(resources))
        if not resources or not override.get("endpoints") or doubles:
            what = f"{doubles[0]} is in two of them" if doubles else f"number {number} needs resources and endpoints"
            raise BadInputError(f"etcd.overrides: {what}; each names the resources that are kept in one other etcd.")
        names.update(resources)
        # Like the API servers, which have one client certificate and one prefix for all.
        inherited = {name: (options or {}).get(name) for name in (*_KUBEADM_FILES, *_USER, "prefix", "proxy")}
        own = {name: value for name, value in override.items() if value}
        for group in (tuple(_KUBEADM_FILES), _USER):
            if any(own.get(name) for name in group):
                inherited = {name: value for name, value in inherited.items() if name not in group}
        overrides.append((resources, open_etcd({**inherited, **own})))
    return EtcdClusters(default, overrides)


def _overridden(name: str) -> str:
    """A resource of an override as ``plural.group``; also accepts the form of kube-apiserver's flag (``group/plural``)."""
    group, slash, plural = name.partition("/")
    if slash:
        name = f"{plural}.{group}" if group or plural == "*" else plural
    return stored_as(name)


def open_etcd(options: Mapping[str, Any] | None) -> Etcd:
    """The etcd that the option ``etcd`` names, with kubeadm's paths on a master as defaults.

    Raises BadInputError, before anything is sent, for addresses and files that can't be used.
    """
    given = {name: value for name, value in (options or {}).items() if value}
    endpoints = list(dict.fromkeys(_endpoint(text) for text in given.get("endpoints") or [_DEFAULT_ENDPOINT]))
    prefix = "/" + str(given.get("prefix") or DEFAULT_PREFIX).strip("/")
    if bool(given.get("username")) != bool(given.get("password")):
        raise BadInputError("etcd.username and etcd.password go together; give both.")
    context = files = None
    if given.get("proxy") and any(endpoint.startswith(UNIX) for endpoint in endpoints):
        raise BadInputError("etcd.proxy can't be used with a Unix socket; give an address, or leave the proxy out.")
    if any(endpoint.startswith("https://") for endpoint in endpoints):
        files = {name: given.get(name) for name in _KUBEADM_FILES}
        if not any(files.values()):
            files = {name: path if os.path.exists(path) else None for name, path in _KUBEADM_FILES.items()}
            if not files["ca_cert"] and "endpoints" not in given:
                raise BadInputError(
                    f"No etcd was given, and {_KUBEADM_PKI} does not exist here; run the task on a master, "
                    "or give etcd.endpoints, ca_cert, client_cert and client_key."
                )
        context = tls_context(files)
    proxy = parse_proxy(given["proxy"], "etcd.proxy") if given.get("proxy") else None
    access = Access(
        given.get("username"), given.get("password"), (files or {}).get("client_cert"), files, proxy is not None
    )
    http: Client = open_client(TransportSettings(ssl_context=context, concurrency=8, proxy=proxy))
    if proxy is None:
        grpc = GrpcClient(Http2Client(lambda: tls_context(files or _NO_FILES)))
        http = GatewayOrGrpc(http, grpc, access.is_grpc_only)
    return Etcd(endpoints, http, prefix=prefix, access=access)


def _endpoint(text: str) -> str:
    if text.strip().startswith(f"{UNIX}/"):
        return text.strip()
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.path.strip("/"):
        shown = text if "@" not in text else "(hidden, as it holds credentials)"
        raise BadInputError(
            f"etcd.endpoints: '{shown}' is not an etcd endpoint; write it like https://10.0.0.11:2379 (or unix:///run/kine.sock)."
        )
    name = same_address(parts.hostname)
    host = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{host}:{port or 2379}"
