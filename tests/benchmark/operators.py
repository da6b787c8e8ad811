# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What operators ship to migrate their own CRDs, in Knative's form, beside storage_migrate: how fast, and what a refused object does to it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.benchmark.bench import Bench, require_rewritten, say
from tests.benchmark.cores import watched
from tests.benchmark.figures import Check, Figure, Part
from tests.benchmark.objects import CustomObjects
from tests.benchmark.tools import BenchmarkError, ModuleRun
from tests.control_plane import build
from tests.control_plane.cluster import Cluster
from tests.integration.support.modules import NO_REQUESTS
from tests.integration.support.objects import freeze

# More requests per second than any server answers: its own limit is what a user would lift first.
_NO_LIMIT = ("--kube-api-qps=100000", "--kube-api-burst=100000")
_KNATIVE, _OURS = "Knative's migrator without its limit", "storage_migrate"


def peers(bench: Bench) -> Part:
    """Custom resources of a CRD whose storage version has changed; all of them, and then with one that a policy refuses."""
    count, sample = bench.size(2_000), bench.size(100)
    part = Part(
        "operators",
        f"{count:,} custom resources stored in an old version, one API server ({sample} with Knative's own limit)",
    )
    limited = part.figure("Knative's migrator, its defaults", "objects/s")
    knative = part.figure(_KNATIVE, "objects/s")
    ours = part.figure(f"{_OURS}, start-up included", "objects/s", ours=True)
    inside = part.figure(f"{_OURS}, from the first list to the last patch", "objects/s", ours=True)
    with bench.cluster("operators", masters=1) as cluster:
        objects = CustomObjects(cluster)
        for turn in range(bench.rounds):
            contenders: list[Callable[[], None]] = [
                lambda: _knative_turn(cluster, objects, knative, count, *_NO_LIMIT),
                lambda: _our_turn(bench, cluster, objects, (ours, inside), count),
            ]
            for contender in contenders if turn % 2 == 0 else reversed(contenders):
                contender()
            objects.clear(sample)
            _knative_turn(cluster, objects, limited, sample)
            say(f"round {turn + 1}: " + ", ".join(f"{figure.runs[-1]:.0f}/s" for figure in part.figures))
        _refused(bench, cluster, objects, part, count)
    part.ratio("storage_migrate, start-up included / Knative's migrator without its limit", ours, knative)
    return part


def _knative(cluster: Cluster, *flags: str) -> tuple[int, str]:
    """Exit status of Knative's migrator, and the last that it says."""
    program = build.binaries(build.knative_migrator()) / "knative-migrator"
    command = [str(program), f"--kubeconfig={cluster.kubeconfig}", *flags, CustomObjects.NAME]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [json.loads(line)["message"] for line in (done.stdout + done.stderr).splitlines() if line.startswith("{")]
    if not said:
        raise BenchmarkError(f"Knative's migrator said: {done.stderr[-500:]}")
    return done.returncode, str(said[-1])


def _knative_turn(cluster: Cluster, objects: CustomObjects, figure: Figure, count: int, *flags: str) -> None:
    objects.put_all_stale(count)
    started = time.monotonic()
    with watched(cluster, "migrator") as cores:
        status, said = _knative(cluster, *flags)
    figure.runs.append(count / (time.monotonic() - started))
    if status != 0:
        raise BenchmarkError(f"Knative's migrator failed: {said}")
    require_rewritten("Knative's migrator", count - objects.count_stale(), count)
    figure.limited_by = f"{'one patch at a time' if flags else '5 requests per second'}; {cores.text}"


def _our_turn(
    bench: Bench, cluster: Cluster, objects: CustomObjects, figures: tuple[Figure, Figure], count: int
) -> None:
    objects.put_all_stale(count)
    with watched(cluster, "Ansible and module") as cores:
        done = _migrate(bench, cluster)
    require_rewritten("the module", count - objects.count_stale(), count)
    whole, inside = figures
    whole.runs.append(count / done.wall)
    inside.runs.append(done.result["resources"][objects.NAME]["rate"])
    whole.limited_by = cores.text


def _migrate(bench: Bench, cluster: Cluster, **params: Any) -> ModuleRun:
    """As where the CRD was edited long ago. Right after that, the module would wait for the writes that may still be under way."""
    return bench.migrate(cluster, resources=[CustomObjects.NAME], request_timeout=NO_REQUESTS, **params)


def _refused(bench: Bench, cluster: Cluster, objects: CustomObjects, part: Part, count: int) -> None:
    """One object in the middle that a policy refuses to have written: what each leaves in etcd, and what it says."""

    def with_knative() -> str:
        status, said = _knative(cluster, *_NO_LIMIT)
        return f"exit status {status}: {said}"

    def with_ours() -> str:
        done = _migrate(bench, cluster, may_fail=True)
        return f"{'failed' if done.failed else 'not failed'}: {done.result['msg']}"

    objects.put_all_stale(count)
    name = f"object-{count // 2:07d}"
    freeze(cluster, "frozen", objects.NAME, f"object.metadata.name != '{name}'", name)
    for who, run, most in ((_KNATIVE, with_knative, None), (_OURS, with_ours, 1.0)):
        objects.put_all_stale(count)
        said = run()
        left = objects.count_stale()
        part.checks.append(
            Check(f"{who}: left in the old version where one is refused", left, "objects", most, at_most=True)
        )
        part.notes.append(
            f"{who}, with {name} refused: storedVersions is {', '.join(objects.stored_versions())}; {said}"
        )
