# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flags of static pods that kubeadm would drop, since it rewrites their manifests from its own configuration. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import yaml
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.command_line import (
    extra_arguments,
    flag_name,
    parse_command,
)

# Where extraArgs of a static pod are in ClusterConfiguration.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "kube-apiserver": ("apiServer",),
    "kube-controller-manager": ("controllerManager",),
    "kube-scheduler": ("scheduler",),
    "etcd": ("etcd", "local"),
}
_OF_CLIENTS = "kubeconfig authentication-kubeconfig authorization-kubeconfig bind-address leader-elect"
# What kubeadm 1.31 to 1.37 sets by itself (cmd/kubeadm/app/phases/controlplane/manifests.go and etcd/local.go), and what the driver sets.
_OWN: Mapping[str, frozenset[str]] = {
    "kube-apiserver": frozenset(
        "advertise-address allow-privileged authorization-mode client-ca-file enable-admission-plugins enable-bootstrap-token-auth etcd-cafile "
        "etcd-certfile etcd-keyfile etcd-servers kubelet-client-certificate kubelet-client-key kubelet-preferred-address-types "
        "proxy-client-cert-file proxy-client-key-file requestheader-allowed-names requestheader-client-ca-file "
        "requestheader-extra-headers-prefix requestheader-group-headers requestheader-username-headers secure-port service-account-issuer "
        "service-account-key-file service-account-signing-key-file service-cluster-ip-range tls-cert-file tls-private-key-file "
        "emulated-version".split()
    ),
    "kube-controller-manager": frozenset(
        f"{_OF_CLIENTS} allocate-node-cidrs client-ca-file cluster-cidr cluster-name cluster-signing-cert-file cluster-signing-key-file "
        "controllers requestheader-client-ca-file root-ca-file service-account-private-key-file service-cluster-ip-range "
        "use-service-account-credentials emulated-version".split()
    ),
    "kube-scheduler": frozenset(f"{_OF_CLIENTS} emulated-version".split()),
    "etcd": frozenset(
        "advertise-client-urls cert-file client-cert-auth data-dir experimental-initial-corrupt-check "
        "experimental-watch-progress-notify-interval feature-gates initial-advertise-peer-urls initial-cluster initial-cluster-state key-file "
        "listen-client-urls listen-metrics-urls listen-peer-urls name peer-cert-file peer-client-cert-auth peer-key-file "
        "peer-trusted-ca-file snapshot-count trusted-ca-file watch-progress-notify-interval".split()
    ),
}


def lost_flags(manifest: str, component: str, configuration: Mapping[str, Any]) -> list[str]:
    """The names of flags in a static pod's manifest that neither kubeadm nor its ClusterConfiguration sets."""
    kept = _OWN[component] | _extra_arguments(configuration, SECTIONS[component])
    return sorted(name for name in _flags(manifest) if name not in kept)


def lost_flags_refusal(
    manifests: Iterable[tuple[str, str, str]], configuration: Mapping[str, Any], dropped: Collection[str]
) -> str:
    """Why kubeadm must not touch these masters; empty if it may.

    ``manifests``: master, component and text of each static pod. ``dropped``: flags that may go.
    """
    accepted = {flag_name(str(name).lstrip("-")) for name in dropped}
    found: dict[tuple[str, str], list[str]] = {}
    external = isinstance(configuration.get("etcd"), Mapping) and bool(configuration["etcd"].get("external"))
    for master, component, text in manifests:
        if component == "etcd" and external:
            continue  # Whatever runs there, kubeadm leaves it alone.
        for name in lost_flags(text, component, configuration):
            if name not in accepted:
                found.setdefault((component, name), []).append(master)
    if not found:
        return ""
    named = [f"--{name} of {component} on {', '.join(masters)}" for (component, name), masters in found.items()]
    return (
        f"kubeadm would drop flags, because its configuration of the cluster doesn't have them: {'; '.join(named)}. Add them to extraArgs in the "
        "ConfigMap kube-system/kubeadm-config, with extraVolumes for the files that they name, or list in rolling_upgrade_kubeadm_drop_flags "
        "those that may go."
    )


def _extra_arguments(configuration: Mapping[str, Any], path: Iterable[str]) -> set[str]:
    section: Any = configuration
    for name in path:
        section = section.get(name) if isinstance(section, Mapping) else None
    return {name for name, _value in extra_arguments(section) or ()}


def _flags(manifest: str) -> set[str]:
    """The names of flags of the pod's containers; none if it is not the manifest of a pod."""
    try:
        spec = (yaml.safe_load(manifest) or {}).get("spec") or {}
        containers = [container for container in spec.get("containers") or () if isinstance(container, Mapping)]
    except (yaml.YAMLError, AttributeError):
        return set()
    words = [str(word) for found in containers for key in ("command", "args") for word in found.get(key) or () if word]
    return {name for name, _value in parse_command("", "", words).flags}
