# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of the benchmark. Each makes its own cluster or stub, measures, and returns a Part."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmark import big, fleet, neighbours, operators, tools
from tests.benchmark.bench import MIGRATE, Bench, require_rewritten, say
from tests.benchmark.cores import watched
from tests.benchmark.figures import Check, Part
from tests.benchmark.objects import Objects
from tests.benchmark.today import in_tree_rate, kubectl_replace
from tests.benchmark.tools import BenchmarkError, api_flags, etcd_flags, go
from tests.control_plane.cluster import Cluster
from tests.control_plane.processes import wait_for

_INFO = "stored_versions_info"
_CONTROLLERS = "garbage-collector-controller,storage-version-migrator-controller"


def flood(bench: Bench) -> Part:
    """The module against the limit, and against what people use today."""
    count, sample = bench.size(20_000), bench.size(1_000)
    part = Part("flood", f"{count:,} stale ConfigMaps, one API server ({sample:,} for the two slow ones)")
    limit = part.figure("Go flood of the same patch, 16 at a time", "objects/s")
    module = part.figure("storage_migrate with impact: high, start-up included", "objects/s", ours=True)
    inside = part.figure("storage_migrate, from the first list to the last patch", "objects/s", ours=True)
    in_tree = part.figure("in-tree StorageVersionMigration, its defaults", "objects/s")
    kubectl = part.figure("kubectl get -o json | kubectl replace -f -", "objects/s")
    with bench.cluster("flood", masters=1, controllers=_CONTROLLERS) as cluster:
        cluster.stop("controller-manager")
        objects = Objects(cluster)
        for turn in range(bench.rounds):
            # They take turns going first, so that neither always gets the fresher server.
            contenders: list[Callable[[], None]] = [
                lambda: _flood_turn(cluster, objects, limit, count),
                lambda: _module_turn(bench, cluster, objects, module, inside, count),
            ]
            for contender in contenders if turn % 2 == 0 else reversed(contenders):
                contender()
            objects.clear(sample)
            objects.put(sample, stale=True)
            with watched(cluster, "kubectl") as cores:
                kubectl.runs.append(sample / kubectl_replace(cluster))
            kubectl.limited_by = "one object at a time, and a whole one each way; " + cores.text
            require_rewritten("kubectl", sample - objects.count_stale(), sample)
            objects.put(sample, stale=True)
            cluster.start("controller-manager")
            with watched(cluster, "kubectl") as cores:
                in_tree.runs.append(in_tree_rate(cluster, objects))
            in_tree.limited_by = "one patch at a time; " + cores.text
            require_rewritten("the in-tree controller", sample - objects.count_stale(), sample)
            cluster.stop("controller-manager")
            say(f"round {turn + 1}: " + ", ".join(f"{figure.runs[-1]:.0f}/s" for figure in part.figures))
    part.ratio("module, start-up included / flood", module, limit, 0.95)
    part.ratio("module / in-tree controller", module, in_tree, 5)
    part.ratio("module / kubectl get and replace", module, kubectl)
    return part


def _flood_turn(cluster: Cluster, objects: Objects, figure: Any, count: int) -> None:
    objects.put(count, stale=True)
    with watched(cluster, "flood") as cores:
        done = go("flood", *api_flags(cluster))
    require_rewritten("the flood", done["rewritten"], count)
    figure.runs.append(count / done["seconds"])
    figure.limited_by = cores.text


def _module_turn(bench: Bench, cluster: Cluster, objects: Objects, whole: Any, inside: Any, count: int) -> None:
    objects.put(count, stale=True)
    with watched(cluster, "Ansible and module") as cores:
        done = bench.migrate(cluster, impact="high")
    require_rewritten("the module", done.result["rewritten"], count)
    whole.runs.append(count / done.wall)
    inside.runs.append(done.result["resources"]["configmaps"]["rate"])
    whole.limited_by = cores.text


