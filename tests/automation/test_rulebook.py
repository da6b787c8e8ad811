# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 18: Event-Driven Ansible's own ansible-rulebook, with the rulebook of the collection. An alert starts the audit of the cluster that it names."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.automation.programs import installed
from tests.control_plane import processes, releases
from tests.control_plane.cluster import Cluster
from tests.integration.support.modules import ROOT
from tests.integration.support.objects import install_widgets
from tests.integration.support.waiting import wait_until
from tests.tools.schemas import violations

TOKEN = "a-token"


def alert(cluster: str, **more: str) -> dict[str, Any]:
    """As Alertmanager posts it."""
    labels = {"alertname": "KubernetesVersionChanged", "cluster": cluster, "git_version": "v1.37.2", **more}
    return {"version": "4", "status": "firing", "alerts": [{"status": "firing", "labels": labels, "annotations": {}}]}


@dataclass
class Rulebook:
    """ansible-rulebook at work, which has two clusters in its inventory: ``shop``, which is there, and ``dead``."""

    folder: Path
    port: int
    log: Path

    def post(self, body: dict[str, Any], token: str = TOKEN) -> int:
        """The answer's status; 0 if nobody answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/alerts",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def record(self) -> dict[str, Any] | None:
        path = self.folder / "fleet" / "fleet.json"
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        assert violations(found) == []
        return found

    def seen(self) -> set[str]:
        """The clusters on the page, once no run is under way."""
        record = self.record()
        done = record is not None and record["status"] == "finished"
        return {row["host"] for row in record["clusters"]} if record and done else set()

    def audits(self, host: str) -> int:
        """How many playbooks it has begun for a host. It shows the output of one that fails twice."""
        return self.log.read_text(encoding="utf-8").count(f"/fleet/wave.yml for {host}\n")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster.up(tmp_path / "cluster", masters=1, version="1.36", owner_pid=os.getpid())
    install_widgets(made, 3)
    yield made
    made.down()


@pytest.fixture
def rulebook(cluster: Cluster, tmp_path: Path) -> Iterator[Rulebook]:
    if shutil.which("java") is None:
        pytest.skip("Java is needed for ansible-rulebook; install default-jre-headless")
    programs = installed("rulebook")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {
        "shop": {**here, "rolling_upgrade_kubeconfig": str(cluster.kubeconfig), "rolling_upgrade_etcd": cluster.etcd},
        "dead": {**here, "rolling_upgrade_kubeconfig": str(tmp_path / "none")},
    }
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
    given = {"webhook_port": port, "webhook_token": TOKEN, "fleet_path": str(tmp_path / "fleet")}
    (tmp_path / "variables.json").write_text(json.dumps(given), encoding="utf-8")
    log = tmp_path / "rulebook.log"
    collections = str(ROOT / ".ansible" / "collections")
    settings = [f"PATH={programs}:{os.environ['PATH']}", f"ANSIBLE_COLLECTIONS_PATH={collections}", f"HOME={tmp_path}"]
    command = ["env", "--chdir", str(tmp_path), *settings, "ANSIBLE_NOCOLOR=1", str(programs / "ansible-rulebook")]
    command += ["--rulebook", "kube_storage.upgrade.audit", "-i", str(tmp_path / "inventory.json")]
    process = processes.spawn([*command, "--vars", str(tmp_path / "variables.json")], log)
    try:
        made = Rulebook(tmp_path, port, log)
        wait_until(lambda: not process.alive or made.post({}, token="") != 0)
        assert process.alive, log.read_text(encoding="utf-8")
        yield made
    finally:
        process.stop()


def test_an_alert_starts_the_audit_of_its_cluster(rulebook: Rulebook, cluster: Cluster) -> None:
    assert rulebook.post(alert("shop"), token="another") == 401
    harm = rulebook.folder / "harm"
    cluster.upgrade("master-1", "1.37")
    for body in (
        alert("{{ lookup('pipe', 'touch " + str(harm) + "') }}"),
        alert("dead", alertname="SomethingElse"),
        {"something": "else"},
        alert("shop"),
        alert("shop"),  # again, as Alertmanager repeats it
    ):
        assert rulebook.post(body) == 200
    wait_until(lambda: rulebook.seen() == {"shop"}, timeout=240)
    # What was posted before is handled before, so this is the last run.
    assert rulebook.post(alert("dead")) == 200
    wait_until(lambda: rulebook.seen() == {"shop", "dead"}, timeout=240)
    wait_until(lambda: rulebook.audits("dead") > 0)
    assert rulebook.audits("shop") == 1 and not harm.exists(), rulebook.log.read_text(encoding="utf-8")
    record = rulebook.record()
    assert record is not None
    rows = {row["host"]: row for row in record["clusters"]}
    shop = rows["shop"]
    assert [server["release"] for server in shop["servers"]] == [f"v{releases.NEWEST.kubernetes}"]
    assert (shop["state"], shop["stale"], rows["dead"]["state"]) == ("stale", 3, "failure")
