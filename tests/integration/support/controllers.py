# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engines that let a controller do the work: the real kube-controller-manager, and a stand-in for the migrator."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.control_plane import build, hosts
from tests.control_plane.cluster import Cluster, ClusterError
from tests.control_plane.folder import short_name
from tests.control_plane.processes import Process, spawn

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


class RealMigrator:
    """kube-storage-version-migrator's own controller, in the network of the first master. ``rate``: its requests per second."""

    def __init__(self, cluster: Cluster, rate: int = 0) -> None:
        self._cluster = cluster
        self._program = build.binaries(build.migrator()) / "migrator"
        # As in its own manifests, which let the first thousand requests pass at once.
        self._limits = (f"--kube-api-qps={rate or 40}", f"--kube-api-burst={1 if rate else 1000}")
        self._process: Process | None = None

    def start(self) -> None:
        master = self._cluster.masters[0]
        kubeconfig = self._cluster.folder / f"kubeconfig-{master}"
        prefix = hosts.enter(self._cluster.network, short_name(master), master)
        command = [*prefix, str(self._program), f"--kubeconfig={kubeconfig}", *self._limits]
        self._process = spawn(command, self._cluster.folder / "logs" / "migrator.log")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While the block runs, it does nothing, and doesn't know."""
        assert self._process is not None
        self._process.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send(signal.SIGCONT)

    def __enter__(self) -> RealMigrator:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()


def install_real_migrator(cluster: Cluster) -> None:
    """Its own CRDs."""
    source = build.migrator().source
    manifests = build.files_of(source, "sigs.k8s.io/kube-storage-version-migrator") / "manifests"
    for name in ("storage_migration_crd.yaml", "storage_state_crd.yaml"):
        cluster.kubectl("apply", "-f", str(manifests / name))
    await_established(cluster, "crd", MIGRATOR_MIGRATIONS, MIGRATOR_STATES)
    wait_until(lambda: "storageversionmigrations" in cluster.kubectl("api-resources", "--api-group=migration.k8s.io"))


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
