# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules of the collection, run ad hoc as users run them."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.control_plane.cluster import Cluster
from tests.tools.schemas import result_violations

from . import warm_ansible, warm_python

ROOT = Path(__file__).resolve().parents[3]
ANSIBLE = Path(sys.executable).with_name("ansible")
# What most tests pass to storage_migrate as the API servers' --request-timeout: none of their requests lasts longer.
NO_REQUESTS = 1


@dataclass
class Result:
    """What a module returned; ``output`` is everything that Ansible printed."""

    data: dict[str, Any]
    failed: bool
    output: str

    @property
    def message(self) -> str:
        return str(self.data.get("msg", ""))

    def __getitem__(self, key: str) -> Any:
        assert not self.failed, self.message
        return self.data[key]


def environment() -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "K8S_AUTH_"))}
    return {**keep, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "PYTHONWARNINGS": "ignore"}


def run_module(cluster: Cluster | None, name: str, *, check: bool = False, verbose: str = "", **params: Any) -> Result:
    """Runs a module of the collection ad hoc, as users do."""
    if cluster is not None and not {"kubeconfig", "host"} & set(params):
        params["kubeconfig"] = str(cluster.kubeconfig)
    if name == "storage_migrate":
        params.setdefault("request_timeout", NO_REQUESTS)
    command = [str(ANSIBLE), "localhost", "-o", "-m", f"kube_storage.upgrade.{name}", "-a", json.dumps(params)]
    command += ["-e", f"ansible_python_interpreter={warm_python.interpreter()}"]
    command += ["--check"] if check else []
    command += [verbose] if verbose else []
    done = warm_ansible.run(command, cwd=ROOT, env=environment(), timeout=300)
    output = done.stdout + done.stderr
    found = re.search(r"localhost \| (\w+)!? (?:\| rc=\d+ )?=> (\{.*\})\s*$", done.stdout, re.DOTALL | re.MULTILINE)
    assert found, output
    data = json.loads(found[2])
    failed = found[1] not in ("SUCCESS", "CHANGED")
    # What Ansible itself refuses, before the module begins, has no error of ours.
    violations = [] if failed and "error" not in data else result_violations(name, data)
    assert violations == [], f"the result isn't as the documentation of {name} says: {violations}"
    return Result(data, failed, output)
