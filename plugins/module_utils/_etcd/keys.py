# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which resource a key belongs to. Pure.

An API server stores a built-in resource under its plural alone (/registry/deployments/…), a few
under another prefix, and everything defined by a CRD, with the two servers built into it, under
group and plural (/registry/example.com/widgets/…). Sources: k8s.io/kubernetes,
pkg/kubeapiserver/default_storage_factory_builder.go (SpecialDefaultResourcePrefixes) and
test/integration/etcd/data.go, which names the path of every resource; releases 1.16 to 1.37.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import (
    ServedResource,
    resource_name,
)

# Kept by API servers for themselves: no resource, no storage version to migrate, rewritten by their owners.
INTERNAL_PREFIXES = frozenset({"masterleases", "peerserverleases", "ranges"})

_SPECIAL_PREFIXES = {
    "controllers": "replicationcontrollers",
    "services/endpoints": "endpoints",
    "services/specs": "services",
    "minions": "nodes",
    "ingress": "ingresses.networking.k8s.io",
    "podsecuritypolicy": "podsecuritypolicies.policy",
}

_PLAIN_PREFIXES = {
    "": (
        "configmaps events limitranges namespaces persistentvolumeclaims persistentvolumes pods podtemplates "
        "resourcequotas secrets serviceaccounts"
    ),
    "admissionregistration.k8s.io": (
        "mutatingadmissionpolicies mutatingadmissionpolicybindings mutatingwebhookconfigurations "
        "validatingadmissionpolicies validatingadmissionpolicybindings validatingwebhookconfigurations"
    ),
    "apps": "controllerrevisions daemonsets deployments replicasets statefulsets",
    "auditregistration.k8s.io": "auditsinks",
    "autoscaling": "horizontalpodautoscalers",
    "batch": "cronjobs jobs",
    "certificates.k8s.io": "certificatesigningrequests clustertrustbundles podcertificaterequests",
    "coordination.k8s.io": "leases leasecandidates",
    "discovery.k8s.io": "endpointslices",
    "flowcontrol.apiserver.k8s.io": "flowschemas prioritylevelconfigurations",
    "internal.apiserver.k8s.io": "storageversions",
    "lifecycle.k8s.io": "evictions evictionrequests",
    "networking.k8s.io": "clustercidrs ingressclasses ipaddresses networkpolicies servicecidrs",
    "node.k8s.io": "runtimeclasses",
    "policy": "poddisruptionbudgets",
    "rbac.authorization.k8s.io": "clusterrolebindings clusterroles rolebindings roles",
    "resource.k8s.io": (
        "deviceclasses devicetaintrules podschedulingcontexts resourceclaimparameters resourceclaims "
        "resourceclaimtemplates resourceclasses resourceclassparameters resourcepoolstatusrequests resourceslices"
    ),
    "scheduling.k8s.io": "compositepodgroups podgroups priorityclasses workloads",
    "storage.k8s.io": (
        "csidrivers csinodes csistoragecapacities storageclasses volumeattachments volumeattributesclasses"
    ),
    "storagemigration.k8s.io": "storageversionmigrations",
}

BUILT_IN: Mapping[str, str] = {
    **{
        plural: resource_name(plural, group) for group, plurals in _PLAIN_PREFIXES.items() for plural in plurals.split()
    },
    **_SPECIAL_PREFIXES,
}

_PREFIX_OF_BUILT_IN = {name: prefix for prefix, name in BUILT_IN.items()}

# Built into the API server, but with a JSON codec of their own (apiextensions-apiserver, kube-aggregator).
JSON_BUILT_IN = frozenset({"customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io"})


def split_key(relative: str) -> tuple[str, str]:
    """(storage prefix, the rest) of a key without /registry/.

    The prefix has two parts for groups (which have a dot, as CRDs' groups must) and for services.
    """
    first, _slash, rest = relative.partition("/")
    if "." in first or first == "services":
        second, _slash, rest = rest.partition("/")
        return f"{first}/{second}", rest
    return first, rest


def object_of(rest: str) -> tuple[str | None, str] | None:
    """(namespace or None, name) from what follows the storage prefix; None if it is neither."""
    parts = rest.split("/")
    if not all(parts) or len(parts) > 2:
        return None
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


def is_custom(name: str) -> bool:
    """Whether a resource is defined by a CRD (or by a server outside of the API server)."""
    return name not in _PREFIX_OF_BUILT_IN and name not in JSON_BUILT_IN


class KeyMap:
    """Names resources by storage prefix, with the discovery of the API servers where there is one."""

    def __init__(self, served: Mapping[str, ServedResource] | None = None) -> None:
        self._served = served
        self._by_prefix: dict[str, str | None] = {}

    def resource_at(self, prefix: str) -> str | None:
        """The resource stored under a prefix; None for what is no resource or can't be told for certain."""
        if prefix not in self._by_prefix:
            self._by_prefix[prefix] = self._find(prefix)
        return self._by_prefix[prefix]

    def _find(self, prefix: str) -> str | None:
        if prefix in INTERNAL_PREFIXES:
            return None
        if prefix in BUILT_IN:
            return BUILT_IN[prefix]
        if "/" in prefix:
            group, _slash, plural = prefix.partition("/")
            if "." not in group or not plural:
                return None
            name = resource_name(plural, group)
            return name if self._served is None or name in self._served else None
        # A resource newer than the table: only if exactly one that is served can be stored here.
        plurals = [one.name for one in (self._served or {}).values() if one.plural == prefix and one.group]
        return plurals[0] if len(plurals) == 1 else None

    def fits(self, name: str, rest: str) -> bool:
        """Whether the rest of a key is the namespace and name, or the name, of an object of this resource."""
        place = object_of(rest)
        if place is None:
            return False
        known = (self._served or {}).get(name)
        return known is None or known.namespaced == (place[0] is not None)


def prefixes_of(names: Iterable[str]) -> list[str]:
    """Where objects of the named resources may be stored, in the order of keys."""
    found = set()
    for name in names:
        plural, _dot, group = name.partition(".")
        if name in _PREFIX_OF_BUILT_IN:
            found.add(_PREFIX_OF_BUILT_IN[name])
        elif name == "events.events.k8s.io":
            found.add("events")
        elif group:
            found.add(f"{group}/{plural}")
            if name not in JSON_BUILT_IN:
                found.add(plural)
        else:
            found.add(plural)
    return sorted(found)
