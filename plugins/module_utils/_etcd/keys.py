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

from collections.abc import Callable, Iterable, Mapping

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    resource_name,
)

# API servers, and kine, keep these for themselves: no resource, no storage version to migrate, rewritten by their owners.
INTERNAL_PREFIXES = frozenset({"masterleases", "peerserverleases", "ranges", "health"})

# Stored as events, and counted under that name.
EVENTS_TWIN = "events.events.k8s.io"

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

# Below these are the prefixes of several resources, so none is stored under just this, even if its plural is the same (Knative's
# services.serving.knative.dev).
_SHARED = frozenset(prefix.partition("/")[0] for prefix in _SPECIAL_PREFIXES if "/" in prefix)

_PREFIX_OF_BUILT_IN = {name: prefix for prefix, name in BUILT_IN.items()}

# Built into the API server, but with their own JSON codec (apiextensions-apiserver, kube-aggregator).
JSON_BUILT_IN = frozenset({"customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io"})

LEASES = "leases.coordination.k8s.io"


def split_key(relative: str) -> tuple[str, str]:
    """(storage prefix, the rest) of a key without /registry/.

    The prefix has two parts for groups (which have a dot, as CRDs' groups must) and for services.
    """
    first, _slash, rest = relative.partition("/")
    if "." in first or first in _SHARED:
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
    """Whether a resource is defined by a CRD (or by a server outside the API server)."""
    return name not in _PREFIX_OF_BUILT_IN and name not in JSON_BUILT_IN


class KeyMap:
    """Names resources by storage prefix, using the discovery of the API servers if there is any.

    ``elsewhere``: resources that are kept in another etcd. Keys under their prefixes belong to no resource.
    """

    def __init__(
        self,
        served: Mapping[str, ServedResource] | None = None,
        *,
        elsewhere: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        self._served = served
        self._elsewhere = elsewhere
        self._by_prefix: dict[str, str | None] = {}

    def resource_at(self, prefix: str) -> str | None:
        """The resource stored under a prefix; None if it isn't a resource, or if that is uncertain."""
        if prefix not in self._by_prefix:
            name = self._find(prefix)
            self._by_prefix[prefix] = None if name is None or self._elsewhere(name) else name
        return self._by_prefix[prefix]

    def _find(self, prefix: str) -> str | None:
        if prefix in INTERNAL_PREFIXES or prefix in _SHARED:
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
        plurals = [
            resource.name for resource in (self._served or {}).values() if resource.plural == prefix and resource.group
        ]
        return plurals[0] if len(plurals) == 1 else None

    def fits(self, name: str, rest: str) -> bool:
        """Whether the rest of a key is the namespace and name, or the name, of an object of this resource."""
        place = object_of(rest)
        if place is None:
            return False
        known = (self._served or {}).get(name)
        return known is None or known.namespaced == (place[0] is not None)


def stored_as(resource: str) -> str:
    """The name of the storage that a resource is kept in: both groups of events share that of the core one."""
    return "events" if resource == EVENTS_TWIN else resource


def own_prefixes(name: str, keys: KeyMap) -> list[str]:
    """Where objects of one resource are stored, without prefixes that are another resource's."""
    found = prefixes_of([name])
    return [prefix for prefix in found if keys.resource_at(prefix) == stored_as(name)] or found


def prefixes_of(names: Iterable[str]) -> list[str]:
    """Where objects of the named resources may be stored, in the order of keys."""
    found = set()
    for name in names:
        plural, _dot, group = name.partition(".")
        if name in _PREFIX_OF_BUILT_IN:
            found.add(_PREFIX_OF_BUILT_IN[name])
        elif name == EVENTS_TWIN:
            found.add("events")
        elif group:
            found.add(f"{group}/{plural}")
            if name not in JSON_BUILT_IN and plural not in _SHARED:
                found.add(plural)
        else:
            found.add(plural)
    return sorted(found)
