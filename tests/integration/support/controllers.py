# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engines that let a controller do the work: the real kube-controller-manager, and a stand-in for the migrator."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.control_plane.cluster import Cluster, ClusterError

from .objects import apply, await_established, config_maps
from .waiting import wait_until

IN_TREE = "storage_version_migration"
MIGRATOR = "kube_storage_version_migrator"
CONTROLLERS = "garbage-collector-controller,storage-version-migrator-controller"
MIGRATOR_MIGRATIONS = "storageversionmigrations.migration.k8s.io"
MIGRATOR_STATES = "storagestates.migration.k8s.io"
MIGRATOR_CRDS = Path(__file__).with_name("migrator_crds.yml")


@contextmanager
def busy(cluster: Cluster, *plurals: str) -> Iterator[None]:
    """Writes an object of each resource now and then, as a living cluster does.

    The controller begins when the garbage collector's watch has caught up with the migration's list, which
    it learns by the next event of the resource, or by a bookmark a minute later.
    """
    ending = threading.Event()

    def write() -> None:
        number = 0
        while not ending.wait(1.0):
            number += 1
            for plural in plurals:
                name, pair = ("touched" if plural == "configmaps" else "widget-touched"), f"touched={number}"
                try:
                    cluster.kubectl("annotate", plural, name, "--overwrite", pair)
                except ClusterError:
                    continue

    apply(
        cluster, config_maps(0), {**config_maps(1)["items"][0], "metadata": {"name": "touched", "namespace": "default"}}
    )
    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def stored_versions(cluster: Cluster) -> list[str]:
    crd = json.loads(cluster.kubectl("get", "crd", "widgets.shop.example.com", "-o", "json"))
    versions: list[str] = crd["status"]["storedVersions"]
    return versions


class Migrator:
    """Takes up migrations one after another, as the real one does: get and replace of each object, retried forever.

    ``fails``: what it reports for a migration before it tries anything. ``plural``: whose part it plays.
    ``stalls_at``: after this many objects it does nothing until its migration is gone, and then goes on with the rest.
    """

    def __init__(
        self, cluster: Cluster, fails: str = "", plural: str = MIGRATOR_MIGRATIONS, stalls_at: int | None = None
    ) -> None:
        self._cluster = cluster
        self._plural = plural
        self._fails = fails
        self._stalls_at = stalls_at
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.states_when_running: list[dict[str, Any]] = []
        self.seen: list[dict[str, Any]] = []

    def __enter__(self) -> Migrator:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(0.2):
            try:
                for migration in items(self._cluster, self._plural):
                    conditions = migration.get("status", {}).get("conditions", [])
                    if not any(condition["type"] in ("Succeeded", "Failed") for condition in conditions):
                        self._take_up(migration)
            except ClusterError:
                continue  # A server was just restarted; as any controller does, it retries.

    def _take_up(self, migration: dict[str, Any]) -> None:
        name = migration["metadata"]["name"]
        if migration["metadata"]["uid"] not in [known["metadata"]["uid"] for known in self.seen]:
            self.seen.append(migration)
        self._say(name, "Running", "")
        if self._plural == MIGRATOR_MIGRATIONS:
            self.states_when_running += items(self._cluster, MIGRATOR_STATES)
        if self._fails:
            self._say(name, "Failed", self._fails)
            return
        for number, item in enumerate(items(self._cluster, migration["spec"]["resource"]["resource"])):
            while number == self._stalls_at and name in [
                migration["metadata"]["name"] for migration in items(self._cluster, self._plural)
            ]:
                if self._ending.wait(0.1):
                    return
            while not self._replaced(item):
                if self._ending.wait(0.2):
                    return
        self._say(name, "Succeeded", "")

    def _replaced(self, item: dict[str, Any]) -> bool:
        try:
            self._cluster.kubectl("replace", "-f", "-", input=json.dumps(item))
        except ClusterError as error:
            return "NotFound" in str(error) or "Conflict" in str(error)
        return True

    def _say(self, name: str, kind: str, message: str) -> None:
        conditions = [{"type": kind, "status": "True", "message": message}]
        patch = json.dumps({"status": {"conditions": conditions}})
        try:
            self._cluster.kubectl("patch", self._plural, name, "--subresource=status", "--type=merge", "-p", patch)
        except ClusterError as error:
            if "NotFound" not in str(error):
                raise


def items(cluster: Cluster, plural: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", plural, "-n", "default", "-o", "json"))["items"]
    return found


def install_migrator(cluster: Cluster, group: str = "migration.k8s.io", version: str = "v1alpha1") -> None:
    """The CRDs, or equivalents under another name."""
    text = MIGRATOR_CRDS.read_text(encoding="utf-8").replace("migration.k8s.io", group).replace("v1alpha1", version)
    cluster.kubectl("apply", "-f", "-", input=text)
    names = [f"{plural}.{group}" for plural in ("storageversionmigrations", "storagestates")]
    await_established(cluster, "crd", *names)
    wait_until(lambda: "storageversionmigrations" in cluster.kubectl("api-resources", f"--api-group={group}"))


def remove_migrator(cluster: Cluster, group: str = "migration.k8s.io") -> None:
    for plural in ("storageversionmigrations", "storagestates"):
        cluster.kubectl("delete", "crd", f"{plural}.{group}", "--ignore-not-found", "--timeout=60s")
    wait_until(lambda: "storageversionmigrations" not in cluster.kubectl("api-resources", f"--api-group={group}"))
