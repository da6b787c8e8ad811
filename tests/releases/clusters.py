# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a release's servers have to be told so that everything that the tests use is switched on."""

from __future__ import annotations

from tests.control_plane.releases import Release


def in_tree_api(release: Release) -> str:
    """The version of storagemigration.k8s.io that a release serves (KEP-4192)."""
    return "v1alpha1" if release.minor < 35 else "v1beta1" if release.minor < 37 else "v1"


def gates(release: Release) -> str:
    """Feature gates of kube-apiserver and kube-controller-manager alike."""
    return "StorageVersionMigrator=true" + (",InformerResourceVersion=true" if release.minor < 35 else "")


def server_flags(release: Release) -> list[str]:
    """Flags of kube-apiserver."""
    return [
        f"feature-gates={gates(release)},KMSv1=true",
        f"runtime-config=storagemigration.k8s.io/{in_tree_api(release)}=true",
    ]
