# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The molecule scenarios, run as people run them; and one that is in another repository, on an existing cluster."""

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
from .support.printed import blocks

PROGRAMS = Path(sys.executable).parent


def molecule(*arguments: str, folder: Path = ROOT, **variables: str) -> str:
    settings = {
        **environment(),
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "NO_COLOR": "1",
        "CLUSTER_OWNER_PID": str(os.getpid()),
        **variables,
    }
    done = subprocess.run(
        [str(PROGRAMS / "molecule"), *arguments],
        cwd=folder,
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


def test_a_scenario_of_another_repository(single_master: Cluster, tmp_path: Path) -> None:
    """The guide's files, as printed, in an empty folder, on a cluster that molecule did not create."""
    guide = ROOT / "docs" / "docsite" / "rst" / "molecule.rst"
    printed = [block.content for block in blocks(guide) if block.language == "yaml"]
    folder = tmp_path / "repository" / "molecule" / "default"
    folder.mkdir(parents=True)
    for name, content in zip(("molecule.yml", "converge.yml", "verify.yml"), printed, strict=False):
        assert f"``molecule/default/{name}``" in guide.read_text(encoding="utf-8")
        (folder / name).write_text(content, encoding="utf-8")
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
    (folder.parents[1] / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    home = tmp_path / "home"
    (home / ".ansible").mkdir(parents=True)
    (home / ".ansible" / "collections").symlink_to(ROOT / ".ansible" / "collections")
    output = molecule("test", "--scenario-name", "default", folder=folder.parents[1], HOME=str(home))
    assert "Proven from etcd" in output and succeeded(output, "default", "idempotence")
    assert single_master.status()["master-1"]["ready"] is True
