#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo: three masters at 1.36, full of objects and under load, are upgraded to 1.37 by the playbook.

What is claimed at the end is checked here by other means than the collection's: by reading etcd, and by
asking whether every update that a client was told is done is still there. Exit status 0 only if all holds.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import aiohttp  # noqa: E402

from tests.control_plane.build import BuildError  # noqa: E402
from tests.control_plane.cluster import Cluster, ClusterError  # noqa: E402
from tests.control_plane.hosts import HostError  # noqa: E402

OLD, NEW = "1.36", "1.37"
CONFIG_MAPS, SECRETS, WIDGETS, POLICIES, WRITERS = 3000, 300, 60, 40, 4
CRD = "widgets.shop.example.com"


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="kube-storage-demo-"))
    started = time.monotonic()
    try:
        say(f"Starting one etcd and three kube-apiservers of {NEW} that emulate {OLD}, each on a host of its own")
        cluster = Cluster.up(folder, masters=3, version=OLD, owner_pid=os.getpid())
    except (BuildError, ClusterError, HostError) as error:
        print(f"The demo can't start: {error}", file=sys.stderr)
        return 2
    try:
        good = upgrade(cluster, folder)
    except KeyboardInterrupt:
        print("Interrupted; cleaning up.", file=sys.stderr)
        good = False
    finally:
        cluster.down()
    print(f"\nThe demo took {time.monotonic() - started:.0f} s.", flush=True)
    kept = keep_report(folder)
    if kept is not None:
        print(f"The report of the upgrade, to open in a browser: {kept}")
    if good:
        shutil.rmtree(folder)
    else:
        print(f"Logs are in {folder / 'logs'}.")
    return 0 if good else 1


def keep_report(folder: Path) -> Path | None:
    """Copies the report to where it stays."""
    if not (folder / "report.html").exists():
        return None
    place = ROOT / "build" / "demo"
    place.mkdir(parents=True, exist_ok=True)
    for name in ("report.html", "report.json"):
        shutil.copy(folder / name, place / name)
    return place / "report.html"


def upgrade(cluster: Cluster, folder: Path) -> bool:
    say("Filling it with objects of many kinds")
    fill(cluster)
    before = stored_versions(cluster)
    writers = Writers(cluster)
    writers.start()
    say(f"Clients keep writing from now on; the playbook kube_storage.upgrade.upgrade takes the masters to {NEW}")
    report_path = folder / "report.json"
    status = run_playbook(cluster, folder, folder / "report.html")
    acknowledged, lost = writers.stop()
    after = stored_versions(cluster)
    report = json.loads(report_path.read_text(encoding="utf-8")) if report_path.exists() else {}
    return summarize(status, report, before, after, acknowledged, lost, cluster)


# Objects


def fill(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", str(ROOT / "tests" / "demo" / "objects.yml"))
    cluster.kubectl("wait", "--for=condition=Established", "crd", CRD, "--timeout=30s")
    asyncio.run(_fill(cluster))
    # The operator moves on: it stores v1 from now on, while its old objects stay v1alpha1.
    crd = json.loads(cluster.kubectl("get", "crd", CRD, "-o", "json"))
    for version in crd["spec"]["versions"]:
        version["storage"] = version["name"] == "v1"
    cluster.kubectl("replace", "-f", "-", input=json.dumps(crd))


async def _fill(cluster: Cluster) -> None:
    async with session(cluster) as http:

        async def create(path: str, body: dict[str, Any]) -> None:
            for _attempt in range(20):
                async with http.post(cluster.balancer_url + path, json=body) as answer:
                    text = await answer.text()
                    if answer.status in (201, 409):
                        return
                await asyncio.sleep(0.25)  # a CRD's new endpoint comes up on each master in its own time
            raise ClusterError(f"creating {path} failed: {text[:300]}")

        jobs = [("/api/v1/namespaces/shop/configmaps", config_map(i)) for i in range(CONFIG_MAPS)]
        jobs += [("/api/v1/namespaces/shop/secrets", secret(i)) for i in range(SECRETS)]
        jobs += [("/apis/shop.example.com/v1alpha1/namespaces/shop/widgets", widget(i)) for i in range(WIDGETS)]
        for i in range(POLICIES):
            base = "/apis/admissionregistration.k8s.io/v1/"
            jobs += [
                (base + "mutatingadmissionpolicies", policy(i)),
                (base + "mutatingadmissionpolicybindings", binding(i)),
            ]
        waiting = iter(jobs)

        async def worker() -> None:
            for path, body in waiting:
                await create(path, body)

        await asyncio.gather(*(worker() for _ in range(16)))


def config_map(number: int) -> dict[str, Any]:
    return {"metadata": {"name": f"settings-{number:05d}"}, "data": {"key": "value " * 20}}


def secret(number: int) -> dict[str, Any]:
    return {"metadata": {"name": f"secret-{number:05d}"}, "stringData": {"password": f"only a demo {number}"}}


def widget(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "shop.example.com/v1alpha1",
        "kind": "Widget",
        "metadata": {"name": f"widget-{number:03d}"},
        "spec": {"size": number},
    }


def policy(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": f"label-{number:03d}"},
        "spec": {
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": ["shop.example.com"], "apiVersions": ["v2"], "operations": ["CREATE"], "resources": ["nothings"]}
                ]
            },
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": 'Object{metadata: Object.metadata{labels: {"demo": "yes"}}}'},
                }
            ],
        },
    }  # fmt: skip