def latency(bench: Bench) -> Part:
    """With time added to each round trip."""
    count = bench.size(10_000)
    part = Part("latency", f"{count:,} stale ConfigMaps with added round trip, both 32 at a time, by a delaying proxy")
    with bench.cluster("latency", masters=1) as cluster:
        objects = Objects(cluster)
        with _proxies(cluster, [2, 20]) as proxies:
            for turn in range(bench.rounds):
                for milliseconds, url in proxies.items():
                    limit = part.figure(f"flood, {milliseconds} ms", "objects/s")
                    module = part.figure(
                        f"storage_migrate, {milliseconds} ms, without start-up", "objects/s", ours=True
                    )
                    whole = part.figure(
                        f"storage_migrate, {milliseconds} ms, start-up included", "objects/s", ours=True
                    )
                    objects.put(count, stale=True)
                    with watched(cluster, "flood") as cores:
                        done = go("flood", *api_flags(cluster, url), "--concurrency", "32")
                    require_rewritten("the flood", done["rewritten"], count)
                    limit.runs.append(count / done["seconds"])
                    limit.limited_by = cores.text
                    objects.put(count, stale=True)
                    with watched(cluster, "Ansible and module") as cores:
                        ran = bench.migrate(cluster, workers=32, servers=[url], **_credentials(cluster, url))
                    require_rewritten("the module", ran.result["rewritten"], count)
                    module.runs.append(ran.result["resources"]["configmaps"]["rate"])
                    whole.runs.append(count / ran.wall)
                    module.limited_by = cores.text
                    say(f"round {turn + 1}, {milliseconds} ms: {limit.runs[-1]:.0f}/s, {module.runs[-1]:.0f}/s")
            for milliseconds, url in proxies.items():
                added = _round_trip(cluster, url) - _round_trip(cluster, cluster.urls[0])
                part.notes.append(f"The proxy for {milliseconds} ms was measured to add {added:.1f} ms.")
    for milliseconds in (2, 20):
        part.ratio(
            f"module / flood at {milliseconds} ms",
            part.figure(f"storage_migrate, {milliseconds} ms, without start-up"),
            part.figure(f"flood, {milliseconds} ms"),
            0.9,
        )
        part.ratio(
            f"module with start-up / flood at {milliseconds} ms",
            part.figure(f"storage_migrate, {milliseconds} ms, start-up included"),
            part.figure(f"flood, {milliseconds} ms"),
        )
    return part


def _credentials(cluster: Cluster, url: str) -> dict[str, str]:
    admin = cluster.certificate("admin")
    return {
        "host": url,
        "ca_cert": str(cluster.certificate("ca").cert),
        "client_cert": str(admin.cert),
        "client_key": str(admin.key),
    }


@contextmanager
def _proxies(cluster: Cluster, milliseconds: list[int]) -> Iterator[dict[int, str]]:
    """URLs of delaying proxies in front of the first server, by the round trip that each adds."""
    backend = cluster.urls[0].removeprefix("https://")
    running, urls = [], {}
    try:
        for delay in milliseconds:
            address = f"{cluster.network.gateway}:{7000 + delay}"
            command = [str(cluster.folder / "bin" / "tcp-proxy"), "--listen", address, "--backends", backend]
            running.append(subprocess.Popen([*command, "--delay", f"{delay * 500}us"]))
            urls[delay] = f"https://{address}"
        for url in urls.values():
            if not wait_for(lambda url=url: _answers(cluster, url), 10.0):  # type: ignore[misc]
                raise BenchmarkError(f"The proxy {url} does not answer.")
        yield urls
    finally:
        for process in running:
            process.terminate()
            process.wait()


def _answers(cluster: Cluster, url: str) -> bool:
    try:
        return _round_trip(cluster, url, 1) > 0
    except OSError:
        return False


