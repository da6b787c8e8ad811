# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Big clusters: many objects and resources on a stub server, a resumed run, and large objects on a real one."""

from __future__ import annotations

import base64
import gzip
import time
from pathlib import Path

from tests.benchmark import tools
from tests.benchmark.bench import MIGRATE, Bench, require_rewritten, say
from tests.benchmark.cores import cpu_seconds
from tests.benchmark.figures import Check, Part
from tests.benchmark.objects import Objects
from tests.benchmark.tools import BenchmarkError
from tests.control_plane.cluster import Cluster

_RESOURCES = 2_000
_STATE_FILE = "stub-state.json"


def many_objects(bench: Bench) -> Part:
    """Whether memory, time for each object and the record stay the same, whatever the number of objects. One round."""
    part = Part("big", f"{_RESOURCES:,} resources on a stub server")
    sizes = [bench.size(objects) for objects in (1_000_000, 10_000_000)]
    for total in sizes:
        with tools.stub(bench.folder, resources=_RESOURCES, objects=total // _RESOURCES) as stub:
            done = tools.run_module(MIGRATE, bench.folder, **stub.params, impact="high", accept_unchecked=True)
            record = _stored_size(bench.folder / _STATE_FILE)
        require_rewritten("the module", done.result["rewritten"], total // _RESOURCES * _RESOURCES)
        part.figure(f"peak memory, {total:,} objects", "MiB", ours=True).runs.append(done.peak)
        part.figure(f"rate, {total:,} objects", "objects/s", ours=True).runs.append(done.result["rate"])
        part.figure(f"the record in its ConfigMap, {total:,} objects", "kB", ours=True).runs.append(record / 1000)
        say(f"{total:,}: {done.peak:.0f} MiB, {done.result['rate']:.0f}/s, {record / 1000:.0f} kB")
    few, many = (part.figure(f"peak memory, {total:,} objects").median for total in sizes)
    part.checks.append(Check(f"memory, {sizes[1]:,} / {sizes[0]:,} objects", many / few, "x", 1.1, at_most=True))
    fast, slow = (part.figure(f"rate, {total:,} objects").median for total in sizes)
    part.checks.append(Check(f"time for each object, {sizes[1]:,} / {sizes[0]:,}", fast / slow, "x", 1.1, at_most=True))
    largest = max(part.figure(f"the record in its ConfigMap, {total:,} objects").median for total in sizes)
    part.checks.append(Check("the record in its ConfigMap", largest, "kB", 200, at_most=True))
    _resumed(bench, part)
    return part


def _stored_size(path: Path) -> int:
    """Bytes that the record in a file takes in a ConfigMap, where it is compressed."""
    return len(base64.b64encode(gzip.compress(path.read_bytes(), mtime=0)))


def _resumed(bench: Bench, part: Part) -> None:
    """A run of one resource that is killed at nine tenths, and the next one."""
    total = bench.size(1_000_000)
    with tools.stub(bench.folder, resources=1, objects=total) as stub:
        params = {**stub.params, "impact": "high", "accept_unchecked": True}
        patched = 0
        with tools.module_beside(MIGRATE, bench.folder, **params):
            while patched < 0.9 * total:
                time.sleep(0.05)
                patched += stub.stats(forget_lease=False)["patches"]
        stub.stats()
        done = tools.run_module(MIGRATE, bench.folder, **params)
        again = stub.stats()["patches"]
    if not done.result["resumed"]:
        raise BenchmarkError("The second run did not resume the first one.")
    part.figure(f"objects patched after a kill at {patched:,} of {total:,}", ours=True).runs.append(again)
    # What was done since the last save, which happens every five seconds, is done again.
    allowed = total - patched + 6.0 * done.result["rate"] + 2_000
    part.checks.append(Check("patched after the kill / left or not yet saved", again / allowed, "x", 1.0, at_most=True))


def large_objects(bench: Bench) -> Part:
    """What lists and patches of large objects cost a real API server. One round."""
    part = Part("large", "large stale ConfigMaps, one API server")
    with bench.cluster("large", masters=1) as cluster:
        objects = Objects(cluster)
        for kilobytes, count in ((1, bench.size(2_000)), (100, bench.size(500)), (900, bench.size(100))):
            objects.clear()
            objects.put(count, stale=True, kilobytes=kilobytes)
            before, started = cpu_seconds(cluster, "master"), time.monotonic()
            done = bench.migrate(cluster)
            used = cpu_seconds(cluster, "master") - before
            require_rewritten("the module", done.result["rewritten"], count)
            name = f"{count:,} of {kilobytes} kB"
            part.figure(f"{name}", "objects/s", ours=True).runs.append(count / (time.monotonic() - started))
            part.figure(f"{name}, the API server's work", "ms").runs.append(1000 * used / count)
            part.figure(f"{name}, a write alone", "ms").runs.append(done.result["pace"]["servers"][0]["alone_ms"] or 0)
            part.figure(f"{name}, in flight").runs.append(done.result["pace"]["servers"][0]["in_flight"])
            part.figure(f"{name}, memory of the API server", "MiB").runs.append(_resident(cluster))
    return part


def _resident(cluster: Cluster) -> float:
    """The most memory that the API server has had."""
    pid = cluster.data["processes"]["master-1"]["pid"]
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0
