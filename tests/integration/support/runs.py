# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of storage_migrate in the background, for tests that interfere with them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from tests.control_plane.cluster import Cluster

from .modules import NO_REQUESTS, ROOT, Result, environment, run_module
from .waiting import wait_until

NAME = "storage_migrate"


class Running:
    """A run of the module in the background."""

    def __init__(self, cluster: Cluster, **params: Any) -> None:
        self.result: Result | None = None
        self._thread = threading.Thread(target=self._run, args=(cluster, params))
        self._thread.start()

    def _run(self, cluster: Cluster, params: dict[str, Any]) -> None:
        self.result = run_module(cluster, NAME, **params)

    def end(self) -> Result:
        self._thread.join(280)
        assert self.result is not None, "the run did not end"
        return self.result


def start_process(cluster: Cluster, **params: Any) -> subprocess.Popen[str]:
    """The module as a process of its own, to send signals to: the file with its arguments on standard input."""
    params.setdefault("kubeconfig", str(cluster.kubeconfig))
    params.setdefault("request_timeout", NO_REQUESTS)
    process = subprocess.Popen(
        [sys.executable, "-m", "ansible_collections.kube_storage.upgrade.plugins.modules.storage_migrate"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**environment(), "PYTHONPATH": str(ROOT / ".ansible" / "collections")},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": params}))
    process.stdin.close()
    process.stdin = None
    return process


def during(process: subprocess.Popen[str], condition: Callable[[], bool], timeout: float = 60) -> None:
    """Waits for a moment in a run; if the run ends before that, says why."""
    wait_until(lambda: condition() or process.poll() is not None, timeout)
    assert process.poll() is None, process.communicate()


def finish(process: subprocess.Popen[str], timeout: float = 120) -> dict[str, Any]:
    """What a process of start_process returned; it must not have shown a traceback."""
    output, errors = process.communicate(timeout=timeout)
    assert "Traceback" not in output + errors, output + errors
    found: dict[str, Any] = json.loads(output)
    return found