def _round_trip(cluster: Cluster, url: str, times: int = 21) -> float:
    """Milliseconds of a small request over a connection that exists: the median."""
    admin = cluster.certificate("admin")
    context = ssl.create_default_context(cafile=str(cluster.certificate("ca").cert))
    context.load_cert_chain(admin.cert, admin.key)
    host, _colon, port = url.removeprefix("https://").partition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=10)
    took = []
    for _turn in range(times + 1):
        started = time.monotonic()
        connection.request("GET", "/version")
        connection.getresponse().read()
        took.append(time.monotonic() - started)
    connection.close()
    return sorted(took[1:])[times // 2] * 1000


def rate(bench: Bench) -> Part:
    """Whether max_rate is held: seen by the server, not by the module."""
    part = Part("rate", "max_rate, as a stub server and a real one count it")
    worst = 0.0
    for wanted in (100, 500, 2000):
        with tools.stub(bench.folder, resources=1, objects=wanted * 8) as stub:
            tools.run_module(MIGRATE, bench.folder, **stub.params, max_rate=wanted)
            tenths = {int(key): value for key, value in stub.stats()["tenths"].items()}
        # The whole tenths of a second between the first and the last.
        whole = range(min(tenths) + 1, max(tenths))
        seen = sum(tenths.get(tenth, 0) for tenth in whole) / (len(whole) / 10)
        part.figure(f"max_rate {wanted}, stub", "objects/s", ours=True).runs.append(seen)
        worst = max(worst, abs(seen / wanted - 1))
    with bench.cluster("rate", masters=1) as cluster:
        objects = Objects(cluster)
        objects.put(1_500, stale=True)
        done = bench.migrate(cluster, max_rate=150)
        seen = done.result["resources"]["configmaps"]["rate"]
        part.figure("max_rate 150, real API server", "objects/s", ours=True).runs.append(seen)
        worst = max(worst, abs(seen / 150 - 1))
    part.checks.append(Check("largest deviation from max_rate", worst * 100, "%", 5, at_most=True))
    return part


def spread(bench: Bench) -> Part:
    """Three API servers, each with the same small share of a core, against one of them."""
    cores, count = 0.25, bench.size(2_000)
    part = Part("spread", f"stale ConfigMaps, each API server limited to {cores} cores by its cgroup")
    with bench.cluster("spread", masters=3, cpu_quota=2.0) as cluster:
        objects = Objects(cluster)
        objects.put(3 * count, stale=True)
        cluster.limit_cpu(cores)
        alone = part.figure("storage_migrate through one server", "objects/s", ours=True)
        together = part.figure("storage_migrate through three servers", "objects/s", ours=True)
        for turn in range(bench.rounds):
            for figure, servers in ((alone, cluster.urls[:1]), (together, cluster.urls)):
                size = count * len(servers)
                cluster.limit_cpu(2.0)
                objects.clear(size)
                objects.put(size, stale=True)
                cluster.limit_cpu(cores)
                with watched(cluster, "Ansible and module") as used:
                    done = bench.migrate(cluster, servers=servers)
                require_rewritten("the module", done.result["rewritten"], size)
                figure.runs.append(done.result["resources"]["configmaps"]["rate"])
                figure.limited_by = used.text
            say(f"round {turn + 1}: {alone.runs[-1]:.0f}/s, {together.runs[-1]:.0f}/s")
    part.ratio("three servers / one", together, alone, 2.5)
    return part


def ceiling(bench: Bench) -> Part:
    """What the client can do on its own, on a stub that answers at once."""
    count = bench.size(30_000)
    part = Part("ceiling", f"{count:,} patches to a stub server that answers at once, over TLS")
    module = part.figure("storage_migrate, one process", "objects/s", ours=True)
    with tools.stub(bench.folder, resources=1, objects=count) as stub:
        for turn in range(bench.rounds):
            with watched(None, "Ansible and module") as cores:
                done = tools.run_module(MIGRATE, bench.folder, **stub.params, impact="high")
            require_rewritten("the module", done.result["rewritten"], count)
            module.runs.append(next(iter(done.result["resources"].values()))["rate"])
            module.limited_by = "one core of Python; " + cores.text
            for library, name in (("sockets", "its HTTP adapter"), ("aiohttp", "aiohttp"), ("urllib3", "urllib3")):
                found = _raw(library, stub, count // 3)
                figure = part.figure(f"{name} alone, without the module's work", "objects/s", ours=library == "sockets")
                figure.runs.append(found["rate"])
                figure.limited_by = f"{found['cpu_us']:.0f} µs of a core for each request"
            stub.stats()
            (bench.folder / "stub-state.json").unlink(missing_ok=True)
            say(f"round {turn + 1}: " + ", ".join(f"{figure.runs[-1]:.0f}/s" for figure in part.figures))
    part.checks.append(Check("the module's ceiling", module.median, "objects/s", 3000))
    return part


def _raw(library: str, stub: tools.Stub, count: int) -> dict[str, float]:
    command = [
        sys.executable,
        str(Path(__file__).with_name("raw_http.py")),
        library,
        stub.url,
        str(stub.ca),
        str(count),
        "32",
    ]
    environment = {**os.environ, "PYTHONPATH": str(tools.ROOT / ".ansible" / "collections")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def memory(bench: Bench) -> Part:
    """The module process's memory. A stub serves: it is this process that counts, not the server's."""
    part = Part("memory", "peak memory (RSS) of the module's process, 50 resources on a stub server")
    sizes = [bench.size(objects) for objects in (20_000, 200_000)]
    for total in sizes:
        count = total // 50
        with tools.stub(bench.folder, resources=50, objects=count) as stub:
            done = tools.run_module(MIGRATE, bench.folder, **stub.params)
        require_rewritten("the module", done.result["rewritten"], 50 * count)
        part.figure(f"storage_migrate, {total:,} objects", "MiB", ours=True).runs.append(done.peak)
        part.figure(f"storage_migrate, {total:,} objects, rate", "objects/s", ours=True).runs.append(
            done.result["rate"]
        )
        say(f"{total:,}: {done.peak:.0f} MiB")
    few, many = (part.figure(f"storage_migrate, {total:,} objects").median for total in sizes)
    part.checks.append(Check(f"peak for {sizes[1]:,} objects", many, "MiB", 150, at_most=True))
    part.checks.append(Check(f"memory, {sizes[1]:,} / {sizes[0]:,} objects", many / few, "x", 1.1, at_most=True))
    return part


def idle(bench: Bench) -> Part:
    """``select: changed`` where nothing is stale."""
    part = Part("idle", "select: changed on a migrated cluster with 10,000 ConfigMaps, three API servers")
    whole = part.figure("the whole command, start-up included", "s", ours=True)
    inside = part.figure("the module's own work", "s", ours=True)
    ansible = part.figure("ansible -m ping, for comparison", "s")
    store = {"kind": "configmap"}
    with bench.cluster("idle", masters=3) as cluster:
        objects = Objects(cluster)
        objects.put(bench.size(10_000), stale=False)
        bench.migrate(cluster, resources=[], state_store=store)
        before = _lists(cluster)
        for _turn in range(max(3, bench.rounds)):
            done = bench.migrate(cluster, resources=[], state_store=store, select="changed")
            if done.result["changed"] or done.result["resources"]:
                raise BenchmarkError("select: changed found something to do on a migrated cluster.")
            whole.runs.append(done.wall)
            inside.runs.append(done.result["seconds"])
            ansible.runs.append(tools.run_module("ansible.builtin.ping", bench.folder, data="pong").wall)
        after = _lists(cluster)
    asked = {name: after[name] - before.get(name, 0) for name in after if after[name] > before.get(name, 0)}
    # What it takes to find the servers and what each of them stores; none of it is there to be migrated.
    needed = {"apiservices", "endpointslices", "leases", "nodes"}
    part.notes.append(f"Lists that the API servers counted meanwhile: {', '.join(sorted(asked)) or 'none'}.")
    part.checks.append(Check("the whole command", whole.median, "s", 2, at_most=True))
    part.checks.append(Check("resources listed for migration", len(set(asked) - needed), "", 0, at_most=True))
    return part


def _lists(cluster: Cluster) -> dict[str, int]:
    """LIST requests by resource, summed over all servers, from their own metrics."""
    found: dict[str, int] = {}
    for name in cluster.masters:
        text = cluster.kubectl("get", "--raw", "/metrics", kubeconfig=cluster.folder / f"kubeconfig-{name}")
        for line in re.findall(r'^apiserver_request_total\{.*verb="LIST".*$', text, re.MULTILINE):
            resource = re.search(r'resource="([^"]*)"', line)
            if resource:
                found[resource[1]] = found.get(resource[1], 0) + int(float(line.rsplit(" ", 1)[1]))
    return found


def etcd(bench: Bench) -> Part:
    """stored_versions_info: speed, memory, and what it does to etcd."""
    part = Part("etcd", "stored_versions_info, one etcd (ConfigMaps, a tenth of them stale)")
    sizes = [bench.size(objects) for objects in (20_000, 200_000, 500_000)]
    with bench.cluster("etcd", masters=1) as cluster:
        objects = Objects(cluster)
        cluster.stop("master-1")  # its cache would only hold them twice
        held = 0
        for size in sizes:
            objects.put(size - held, stale=False, first=held, settle=False)
            objects.put(size // 10, stale=True, settle=False)
            held = size
            speed = part.figure(f"scan of {size:,} objects", "objects/s", ours=True)
            peak = part.figure(f"peak memory, {size:,} objects", "MiB", ours=True)
            for _turn in range(bench.rounds if size < sizes[-1] else 1):
                with watched(cluster, "Ansible and module") as cores:
                    done = tools.run_module(_INFO, bench.folder, etcd=cluster.etcd)
                if done.result["resources"]["configmaps"]["objects"] < size:
                    raise BenchmarkError("The scan did not see all objects.")
                speed.runs.append(done.result["rate"])
                speed.limited_by = cores.text
                peak.runs.append(done.peak)
            say(f"{size:,}: {speed.median:.0f}/s, {peak.median:.0f} MiB")
        for name, limit in (("alone", None), ("beside a scan", 0), ("beside a scan with max_rate 5000", 5_000)):
            found = _probe(bench, cluster, limit)
            for what in ("put", "read"):
                for share in ("p50", "p99"):
                    part.figure(f"etcd's {what}, {share}, {name}", "ms").runs.append(found[f"{what}_{share}_ms"])
    slowest = min(part.figure(f"scan of {size:,} objects").median for size in sizes[1:])
    part.checks.append(Check("slowest scan", slowest, "objects/s", 10_000))
    few, many = (part.figure(f"peak memory, {size:,} objects").median for size in (sizes[0], sizes[-1]))
    part.checks.append(Check(f"memory, {sizes[-1]:,} / {sizes[0]:,} objects", many / few, "x", 1.1, at_most=True))
    return part


def _probe(bench: Bench, cluster: Cluster, max_rate: int | None) -> dict[str, float]:
    """etcd's latency for six seconds; beside a scan unless ``max_rate`` is None."""
    probe = [*etcd_flags(cluster), "--seconds", "6"]
    if max_rate is None:
        return go("probe", *probe)
    with tools.module_beside(_INFO, bench.folder, etcd=cluster.etcd, max_rate=max_rate):
        time.sleep(2.0)  # until it reads
        return go("probe", *probe)


def stale(bench: Bench) -> Part:
    """``select: stale`` against visiting everything, where one object in a hundred is stale."""
    count = bench.size(100_000)
    few = count // 100
    part = Part(
        "stale", f"{count:,} ConfigMaps, {few:,} of them stale, one API server; the whole command, start-up included"
    )
    everything = part.figure("select: all", "s")
    chosen = part.figure("select: stale", "s", ours=True)
    untouched = part.figure("select: stale, objects visited in vain")
    with bench.cluster("stale", masters=1) as cluster:
        objects = Objects(cluster)
        objects.put(count, stale=False)
        for turn in range(bench.rounds):
            for figure, params in (
                (chosen, {"select": "stale", "etcd": cluster.etcd}),
                (everything, {"select": "all"}),
            ):
                objects.put(few, stale=True)
                with watched(cluster, "Ansible and module") as cores:
                    done = bench.migrate(cluster, **params)
                require_rewritten("the module", done.result["rewritten"], few)
                figure.runs.append(done.wall)
                figure.limited_by = cores.text
                if figure is chosen:
                    untouched.runs.append(done.result["unchanged"])
                    if (done.result["proof"] or {}).get("stale") != 0:
                        raise BenchmarkError(f"The proof from etcd is {done.result['proof']}.")
            say(f"round {turn + 1}: {chosen.runs[-1]:.1f} s, {everything.runs[-1]:.1f} s")
    part.ratio("visiting all / select: stale", everything, chosen, 15)
    part.checks.append(Check("objects visited in vain", untouched.median, "", few / 100, at_most=True))
    return part


PARTS: dict[str, Callable[[Bench], Part]] = {
    "flood": flood,
    "latency": latency,
    "rate": rate,
    "spread": spread,
    "ceiling": ceiling,
    "memory": memory,
    "idle": idle,
    "etcd": etcd,
    "stale": stale,
    "large": big.large_objects,
    "big": big.many_objects,
    "fleet": fleet.stub_clusters,
    "operators": operators.peers,
    "neighbours": neighbours.one_server,
    "neighbours_three": neighbours.three_servers,
    "neighbours_apart": neighbours.cores_apart,
}
