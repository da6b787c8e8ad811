# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What other clients of the API servers notice of a migration, and what it costs the migration to be a good neighbour."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmark.bench import Bench, require_rewritten, say
from tests.benchmark.cores import watched
from tests.benchmark.figures import Check, Figure, Part, Plain, what_is_possible
from tests.benchmark.objects import Objects
from tests.benchmark.today import in_tree_rate, kubectl_replace
from tests.benchmark.tools import ROOT, BenchmarkError, api_flags, go, go_program
from tests.control_plane.cluster import Cluster

_NAMESPACE, _LISTED = "neighbours", 100
_USER, _MIGRATING = "neighbour", "kube-storage-upgrade"
_PRIORITY = ROOT / "playbooks" / "files" / "rbac" / "kube-storage-upgrade-priority.yml"
_CONTROLLERS = "garbage-collector-controller,storage-version-migrator-controller"
_KINDS = ("get", "patch", "list")
_ALONE, _LOW, _NORMAL, _HIGH = "nobody migrates", "impact: low", "impact: normal", "impact: high"
_WITH_LEVEL = "impact: high, with the priority level"
# The targets of ``normal``: others' median and 99th percentile against what they are alone, and the share of the best flood.
_HALF, _MOST, _SHARE = 1.5, 2.5, 0.9

Span = tuple[float, float]


@dataclass
class _Row:
    """One contender. ``waited``: milliseconds of the neighbour's requests by kind, of all rounds."""

    name: str
    rate: Figure | None
    waited: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in _KINDS})

    def quantile(self, kind: str, share: float) -> float:
        found = sorted(self.waited[kind])
        if not found:
            raise BenchmarkError(f"The neighbour had no {kind} answered: {self.name}.")
        return found[min(len(found) - 1, int(share * len(found)))]

    def text(self) -> str:
        waits = "  ".join(
            f"{kind.upper()} {self.quantile(kind, 0.5):5.1f} / {self.quantile(kind, 0.99):6.1f}" for kind in _KINDS
        )
        rate = "" if self.rate is None else f"{self.rate.median:,.0f}/s"
        return f"{self.name:<40} {rate:>8}  {waits}"


_Contender = Callable[[_Row], Span]


class _Table:
    """The rows of one part."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.rows: dict[str, _Row] = {}

    def row(self, name: str) -> _Row:
        if name not in self.rows:
            rate = None if name == _ALONE else self.part.figure(name, "objects/s", ours=name.startswith("impact"))
            self.rows[name] = _Row(name, rate)
        return self.rows[name]

    def finish(self) -> None:
        part, alone = self.part, self.rows[_ALONE]
        part.notes.append("Milliseconds that the neighbour's requests took, half of them and 99 of 100 at most:")
        part.notes += [row.text() for row in self.rows.values()]
        floods = [row for row in self.rows.values() if row.rate is not None and "flood" in row.name]
        best = max(row.rate.median for row in floods if row.rate is not None)

        def slower(name: str, share: float) -> float:
            return max(self.rows[name].quantile(kind, share) / alone.quantile(kind, share) for kind in _KINDS)

        part.notes.append(
            what_is_possible(
                [
                    Plain(row.name, row.rate.median / best, slower(row.name, 0.5), slower(row.name, 0.99))
                    for row in floods
                    if row.rate is not None
                ],
                _HALF,
                _MOST,
                _SHARE,
            )
        )

        def compared(name: str, half: float | None, most: float | None, rate: float | None) -> None:
            part.checks.append(Check(f"{name}: others' p50 / alone", slower(name, 0.5), "x", half, at_most=True))
            part.checks.append(Check(f"{name}: others' p99 / alone", slower(name, 0.99), "x", most, at_most=True))
            found = self.rows[name].rate
            if found is not None:
                part.checks.append(Check(f"{name} / the best flood", found.median / best, "x", rate))

        compared(_LOW, None, 1.3, None)
        compared(_NORMAL, _HALF, _MOST, _SHARE)
        compared(_HIGH, None, None, 0.95)
        if _WITH_LEVEL in self.rows:
            compared(_WITH_LEVEL, _HALF, _MOST, None)


@contextmanager
def _neighbour(cluster: Cluster, urls: Sequence[str], row: _Row) -> Iterator[list[Span]]:
    """Another client, meanwhile; what it noticed in the time spans that the block adds goes into the row."""
    flags = api_flags(cluster, ",".join(urls), user=f"user-{_USER}")
    command = [go_program(), "neighbour", *flags, "--namespace", _NAMESPACE]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    spans: list[Span] = []
    try:
        time.sleep(1.5)  # until its connections are open
        yield spans
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise BenchmarkError(f"The neighbour failed: {errors[-300:]}")
    found: dict[str, Any] = json.loads(out)
    if found["failed"]:
        raise BenchmarkError(f"{found['failed']} of the neighbour's requests failed beside {row.name}: {found['why']}.")
    if found["skipped"]:
        say(
            f"{found['skipped']} of the neighbour's requests were not sent, as eight of the kind were waiting: {row.name}"
        )
    for kind, samples in found["samples"].items():
        row.waited[kind] += [took for at, took in samples if any(begin <= at <= end for begin, end in spans)]


def _make_neighbour(cluster: Cluster) -> None:
    """Its objects, and two users who are not exempt from Priority and Fairness; the migrating one gets a level of its own."""
    names = [f"one-{number}" for number in range(_LISTED - 1)]
    items = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": _NAMESPACE},
            "data": {"k": "v" * 200},
        }
        for name in ("one", *names)
    ]
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name} for name in (_USER, _MIGRATING)]
    admins = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "bench"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": subjects,
    }
    cluster.kubectl("create", "namespace", _NAMESPACE)
    cluster.kubectl(
        "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [admins, *items]})
    )
    cluster.user_kubeconfig(_USER)
    cluster.kubectl("apply", "-f", str(_PRIORITY))


def _flood(cluster: Cluster, urls: Sequence[str], at_once: int, count: int, row: _Row) -> Span:
    done = go("flood", *api_flags(cluster, ",".join(urls)), "--concurrency", str(at_once))
    require_rewritten("the flood", done["rewritten"], count)
    _add(row, count / done["seconds"])
    return done["started"], done["started"] + done["seconds"]


def _module(bench: Bench, cluster: Cluster, count: int, row: _Row, **params: Any) -> Span:
    """The span from the first list to the last patch."""
    done = bench.migrate(cluster, **params)
    require_rewritten("the module", done.result["rewritten"], count)
    _add(row, done.result["resources"]["configmaps"]["rate"])
    history = done.result["history"]
    started = datetime.fromisoformat(history["started"].replace("Z", "+00:00")).timestamp()
    samples = history["samples"]
    return started + samples[0]["seconds"] - 0.25, started + samples[-1]["seconds"]


def _add(row: _Row, rate: float) -> None:
    if row.rate is not None:
        row.rate.runs.append(rate)


def _contend(
    bench: Bench, table: _Table, cluster: Cluster, objects: Objects, contenders: Mapping[str, tuple[int, _Contender]]
) -> None:
    """One round: each contender on fresh stale objects, with the neighbour beside it."""
    for name, (count, contender) in contenders.items():
        row = table.row(name)
        objects.clear(count)
        objects.put(count, stale=True)
        with _neighbour(cluster, cluster.urls, row) as spans, watched(cluster, "client and neighbour") as cores:
            spans.append(contender(row))
        if row.rate is not None:
            row.rate.limited_by = cores.text
        say(row.text())


def _usual(bench: Bench, cluster: Cluster, at_once: Sequence[int], many: int, few: int) -> dict[str, Any]:
    """The contenders of every part: nobody, the flood's curve, and the module."""
    urls = cluster.urls

    def alone(_row: _Row) -> Span:
        started = time.time()
        time.sleep(max(2.0, 12 * bench.scale))
        return started, time.time()

    found: dict[str, tuple[int, _Contender]] = {_ALONE: (few, alone)}
    for number in at_once:
        found[f"Go flood, {number} in flight"] = (
            many,
            partial(_flood, cluster, urls, number, many),
        )
    for impact, count in (("low", few), ("normal", many), ("high", many)):
        found[f"impact: {impact}"] = (
            count,
            partial(_module, bench, cluster, count, impact=impact),
        )
    return found


