# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 18: a fleet in one inventory. A real cluster, and beside it what goes wrong with others: dead, without a kubeconfig, the same again."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.page import fleet_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import ClusterRow, FleetRecord
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.run import begun, folded
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.waves import planned_waves
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.fleet.fleet_data import (
    blocked,
    dead,
    report,
    stale,
)
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import at

from tests.control_plane.cluster import Cluster
from tests.tools.schemas import violations

from .support import browser
from .support.modules import NO_REQUESTS
from .support.objects import install_widgets
from .support.plays import run_playbook

WIDGETS = "widgets.shop.example.com"
PICTURES = os.environ.get("PICTURES")


class Fleet:
    """An inventory with one real cluster, ``shop``, and the folder of its runs."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.folder = folder
        silent = folder / "silent.kubeconfig"
        # Nothing listens at this port of its address.
        text = cluster.kubeconfig.read_text(encoding="utf-8")
        silent.write_text(
            text.replace(cluster.balancer_url, cluster.balancer_url.rpartition(":")[0] + ":9"), encoding="utf-8"
        )
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        shop = {"rolling_upgrade_kubeconfig": str(cluster.kubeconfig), "rolling_upgrade_etcd": cluster.etcd}
        hosts = {
            "shop": {**here, **shop, "rolling_upgrade_cluster_name": "the shop"},
            "dead": {**here, "rolling_upgrade_kubeconfig": str(silent)},
            "bare": here,
            "twin": {**here, **shop},
        }
        inventory = {"all": {"children": {"clusters": {"hosts": hosts}, "canary": {"hosts": {"dead": {}}}}}}
        (folder / "inventory.yml").write_text(json.dumps(inventory), encoding="utf-8")

    def run(self, *arguments: str, **fleet: Any) -> subprocess.CompletedProcess[str]:
        variables = {
            "rolling_upgrade_hosts": "clusters",
            "rolling_upgrade_request_timeout": NO_REQUESTS,
            **{f"rolling_upgrade_fleet_{name}": value for name, value in fleet.items()},
        }
        return run_playbook(
            "kube_storage.upgrade.fleet", self.folder, "-i", "inventory.yml", *arguments, variables=variables
        )

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "fleet" / "fleet.json").read_text(encoding="utf-8"))
        assert violations(found) == []
        for path in (self.folder / "fleet" / "clusters").glob("*/*.json"):
            assert violations(json.loads(path.read_text(encoding="utf-8"))) == [], path
        return found

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["host"]: row for row in self.record()["clusters"]}

    def metrics(self) -> list[str]:
        return (self.folder / "fleet" / "metrics.prom").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def fleet(single_master: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    install_widgets(single_master, 5)
    return Fleet(single_master, tmp_path_factory.mktemp("fleet"))


def test_each_cluster_has_its_row_whatever_is_wrong_with_it(fleet: Fleet) -> None:
    done = fleet.run("--forks", "4")
    assert done.returncode == 2, done.stdout + done.stderr
    rows = fleet.rows()
    assert {host: row["state"] for host, row in rows.items()} == {
        "shop": "stale",
        "dead": "not_reached",
        "bare": "failure",
        "twin": "failure",
    }
    shop = rows["shop"]
    assert shop["stale_resources"] == {WIDGETS: 5} and shop["oldest"] == f"{WIDGETS} v1alpha1"
    assert shop["agree"] is True and [server["release"] for server in shop["servers"]] == ["v1.37.2"]
    assert shop["etcd"][0]["quota"] > shop["etcd"][0]["size"] > 0
    assert "has no kubeconfig" in rows["bare"]["why"][0] and "the same cluster as shop" in rows["twin"]["why"][0]
    assert "refuses connections" in rows["dead"]["why"][0] and rows["dead"]["stale"] is None
    assert "fatal: [bare]" in done.stdout and "fatal: [shop]" not in done.stdout, "stale is not a blocker"
    samples = fleet.metrics()
    assert 'kube_storage_stale_objects{cluster="the shop"} 5' in samples and samples[-1] == "# EOF"
    assert not [line for line in samples if line.startswith("kube_storage_stale_objects") and "the shop" not in line]


def test_a_dead_canary_stops_the_run_and_the_next_run_resumes_it(fleet: Fleet) -> None:
    stopped = fleet.run("--limit", "shop:dead", waves=["canary"])
    assert stopped.returncode == 2, stopped.stdout + stopped.stderr
    record, rows = fleet.record(), fleet.rows()
    assert record["status"] == "stopped" and rows["shop"]["state"] == "not_begun"
    assert "1 cluster failed or could not be reached, and 0 are allowed: dead." in stopped.stdout
    # Its failure doesn't stop the run again before it is tried again.
    resumed = fleet.run("--limit", "shop:dead", waves=["shop", "canary"])
    assert resumed.returncode == 4, "just not reached: " + resumed.stdout
    again = fleet.record()
    assert again["started"] == record["started"] and again["status"] == "finished"
    assert fleet.rows()["shop"]["state"] == "stale"


def test_a_migration_of_the_fleet(fleet: Fleet, single_master: Cluster) -> None:
    done = fleet.run("--limit", "shop", purpose="migrate")
    assert done.returncode == 0, done.stdout + done.stderr
    shop = fleet.rows()["shop"]
    assert shop["state"] == "fine" and shop["stale"] == 0 and shop["migrated"]
    assert shop["pages"]["migration"] == "clusters/shop/migration.html"
    result = json.loads((fleet.folder / "fleet/clusters/shop/state-migrate.json").read_text(encoding="utf-8"))
    assert result["fleet"]["purpose"] == "migrate" and not result["failures"]
    migration = json.loads((fleet.folder / "fleet/clusters/shop/migration.json").read_text(encoding="utf-8"))
    assert migration["migrations"][-1]["totals"]["rewritten"] == 5 and migration["proof"]["etcd"]
    assert any(
        line.startswith('kube_storage_last_migration_timestamp_seconds{cluster="the shop"}') for line in fleet.metrics()
    )
    everything = (fleet.folder / "fleet" / "fleet.json").read_text(encoding="utf-8")
    assert "/registry/" not in everything and "widget-00" not in everything


def test_bad_input_is_one_sentence(fleet: Fleet) -> None:
    for given, said in (
        ({"waves": ["asia"]}, "neither a group nor a host of the inventory"),
        ({"purpose": "check"}, "needs rolling_upgrade_version"),
        ({"purpose": "migrate"}, "all clusters would have the same report"),
    ):
        done = fleet.run("--limit", "bare", "-e", "rolling_upgrade_report_path=r.html", **given)
        assert (
            done.returncode == 2 and said in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr
        )


# The page, with many clusters


def fleet_of(each: int) -> FleetRecord:
    """That many clusters in each of four places."""
    names = [f"{city}-{number:03d}" for number in range(each) for city in ("paris", "lima", "oslo", "delhi")]
    kinds = [report(), report(), stale(), blocked(), dead(), report(states="767")]
    record = begun(None, "run-1", "audit", "1.37", planned_waves(names, ["10"], {}), at(0))
    record = folded(record, {name: kinds[number % len(kinds)] for number, name in enumerate(names)}, at(20))
    for row in (row for row in record.clusters if row.stale):
        _more_stale(row)
    return record


def _more_stale(row: ClusterRow) -> None:
    for number in range(sum(map(ord, row.host)) % 40):
        row.stale_resources[f"things{number:02d}.example.com"] = number + 1


@browser.NEEDED
def test_the_password_in_the_url_of_a_push_is_not_shown(tmp_path: Path) -> None:
    """Nothing listens at that port. The module uri repeats the URL in its result, and with -vvv in any case."""
    cluster = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "rolling_upgrade_kubeconfig": "/nowhere",
        "rolling_upgrade_fleet_push_url": "http://fleet:s3cr3tw0rd@127.0.0.1:9/metrics",
    }
    (tmp_path / "inventory.yml").write_text(json.dumps({"all": {"hosts": {"gone": cluster}}}), encoding="utf-8")
    done = run_playbook(
        "kube_storage.upgrade.fleet",
        tmp_path,
        "-i",
        "inventory.yml",
        "-vvv",
        variables={"rolling_upgrade_hosts": "all"},
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "s3cr3tw0rd" not in said, said
    assert "The metrics could not be pushed to 127.0.0.1: " in said and "Connection refused" in said, said
    assert f"They are in {tmp_path}/fleet/metrics.prom." in " ".join(said.split()), said


def test_a_browser_shows_a_thousand_clusters(tmp_path: Path) -> None:
    """PICTURES names a folder to keep the screenshots in."""
    path = tmp_path / "fleet.html"
    path.write_text(fleet_page(fleet_of(250)), encoding="utf-8")
    pictures = Path(PICTURES or tmp_path)
    text = browser.read(path, pictures, rules=False)
    few = tmp_path / "few.html"
    few.write_text(fleet_page(fleet_of(6)), encoding="utf-8")
    assert "24 of 24 clusters" in browser.read(few, pictures)
    assert "1000 of 1000 clusters" in text and "Which resource is stale where" in text

    async def use() -> None:
        async with browser.browser(str(browser.find())) as page:
            await page.look(width=1100, scheme="light")
            await page.open(path.as_uri())
            rows = "[...document.querySelectorAll('#fleet tbody tr')].filter(row => !row.hidden)"
            search = "document.getElementById('words').value = '{}', document.getElementById('words').dispatchEvent(new Event('input'))"
            await page.evaluate(search.format("lima v1.36"))
            assert await page.evaluate(f"{rows}.every(row => row.dataset.host.startsWith('lima'))")
            assert 0 < await page.evaluate(f"{rows}.length") < 250
            await page.evaluate(search.format(""))
            assert await page.evaluate(f"{rows}.length") == 1000
            click = (
                "[...document.querySelectorAll('#fleet th button')].find(one => one.textContent === 'Stale').click()"
            )
            counts = f"{rows}.map(row => row.cells[5].dataset.v)"
            for descending in (False, True):
                await page.evaluate(click)
                found = await page.evaluate(counts)
                known = [int(count) for count in found if count]
                assert known == sorted(known, reverse=descending) and "" not in found[: len(known)]
            spent = "(() => {{ const began = performance.now(); {}; document.body.offsetHeight; return performance.now() - began; }})()"
            print("milliseconds to sort:", await page.evaluate(spent.format(click)))
            print("milliseconds to filter:", await page.evaluate(spent.format(search.format("paris"))))
            assert page.errors == []

    asyncio.run(use())
