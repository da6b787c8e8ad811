# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role rolling_upgrade: one master at a time, whatever the play."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.control_plane.cluster import Cluster

from .support import browser, warm_python
from .support.etcd import read_etcd
from .support.modules import run_module
from .support.objects import install_widgets
from .support.plays import DRIVERS, Play, run_playbook


@pytest.fixture
def play(new_cluster: Callable[..., Cluster], tmp_path: Path) -> Play:
    return Play(new_cluster(version="1.36"), tmp_path)


def assert_one_at_a_time(play: Play) -> None:
    times = play.downtimes()
    assert len(times) == 3
    for earlier, later in zip(times, times[1:]):
        assert earlier[1] <= later[0], "two masters were down at the same time"


def changed(output: str) -> list[int]:
    import re

    return [int(number) for number in re.findall(r" changed=(\d+) ", output)]


def own_modules(started: Path) -> list[str]:
    """The collection's modules that were started, without those that look at markers, which other tests leave on this host, too."""
    names = [line.partition("\t")[0] for line in started.read_text(encoding="utf-8").splitlines()]
    return [name for name in names if name.startswith("kube_storage.") and not name.endswith(".upgrade_step")]


def versions(cluster: Cluster) -> list[str]:
    servers = run_module(cluster, "storage_version_hashes")["servers"]
    return [server["emulated_version"] or "1.37" for server in servers]


