# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet: what the controller pays for each cluster, where the clusters themselves cost nothing."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.benchmark import tools
from tests.benchmark.bench import Bench, say
from tests.benchmark.figures import Check, Part
from tests.benchmark.tools import BenchmarkError

_CLUSTERS, _FORKS = 500, 20
_MINUTES, _GIB = 10, 2
_KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{{name: stub, cluster: {{server: "{url}", certificate-authority: "{ca}"}}}}]
users: [{{name: stub, user: {{token: benchmark}}}}]
contexts: [{{name: stub, context: {{cluster: stub, user: stub}}}}]
current-context: stub
"""


def stub_clusters(bench: Bench) -> Part:
    """An audit without etcd of many clusters, each a kubeconfig of its own for a stub that answers at once."""
    count = bench.size(_CLUSTERS)
    part = Part("fleet", f"An audit without etcd of {count} stub clusters, {_FORKS} forks")
    whole = part.figure("the whole playbook, with the page and the metrics", "s", ours=True)
    cores = part.figure("processor time for each cluster", "s", ours=True)
    memory = part.figure("memory of Ansible and all that it starts, at most", "MiB", ours=True)
    with tools.stub(bench.folder, resources=40, objects=1) as stub:
        inventory = _inventory(bench.folder, stub, count)
        for turn in range(bench.rounds):
            before = _processor_time()
            wall, peak = _run(bench.folder, inventory, count)
            whole.runs.append(wall)
            memory.runs.append(peak)
            cores.runs.append((_processor_time() - before) / count)
            say(f"round {turn + 1}: {wall:.0f} s, {peak:.0f} MiB")
    goal = _MINUTES * 60 * count / _CLUSTERS
    part.checks.append(Check(f"an audit of {count} clusters", whole.median, "s", goal, at_most=True))
    part.checks.append(Check("memory", memory.median, "MiB", _GIB * 1024, at_most=True))
    return part


def _inventory(folder: Path, stub: tools.Stub, count: int) -> Path:
    own = folder / "fleet-kubeconfigs"
    own.mkdir(exist_ok=True)
    hosts = {}
    for number in range(count):
        path = own / f"cluster-{number:04d}"
        path.write_text(_KUBECONFIG.format(url=stub.url, ca=stub.ca), encoding="utf-8")
        hosts[path.name] = {"rolling_upgrade_kubeconfig": str(path)}
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "rolling_upgrade_servers": [stub.url],
    }
    inventory = folder / "fleet.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}), encoding="utf-8")
    return inventory


def _run(folder: Path, inventory: Path, count: int) -> tuple[float, float]:
    """Seconds, and MiB at the peak."""
    target = folder / "fleet-page"
    variables = {"rolling_upgrade_fleet_path": str(target), "rolling_upgrade_fleet_resume_within": 0}
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "kube_storage.upgrade.fleet", "-i", str(inventory), "--forks", str(_FORKS)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(tools.ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(tools.ROOT / ".ansible" / "collections")
    log = folder / "fleet.log"
    started = time.monotonic()
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*command, "-e", json.dumps(variables)],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        peak = _watched(process)
    wall = time.monotonic() - started
    record = json.loads((target / "fleet.json").read_text(encoding="utf-8"))
    seen = sum(bool(row["servers"]) for row in record["clusters"])
    if process.returncode != 0 or seen != count:
        raise BenchmarkError(
            f"The fleet's run has {seen} of {count} clusters: {log.read_text(encoding='utf-8')[-1500:]}"
        )
    return wall, peak


def _watched(process: subprocess.Popen[bytes]) -> float:
    """Waits for it; the most memory that it and its descendants had together, shared pages counted once."""
    peak = 0.0
    ended = threading.Event()

    def look() -> None:
        nonlocal peak
        while not ended.wait(2):
            peak = max(peak, sum(map(_mebibytes, tools.family(process.pid))))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        process.wait()
    finally:
        ended.set()
        watcher.join()
    return peak


def _mebibytes(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:  # it has just ended
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:")), 0.0)


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
