# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The releases of Kubernetes that tests run for real, pinned in one table, and which of them a version refers to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

EMULATED_MINORS = 3  # KEP-4330: a binary emulates up to three minors before its own.


class VersionError(Exception):
    """A version that names no release here; one sentence."""


@dataclass(frozen=True)
class Release:
    """A patch release, the etcd built into the same binary, and what that binary is built from."""

    kubernetes: str
    etcd: str
    go_mod: str
    minutes: int  # to build, on two cores with nothing built before
    # Modules that the proxy doesn't have at this patch release, and the one that they belong to: none is linked
    # into kube-apiserver.
    older_modules: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def minor(self) -> int:
        """``36`` for 1.36.5."""
        return int(self.kubernetes.split(".")[1])


@dataclass(frozen=True)
class Etcd:
    """An etcd, or another program, on its own, and the folder in tests/control_plane/go that it is built from."""

    etcd: str
    folder: str
    minutes: int
    go_mod: str = "go.mod"


@dataclass(frozen=True)
class Tool:
    """A program of somebody else's Go module, the module's version, and the folder in tests/control_plane/go whose go.mod names it as a tool.

    ``tags``: build tags. Without those for service discovery, promtool has no SDK of any cloud. ``module``: which the package is in.
    """

    version: str
    folder: str
    minutes: int
    module: str
    package: str
    tags: str = ""
    go_mod: str = "go.mod"


# The newest first: it also emulates older minors. A row needs its .mod and .sum in tests/control_plane/go.
CONTROL_PLANE = (
    Release("1.37.2", etcd="3.7.0", go_mod="go.mod", minutes=10),
    Release("1.36.5", etcd="3.6.8", go_mod="go-1.36.mod", minutes=8),
    Release("1.35.4", etcd="3.6.5", go_mod="go-1.35.mod", minutes=8),
    Release(
        "1.34.4",
        etcd="3.6.4",
        go_mod="go-1.34.mod",
        minutes=8,
        older_modules={"k8s.io/sample-cli-plugin": "0.34.2", "k8s.io/sample-controller": "0.34.3"},
    ),
    Release(
        "1.33.13",
        etcd="3.5.21",
        go_mod="go-1.33.mod",
        minutes=8,
        older_modules={
            "k8s.io/sample-apiserver": "0.33.5",
            "k8s.io/sample-cli-plugin": "0.33.4",
            "k8s.io/sample-controller": "0.33.4",
        },
    ),
    Release(
        "1.32.13",
        etcd="3.5.16",
        go_mod="go-1.32.mod",
        minutes=8,
        older_modules={
            "k8s.io/endpointslice": "0.32.12",
            "k8s.io/sample-apiserver": "0.32.5",
            "k8s.io/sample-cli-plugin": "0.32.5",
            "k8s.io/sample-controller": "0.32.5",
        },
    ),
    Release(
        "1.31.14",
        etcd="3.5.21",
        go_mod="go-1.31.mod",
        minutes=8,
        older_modules=dict.fromkeys(
            ("k8s.io/endpointslice", "k8s.io/kube-controller-manager", "k8s.io/kube-scheduler"), "0.31.13"
        ),
    ),
)
# Beside those that are built into the binaries above. The proxy has no release of 3.4 by name, only this commit of 3.4.13.
ETCD = (
    Etcd("3.5.35", folder="etcd-3.5", minutes=1),
    Etcd("3.4.13", folder="etcd-3.4", minutes=1),
)
# Restores snapshots of the etcd of that version; in tests/control_plane/go.
ETCDUTL = Etcd("3.6.8", folder="etcdutl", minutes=1)
# promtool, for tests/monitoring. Prometheus' module v0.316.0 is its release 3.16.0.
PROMTOOL = Tool(
    "0.316.0",
    folder="promtool",
    minutes=2,
    module="github.com/prometheus/prometheus",
    package="github.com/prometheus/prometheus/cmd/promtool",
    tags="remove_all_sd",
)
# kine, in the place of etcd; in tests/control_plane/go.
KINE = Etcd("0.17.5", folder="kine", minutes=4)
# kube-storage-version-migrator, of which there is no release since, only this commit; in tests/control_plane/go.
MIGRATOR = Etcd("0.0.6-0.20230721195810-5c8923c5ff96", folder="migrator", minutes=2)
# The hosts of tests/kubeadm, which go from the last to the first; in tests/kubeadm/go. With the same releases as above, Go has compiled most already.
KUBEADM_HOST = (
    Release("1.37.2", etcd="3.7.0", go_mod="go.mod", minutes=12),
    Release("1.36.5", etcd="3.6.8", go_mod="go-1.36.mod", minutes=8),
)
NEWEST = CONTROL_PLANE[0]
# The newest and the one before it, which upgrades come from.
OF_MAKE_TEST = CONTROL_PLANE[:2]


@dataclass(frozen=True)
class Server:
    """What runs as a version: a release's own binary, and the minor that it emulates, if any."""

    release: Release
    emulated: str = ""


def server(version: str) -> Server:
    """What ``version`` names: ``1.36.5`` is that release itself, ``1.36`` the newest binary emulating that minor."""
    if re.fullmatch(r"\d+\.\d+", version):
        if version not in _emulated_minors():
            raise VersionError(
                f"{NEWEST.kubernetes} can't emulate {version}, only {', '.join(_emulated_minors())}; "
                f"{_known(CONTROL_PLANE)} run from their own binaries."
            )
        return Server(NEWEST, emulated=version)
    return Server(release(version))


def release(version: str, table: tuple[Release, ...] = CONTROL_PLANE) -> Release:
    """The row of a full patch release such as ``1.36.5``."""
    for row in table:
        if row.kubernetes == version:
            return row
    raise VersionError(
        f"Kubernetes {version} is not built here, only {_known(table)}; "
        f"add it to tests/control_plane/releases.py, or name a minor such as {_emulated_minors()[-2]} to have it emulated."
    )


def with_etcd(version: str, preferred: Callable[[Release | Etcd], bool] = lambda row: True) -> Release | Etcd:
    """The row whose binary has that etcd; of several one that is preferred, such as one that is built already."""
    rows: tuple[Release | Etcd, ...] = (*CONTROL_PLANE, *ETCD)
    found = [row for row in rows if row.etcd == version]
    if not found:
        known = ", ".join(dict.fromkeys(row.etcd for row in rows))
        raise VersionError(f"etcd {version} is not built here, only {known}.")
    return next((row for row in found if preferred(row)), found[0])


def pinned(minor: str) -> str:
    """The patch release of a minor that is built here: ``1.36.5`` for ``1.36``."""
    for row in CONTROL_PLANE:
        if row.kubernetes.rpartition(".")[0] == minor:
            return row.kubernetes
    raise VersionError(f"No release of Kubernetes {minor} is built here, only {_known(CONTROL_PLANE)}.")


def _emulated_minors() -> list[str]:
    major, minor = (int(part) for part in NEWEST.kubernetes.split(".")[:2])
    return [f"{major}.{number}" for number in range(minor - EMULATED_MINORS, minor + 1)]


def _known(table: tuple[Release, ...]) -> str:
    return ", ".join(row.kubernetes for row in table)