def test_a_platform_that_rolls_its_own_masters(play: Play) -> None:
    """By a driver of the user's own, which first gets stuck halfway, and is run on the first of the play's hosts only."""
    fixed = play.folder / "fixed"
    variables = {"rolling_upgrade_driver": str(DRIVERS / "all_masters"), "operator_fixed": str(fixed)}
    unknown = play.run(variables={"rolling_upgrade_driver": "magic"})
    assert (
        "rolling_upgrade_driver is 'magic', but must be " in unknown.stdout
        and "No master was touched." in unknown.stdout
    )
    refused = play.run(variables=variables)
    assert "My driver wants a reason." in refused.stdout and not play.downtimes()
    variables["reason"] = "an upgrade"
    half = play.run(variables=variables)
    assert half.returncode == 2 and len(play.downtimes()) == 2
    assert "The upgrade of the cluster to 1.37 failed: The operator is stuck. Now: " in half.stdout
    assert "Nothing was migrated." in half.stdout and "PLAY RECAP" in half.stdout
    assert (
        play.report()["status"] == "failed" and "Wait until every API server is at the new version" not in half.stdout
    )
    fixed.touch()
    done = play.run(variables=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_one_at_a_time(play)
    assert versions(play.cluster) == ["1.37"] * 3 and "Proven from etcd" in done.stdout
    assert play.report()["status"] == "succeeded" and play.report()["proof"]["etcd"] is True


@pytest.mark.parametrize(("serial", "reverse"), [("100%", False), (2, True)])
def test_one_master_at_a_time_and_nothing_on_the_second_run(
    play: Play, serial: str | int, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of tasks and of modules are those of issue 15, number 9: starting a module costs more than its work."""
    started = play.folder / "started"
    monkeypatch.setenv("MODULE_STARTS", str(started))
    own = {"rolling_upgrade_driver": str(DRIVERS / "each_master"), "reason": "why not"} if reverse else {}
    tasks = "fail" if own else "upgrade_master"
    done = play.run(tasks=tasks, reverse=reverse, variables={"play_serial": serial, **own})
    assert done.returncode == 0, done.stdout + done.stderr
    assert_one_at_a_time(play)
    assert "Masters are mixed now; nothing may be migrated yet" in done.stdout
    assert "Proven from etcd" in done.stdout
    assert versions(play.cluster) == ["1.37"] * 3
    report = play.report()
    assert report["status"] == "succeeded" and report["proof"]["etcd"] is True
    assert report["stored"]["after"]["totals"]["stale"] == 0
    if serial == "100%":
        assert len(own_modules(started)) <= 18, own_modules(started)
        started.unlink()
        again = play.run()
        assert again.returncode == 0, again.stdout + again.stderr
        assert changed(again.stdout) == [0, 0, 0], again.stdout
        assert len(own_modules(started)) <= 10, own_modules(started)
        assert again.stdout.count("TASK [") <= 80, again.stdout


@dataclass
class Repaired:
    """A roll that stopped at master-2, and the one that continued after its repair; what each left."""

    play: Play
    stopped: subprocess.CompletedProcess[str]
    half: Play
    gone_on: subprocess.CompletedProcess[str]
    between: list[str]


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repaired]:
    folder = tmp_path_factory.mktemp("repaired")
    cluster = Cluster.up(folder / "cluster", version="1.36", owner_pid=os.getpid())
    try:
        install_widgets(cluster, 12)
        play = Play(cluster, folder)
        stopped = play.run(tasks="upgrade_master_but_kill_master_2")
        half = Play(cluster, folder / "half")
        half.folder.mkdir()
        for path in [*folder.glob("report.*"), *folder.glob("master-*.json")]:
            shutil.copy(path, half.folder)
        cluster.start("master-2")
        cluster.await_listed()
        between = versions(cluster)
        (folder / "master-1.json").unlink()
        yield Repaired(play, stopped, half, play.run(), between)
    finally:
        cluster.down()


def test_a_master_that_does_not_come_back_stops_the_roll(repaired: Repaired) -> None:
    said = repaired.stopped.stdout
    assert repaired.stopped.returncode != 0
    assert "The upgrade of master-2 (" in said and ") to 1.37 failed: " in said, said
    assert "is down" in said
    assert "The masters after it were not touched." in said and "STOPPED: The upgrade of master-2" in said
    assert said.count("fatal: [master-3]") == 0, said
    assert not (repaired.half.folder / "master-3.json").exists()
    assert repaired.between == ["1.37", "1.36", "1.36"]


def test_after_a_repair_it_resumes(repaired: Repaired) -> None:
    assert repaired.gone_on.returncode == 0, repaired.gone_on.stdout + repaired.gone_on.stderr
    assert not (repaired.play.folder / "master-1.json").exists(), "a master that was done was touched again"
    assert versions(repaired.play.cluster) == ["1.37"] * 3


def test_the_report_of_half_an_upgrade(repaired: Repaired) -> None:
    report = repaired.half.report()
    assert report["status"] == "failed"
    assert [(step["master"], step["state"]) for step in report["steps"]] == [
        ("master-1", "done"),
        ("master-2", "failed"),
    ]
    failure = report["runs"][0]["failures"][0]
    assert failure["host"] == "master-2" and ") to 1.37 failed: " in failure["message"]
    assert report["stored"]["before"]["totals"]["objects"] > 0 and report["stored"]["after"] is None
    assert report["migrations"] == []
    assert (
        f"The report shows what was found or done, and what is proven: {repaired.play.folder}/report.html"
        in repaired.stopped.stdout
    )


def test_the_second_run_continues_the_report(repaired: Repaired) -> None:
    half, report = repaired.half.report(), repaired.play.report()
    assert [run["status"] for run in report["runs"]] == ["failed", "succeeded"]
    assert report["steps"][:2] == half["steps"]
    assert [step["master"] for step in report["steps"][2:]] == ["master-2", "master-3"]
    assert report["observations"][: len(half["observations"]) - 1] == half["observations"][:-1]
    assert report["stored"]["before"] == half["stored"]["before"]
    moved = report["migrations"][-1]
    assert moved["resources"]["widgets.shop.example.com"]["rewritten"] == 12
    assert [crd["crd"] for crd in moved["trimmed"]] == ["widgets.shop.example.com"]
    assert moved["samples"], "no course of the migration"
    assert report["stored"]["after"]["totals"]["stale"] == 0 and report["proof"]["etcd"] is True
    down = [
        server
        for seen in report["observations"]
        for server in seen["servers"]
        if server["url"] == repaired.play.cluster.url("master-2") and not server["ready"]
    ]
    assert down, "nobody saw that master-2 was down"
    mixed = {
        version
        for seen in report["observations"]
        for version in seen["versions"].get("mutatingadmissionpolicies.admissionregistration.k8s.io", {}).values()
    }
    assert mixed == {"admissionregistration.k8s.io/v1beta1", "admissionregistration.k8s.io/v1"}
    for path in (repaired.play.folder / "report.json", repaired.play.folder / "report.html"):
        assert path.stat().st_mode & 0o077 == 0
        text = path.read_text(encoding="utf-8")
        assert "/registry/" not in text and "PRIVATE KEY" not in text and ".crt" not in text


@browser.NEEDED
@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (1100, "dark"), (390, "light")])
def test_a_browser_shows_the_reports(repaired: Repaired, tmp_path: Path, width: int, scheme: str) -> None:
    """A real one, from files, as a person opens them; PICTURES names a folder to keep the screenshots in."""
    keep = Path(os.environ.get("PICTURES") or tmp_path)
    keep.mkdir(parents=True, exist_ok=True)

    async def look() -> None:
        async with browser.browser(str(browser.find())) as page:
            await page.look(width=width, scheme=scheme)
            for name, play in (("half", repaired.half), ("whole", repaired.play)):
                url = (play.folder / "report.html").as_uri()
                page.requests.clear()
                await page.open(url)
                assert page.errors == []
                assert page.requests == [url], "the page asked for something else"
                await page.picture(keep / f"{name}-{scheme}-{width}.png")
                await check(page, name)
                assert await page.violations() == []
            assert (await page.printed()).startswith(b"%PDF")

    async def check(page: browser.Page, name: str) -> None:
        text = str(await page.evaluate("document.body.innerText"))
        if name == "half":
            for part in ("Stopped", "Where things stand, and what to do", "master-2 is down", "1 of 3"):
                assert part in text, text
        else:
            for part in (
                "Done and proven",
                "Upgrade to Kubernetes 1.37",
                "12",
                "in 2 runs",
                "widgets.shop.example.com",
            ):
                assert part in text, text
            tree = await page.call("Accessibility.getFullAXTree")
            names = [str(node.get("name", {}).get("value")) for node in tree["nodes"]]
            assert "The masters over time" in names and "Objects rewritten over time" in names
        # Each picture is shown in just one of its two layouts, and nothing makes the page wider than the screen.
        layout = "narrow" if width < 600 else "wide"
        shown = "[...document.querySelectorAll('svg')].filter(s => s.getClientRects().length).map(s => s.getAttribute('class'))"
        assert set(await page.evaluate(shown)) == {layout}
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(255, 255, 255)") == (scheme == "light")

    asyncio.run(look())


def test_the_playbook_migrate_writes_a_report(repaired: Repaired, tmp_path: Path) -> None:
    cluster = repaired.play.cluster
    variables = {
        "rolling_upgrade_kubeconfig": str(cluster.kubeconfig),
        "rolling_upgrade_etcd": cluster.etcd,
        "rolling_upgrade_report_path": "migration.html",
        "ansible_python_interpreter": warm_python.interpreter(),
    }
    done = run_playbook(
        "kube_storage.upgrade.migrate", tmp_path, "-i", "localhost,", "-c", "local", timeout=300, variables=variables
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "migration.json").read_text(encoding="utf-8"))
    assert report["version"] is None and report["status"] == "succeeded"
    assert report["stored"]["before"] and report["stored"]["after"] and len(report["migrations"]) == 1
    assert "Migration of stored objects" in (tmp_path / "migration.html").read_text(encoding="utf-8")


def test_not_begun_while_a_master_is_down(play: Play) -> None:
    play.cluster.kill("master-3")
    before = read_etcd(play.cluster, "/registry/configmaps/kube-system/")
    failed = play.run()
    assert failed.returncode != 0
    assert "The upgrade can't begin" in failed.stdout
    # It is named as long as it is listed: kube-apiserver takes one off the EndpointSlice 15 s after its last sign of life.
    assert play.cluster.url("master-3") in failed.stdout or "3 API servers are expected, 2 are known" in failed.stdout
    assert play.downtimes() == []
    assert read_etcd(play.cluster, "/registry/configmaps/kube-system/") == before
