# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The molecule scenarios, run as people run them; one of them also on an existing cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.control_plane.cluster import Cluster

from .support.modules import ROOT, environment

PROGRAMS = Path(sys.executable).parent


def molecule(*arguments: str, **variables: str) -> str:
    settings = {
        **environment(),
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "NO_COLOR": "1",
        "CLUSTER_OWNER_PID": str(os.getpid()),
        **variables,
    }
    done = subprocess.run(
        [str(PROGRAMS / "molecule"), *arguments],
        cwd=ROOT,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    return done.stdout


def succeeded(output: str, scenario: str, step: str) -> bool:
    """By the summary at the end, whose arrow depends on the terminal."""
    return re.search(rf"^{scenario} \S+ {step}: Executed: Successful", output, re.MULTILINE) is not None


@pytest.mark.parametrize("scenario", ["default", "migrate", "rollback"])
def test_scenario(scenario: str) -> None:
    output = molecule("test", "--scenario-name", scenario)
    assert "Proven from etcd" in output
    for step in ("create", "prepare", "converge", "idempotence", "verify", "destroy"):
        assert succeeded(output, scenario, step), step


def test_a_scenario_on_your_own_cluster(single_master: Cluster, tmp_path: Path) -> None:
    inventory = {
        "kube_control_plane": {"hosts": {"master-1": {"ansible_connection": "local"}}},
        "all": {
            "vars": {
                "ansible_python_interpreter": sys.executable,
                "rolling_upgrade_kubeconfig": str(single_master.kubeconfig),
                "rolling_upgrade_etcd": single_master.etcd,
            }
        },
    }
    path = tmp_path / "my-inventory.yml"
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    base = str(ROOT / "extensions" / "molecule" / "own_cluster.yml")
    collections = str(ROOT / ".ansible" / "collections")
    settings = {"MASTERS_INVENTORY": str(path), "ANSIBLE_COLLECTIONS_PATH": collections}
    output = molecule("--base-config", base, "test", "--scenario-name", "migrate", **settings)
    assert "Proven from etcd" in output and succeeded(output, "migrate", "idempotence")
    assert single_master.status()["master-1"]["ready"] is True
    assert "widgets" not in single_master.kubectl("get", "crds", "-o", "name")
