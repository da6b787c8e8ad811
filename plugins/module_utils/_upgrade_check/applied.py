# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects that kubectl applied from manifests in a version that the target doesn't serve. Pure.

kubectl keeps the manifest in an annotation, from which nothing is read but its version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding, count
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource, group_version
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import Releases

_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
# kubectl writes the keys in order, so the version comes first.
_VERSION = re.compile(r'\{"apiVersion":"([A-Za-z0-9./-]{1,300})"')


def last_applied_as(metadata: Mapping[str, Any]) -> str | None:
    """The version of the manifest that kubectl applied last; None if there is none."""
    found = _VERSION.match(str((metadata.get("annotations") or {}).get(_ANNOTATION) or ""))
    return found[1] if found else None


def evaluate_applied(
    applied: Mapping[str, Mapping[str, int]],
    served: Mapping[str, ServedResource],
    releases: Releases,
    path: UpgradePath,
) -> Iterator[Finding]:
    """``applied``: by resource, how many objects were last applied as which version.

    A version that isn't served now says nothing: such a manifest could not have been applied since.
    """
    for name, versions in sorted(applied.items()):
        resource = served[name]
        for version, number in sorted(versions.items()):
            if version not in _group_versions(resource) or path.back:
                continue
            last = releases.no_longer_served(version, resource.kind, path.current, path.target)
            if last is not None:
                yield _finding(name, version, number, last)


def _group_versions(resource: ServedResource) -> set[str]:
    return {group_version(resource.group, version) for version in resource.versions}


def _finding(name: str, version: str, number: int, release: str) -> Finding:
    was = "was" if number == 1 else "were"
    return Finding(
        "last_applied",
        name,
        f"{count(number, 'object')} {was} last applied by kubectl from a manifest with apiVersion {version}, which {release} does not serve.",
        "The objects are not affected, but whoever applies such a manifest again after the upgrade gets an error.",
        "Change the apiVersion in these manifests to one that both releases serve, and apply them, which updates the annotation. If nobody applies "
        "them anymore, ignore this.",
        blocks=False,
    )