def binding(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": f"label-{number:03d}"},
        "spec": {"policyName": f"label-{number:03d}"},
    }


def session(cluster: Cluster) -> aiohttp.ClientSession:
    pair = cluster.certificate("admin")
    context = ssl.create_default_context(cafile=str(cluster.certificate("ca").cert))
    context.load_cert_chain(pair.cert, pair.key)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), timeout=aiohttp.ClientTimeout(total=10))


class Writers:
    """Clients that count upwards in objects of their own, through the load balancer, all the while."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._acknowledged = dict.fromkeys((f"counter-{i}" for i in range(WRITERS)), 0)
        self._updates = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._write()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> tuple[int, list[str]]:
        """(updates that were acknowledged, sentences about those that are not there anymore)."""
        self._ending.set()
        self._thread.join(30)
        lost = []
        for name, value in self._acknowledged.items():
            found = json.loads(self._cluster.kubectl("get", "configmap", name, "-n", "shop", "-o", "json"))
            if int(found["data"]["count"]) < value:
                lost.append(f"{name} is at {found['data']['count']}, {value} had been acknowledged")
        return self._updates, lost

    async def _write(self) -> None:
        async with session(self._cluster) as http:
            await asyncio.gather(*(self._count(http, name) for name in self._acknowledged))

    async def _count(self, http: aiohttp.ClientSession, name: str) -> None:
        base = f"{self._cluster.balancer_url}/api/v1/namespaces/shop/configmaps"
        value = 0
        while not self._ending.is_set():
            try:
                async with http.post(base, json={"metadata": {"name": name}, "data": {"count": "0"}}) as answer:
                    if answer.status in (201, 409):
                        break
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.2)
        headers = {"Content-Type": "application/merge-patch+json"}
        while not self._ending.is_set():
            body = json.dumps({"data": {"count": str(value + 1)}})
            try:
                async with http.patch(f"{base}/{name}", data=body, headers=headers) as answer:
                    if answer.status == 200:
                        value += 1
                        self._acknowledged[name] = value
                        self._updates += 1
            except (aiohttp.ClientError, TimeoutError):
                pass  # Its master is being upgraded: a client tries again.
            await asyncio.sleep(0.05)


# etcd, read by nothing but the standard library

_WATCHED = {
    "mutatingadmissionpolicies": "/registry/mutatingadmissionpolicies/",
    "mutatingadmissionpolicybindings": "/registry/mutatingadmissionpolicybindings/",
    "widgets.shop.example.com": "/registry/shop.example.com/widgets/",
    "configmaps": "/registry/configmaps/",
    "secrets": "/registry/secrets/",
}
_VERSION = re.compile(rb'(?:"apiVersion":"|^k8s\x00\n.\n.)([a-z0-9./]+)', re.DOTALL)


def stored_versions(cluster: Cluster) -> dict[str, dict[str, int]]:
    """By resource, how many objects etcd holds in which version."""
    etcd = cluster.etcd
    context = ssl.create_default_context(cafile=etcd["ca_cert"])
    context.load_cert_chain(etcd["client_cert"], etcd["client_key"])
    found: dict[str, dict[str, int]] = {}
    for resource, prefix in _WATCHED.items():
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        body = {"key": base64.b64encode(prefix.encode()).decode(), "range_end": base64.b64encode(end.encode()).decode()}
        request = urllib.request.Request(etcd["endpoints"][0] + "/v3/kv/range", json.dumps(body).encode())
        with urllib.request.urlopen(request, context=context, timeout=60) as answer:
            pairs = json.load(answer).get("kvs") or []
        counts: dict[str, int] = {}
        for pair in pairs:
            match = _VERSION.search(base64.b64decode(pair["value"]))
            version = match[1].decode().rpartition("/")[2] if match else "unknown"
            counts[version] = counts.get(version, 0) + 1
        found[resource] = counts
    return found


# The playbook


def run_playbook(cluster: Cluster, folder: Path, report: Path) -> int:
    upgrade_tasks = folder / "upgrade_one_master.yml"
    upgrade_tasks.write_text(
        "---\n"
        "- name: Replace this master's kube-apiserver with the new release\n"
        "  ansible.builtin.command:\n"
        f"    argv: [{json.dumps(sys.executable)}, {json.dumps(str(ROOT / 'tests/control_plane/cluster.py'))}, upgrade,\n"
        f'           {json.dumps(str(folder))}, "{{{{ inventory_hostname }}}}", --version, "{{{{ rolling_upgrade_version }}}}"]\n'
        "  changed_when: true\n",
        encoding="utf-8",
    )
    inventory = folder / "inventory.ini"
    lines = [f"{name} ansible_host={cluster.data['masters'][name]['address']}" for name in cluster.masters]
    inventory.write_text(
        "[kube_control_plane]\n"
        + "\n".join(lines)
        + f"\n[kube_control_plane:vars]\nansible_connection=local\nansible_python_interpreter={sys.executable}\n",
        encoding="utf-8",
    )
    variables = {
        "rolling_upgrade_version": NEW,
        "rolling_upgrade_tasks_file": str(upgrade_tasks),
        "rolling_upgrade_kubeconfig": str(cluster.kubeconfig),
        "rolling_upgrade_etcd": cluster.etcd,
        "rolling_upgrade_stable_for": 5,
        "rolling_upgrade_report_path": str(report),
        "rolling_upgrade_gather_facts": False,
    }
    environment = {**os.environ, "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "kube_storage.upgrade.upgrade",
        "-i",
        str(inventory),
        "-e",
        json.dumps(variables),
    ]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


# The end


def summarize(
    status: int,
    report: dict[str, Any],
    before: dict[str, dict[str, int]],
    after: dict[str, dict[str, int]],
    acknowledged: int,
    lost: list[str],
    cluster: Cluster,
) -> bool:
    """Prints what happened, and which claims hold."""
    steps = [step for step in report.get("steps") or [] if step["state"] == "done"]
    migration = (report.get("migrations") or [{}])[-1]
    mixed = sum(1 for step in steps if mixed_after(step, report))
    trimmed = json.loads(cluster.kubectl("get", "crd", CRD, "-o", "json"))["status"]["storedVersions"]
    old_left = {name: old_objects(name, counts) for name, counts in after.items()}
    checks = [
        ("The playbook ended without an error", status == 0),
        (f"All three masters went from {OLD} to {NEW}, one at a time", len(steps) == 3 and not overlap(steps)),
        ("While masters were mixed, that was seen, and nothing was migrated", mixed == 2),
        (
            "Objects were stale before, so that there was something to do",
            any(old_objects(n, c) for n, c in before.items()),
        ),
        (
            "etcd no longer holds anything in an old version (read here, not by the collection)",
            not any(old_left.values()),
        ),
        (
            "The collection's own scan of all of etcd found nothing stale",
            ((report.get("stored") or {}).get("after") or {"totals": {}})["totals"].get("stale") == 0,
        ),
        (f"The CRD's storedVersions were trimmed: {trimmed}", trimmed == ["v1"]),
        (f"Of {acknowledged} updates by other clients in the meantime none was lost", acknowledged > 0 and not lost),
    ]
    print("\n" + "=" * 100)
    print("What happened\n")
    for step in steps:
        down = seconds_between(step["started"], step["finished"])
        print(
            f"  {step['master']}  {step['from']} -> {step['to']}  in {down:4.1f} s   masters mixed afterwards: {'yes' if mixed_after(step, report) else 'no'}"
        )
    if migration:
        print(
            f"\n  {migration['totals']['rewritten']} objects were stale and written again, {migration['totals']['unchanged']} "
            f"were current, {migration['totals']['conflicts']} had been written by clients meanwhile; {migration['seconds']} s."
        )
    print("\n  Stored in etcd                       before                      after")
    for name in _WATCHED:
        print(f"    {name:34} {counts_text(before[name]):27} {counts_text(after[name])}")
    print("\nWhat is true\n")
    for text, holds in checks:
        print(f"  [{'yes' if holds else 'NO '}] {text}")
    for sentence in lost:
        print(f"        {sentence}")
    print("=" * 100, flush=True)
    return all(holds for _text, holds in checks)


def old_objects(_resource: str, counts: dict[str, int]) -> int:
    return sum(number for version, number in counts.items() if version != "v1")


def counts_text(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} as {version}" for version, number in sorted(counts.items())) or "none"


def mixed_after(step: dict[str, Any], report: dict[str, Any]) -> bool:
    """Whether servers differed when all of them were asked after a master's upgrade."""
    seen = [
        observed
        for observed in report["observations"]
        if len(observed["servers"]) == 3 and observed["first"] <= step["finished"]
    ]
    return bool(seen and seen[-1]["disagreeing"])


def seconds_between(start: str, end: str) -> float:
    from datetime import datetime

    return (datetime.fromisoformat(end.rstrip("Z")) - datetime.fromisoformat(start.rstrip("Z"))).total_seconds()


def overlap(steps: list[dict[str, Any]]) -> bool:
    """Whether any two masters were being upgraded at the same time."""
    spans = sorted((step["started"], step["finished"]) for step in steps)
    return any(spans[i][1] > spans[i + 1][0] for i in range(len(spans) - 1))


def say(text: str) -> None:
    print(f"\n>>> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
