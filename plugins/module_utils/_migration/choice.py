# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which engine ``engine: auto`` takes, and what engines can't be asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import BadInputError

DIRECT = "direct"
IN_TREE = "storage_version_migration"
MIGRATOR = "kube_storage_version_migrator"
AUTO = "auto"


@dataclass(frozen=True)
class Offers:
    """What the cluster and the user's rights offer.

    ``in_tree`` is the newest version of storagemigration.k8s.io that is served, None if there is none.
    """

    may_direct: bool
    in_tree: str | None
    may_in_tree: bool
    migrator: bool
    may_migrator: bool


@dataclass(frozen=True)
class Choice:
    engine: str
    reason: str


def choose(asked: str, offers: Offers, only_direct: str | None) -> Choice:
    """The engine to use.

    ``auto`` takes direct wherever the user may list and patch what is to be migrated: it counts exactly,
    names what is refused, writes through all servers at once, and goes on where it stopped. A
    controller is better only for a user without those rights: the in-tree one where its API is v1 or
    v1beta1 (an alpha API is not taken unasked), else kube-storage-version-migrator.
    ``only_direct`` is what was asked for and only direct can do.
    """
    if asked != AUTO:
        _refuse_what_is_not_there(asked, offers, only_direct)
        return Choice(asked, "asked for")
    if only_direct is not None:
        return Choice(DIRECT, f"only it can do {only_direct}")
    if offers.may_direct:
        return Choice(DIRECT, "the user may list and patch all that is to be migrated")
    without = "the user may not list and patch all that is to be migrated, but may "
    if offers.in_tree in ("v1", "v1beta1") and offers.may_in_tree:
        return Choice(IN_TREE, f"{without}create storageversionmigrations of storagemigration.k8s.io/{offers.in_tree}")
    if offers.migrator and offers.may_migrator:
        return Choice(MIGRATOR, f"{without}create storageversionmigrations of migration.k8s.io")
    return Choice(DIRECT, "no controller can be used instead")


def _refuse_what_is_not_there(asked: str, offers: Offers, only_direct: str | None) -> None:
    if asked == DIRECT:
        return
    if only_direct is not None:
        raise BadInputError(f"engine: {asked} can't do {only_direct}; use engine: direct for that.")
    if asked == IN_TREE and offers.in_tree is None:
        raise BadInputError(
            "The cluster does not serve storagemigration.k8s.io, so engine: storage_version_migration can't be used. It is "
            "on by default since Kubernetes 1.37; before, kube-apiserver needs --runtime-config and "
            "--feature-gates=StorageVersionMigrator=true. Or use engine: direct."
        )
    if asked == MIGRATOR and not offers.migrator:
        raise BadInputError(
            "The cluster does not serve migration.k8s.io/v1alpha1, so engine: kube_storage_version_migrator can't be used. "
            "Install kube-storage-version-migrator with its CRDs, or use engine: direct."
        )


def only_direct(params: Mapping[str, Any]) -> str | None:
    """What these options ask for that no controller can do."""
    if params.get("prune_managed_fields"):
        return "prune_managed_fields"
    if params.get("max_rate"):
        return "max_rate"
    return None