def one_server(bench: Bench) -> Part:
    """One API server: everybody, those that people use today and the priority level included."""
    many, few = bench.size(8_000), bench.size(2_000)
    part = Part(
        "neighbours", f"{many:,} stale ConfigMaps beside another client, one API server ({few:,} for slow ones)"
    )
    table = _Table(part)
    with bench.cluster("neighbours", masters=1, controllers=_CONTROLLERS) as cluster:
        cluster.stop("controller-manager")
        objects = Objects(cluster)
        _make_neighbour(cluster)
        migrating = str(cluster.user_kubeconfig(_MIGRATING))

        def kubectl(row: _Row) -> Span:
            started = time.time()
            _add(row, few / kubectl_replace(cluster))
            return started, time.time()

        def in_tree(row: _Row) -> Span:
            cluster.start("controller-manager")
            started = time.time()
            _add(row, in_tree_rate(cluster, objects))
            cluster.stop("controller-manager")
            return started, time.time()

        for _round in range(bench.rounds):
            contenders = _usual(bench, cluster, (1, 2, 3, 4, 8, 16, 32), many, few)
            contenders[_WITH_LEVEL] = (
                few,
                partial(_module, bench, cluster, few, impact="high", kubeconfig=migrating),
            )
            contenders["kubectl get and replace"] = (few, kubectl)
            contenders["in-tree controller"] = (few, in_tree)
            _contend(bench, table, cluster, objects, contenders)
    table.finish()
    return part


def three_servers(bench: Bench) -> Part:
    """Three API servers that share the machine."""
    many, few = bench.size(8_000), bench.size(2_000)
    part = Part("neighbours_three", f"{many:,} stale ConfigMaps beside another client of three API servers")
    table = _Table(part)
    with bench.cluster("neighbours-three", masters=3) as cluster:
        objects = Objects(cluster)
        _make_neighbour(cluster)
        for _round in range(bench.rounds):
            _contend(bench, table, cluster, objects, _usual(bench, cluster, (3, 6, 12, 24), many, few))
    table.finish()
    return part


def cores_apart(bench: Bench) -> Part:
    """API server and etcd on one core, the clients on the other, which tells the server's limit from the client's cost."""
    many, few = bench.size(4_000), bench.size(1_000)
    part = Part(
        "neighbours_apart", f"{many:,} stale ConfigMaps; API server and etcd on one core, all clients on another"
    )
    table = _Table(part)
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        raise BenchmarkError("This part needs two cores.")
    first, second = sorted(before)[:2]
    with bench.cluster("neighbours-apart", masters=1) as cluster:
        objects = Objects(cluster)
        _make_neighbour(cluster)
        for process in cluster.data["processes"].values():
            for thread in Path(f"/proc/{process['pid']}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {first})
        os.sched_setaffinity(0, {second})
        try:
            for _round in range(bench.rounds):
                _contend(bench, table, cluster, objects, _usual(bench, cluster, (1, 2, 4, 8, 16), many, few))
        finally:
            os.sched_setaffinity(0, before)
    table.finish()
    return part
