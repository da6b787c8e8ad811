# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 18: twenty real clusters, among them a stale, a mixed, a dead, a blocked and a full one, end in exactly the right page, metrics and status.

About 6 GiB of memory, and five minutes of two cores.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane import releases
from tests.control_plane.cluster import Cluster, ClusterError
from tests.tools.schemas import violations

from .support.modules import NO_REQUESTS
from .support.objects import apply, install_widgets
from .support.plays import run_playbook

pytestmark = pytest.mark.long

WIDGETS = "widgets.shop.example.com"
# Fewer of them show the same, where a machine is too small: FINE=1.
FINE = [f"fine-{number:02d}" for number in range(1, 1 + int(os.environ.get("FINE", "15")))]
TWENTY = [*FINE, "stale", "mixed", "dead", "blocked", "full"]
QUOTA = 24 << 20
# Two cores start so many clusters side by side.
AT_ONCE = 4
NOBODY = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "gate"},
    "webhooks": [
        {
            "name": "gate.example.com",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 2,
            "clientConfig": {"service": {"namespace": "default", "name": "nobody"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"]}],
        }
    ],
}  # fmt: skip


@dataclass
class Fleet:
    folder: Path
    clusters: dict[str, Cluster] = field(default_factory=dict)

    def start(self, name: str) -> None:
        options: dict[str, Any] = {"masters": 2, "version": "1.36"} if name == "mixed" else {"masters": 1}
        if name == "full":
            options["flags"] = ["etcd-compaction-interval=0"]
        self.clusters[name] = Cluster.up(self.folder / "clusters" / name, owner_pid=os.getpid(), **options)

    def spoil(self) -> None:
        """What is wrong with five of them."""
        install_widgets(self.clusters["stale"], 7)
        self.clusters["mixed"].upgrade("master-1", "1.37")
        self.clusters["dead"].kill("master-1")
        self.clusters["dead"].kill("balancer")
        apply(self.clusters["blocked"], NOBODY)
        fill(self.clusters["full"])

    def run(self) -> subprocess.CompletedProcess[str]:
        """The check for 1.37."""
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        hosts = {
            name: {
                **here,
                "rolling_upgrade_kubeconfig": str(self.clusters[name].kubeconfig),
                "rolling_upgrade_etcd": self.clusters[name].etcd,
            }
            for name in TWENTY
        }
        (self.folder / "inventory.yml").write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
        variables = {
            "rolling_upgrade_request_timeout": NO_REQUESTS,
            "rolling_upgrade_fleet_purpose": "check",
            "rolling_upgrade_version": "1.37",
        }
        arguments = ("-i", "inventory.yml", "--forks", "6")
        return run_playbook("kube_storage.upgrade.fleet", self.folder, *arguments, timeout=1800, variables=variables)

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "fleet" / "fleet.json").read_text(encoding="utf-8"))
        assert violations(found) == []
        return found


def fill(cluster: Cluster) -> None:
    """Writes until etcd refuses every write."""
    text = "x" * 900_000
    for number in range(2 * QUOTA // len(text)):
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"heavy-{number}", "namespace": "default"},
            "data": {"text": text},
        }
        try:
            cluster.kubectl("create", "-f", "-", input=json.dumps(document))
        except ClusterError as error:
            assert "database space exceeded" in str(error)
            return
    raise AssertionError("etcd takes more than its quota")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("twenty"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ETCD_QUOTA_BACKEND_BYTES", str(QUOTA))
            made.start("full")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(made.start, [name for name in TWENTY if name != "full"]))
        made.spoil()
        yield made
    finally:
        for cluster in made.clusters.values():
            cluster.down()


def samples(text: str) -> dict[str, float]:
    """Each series, without those of times and sizes."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = {series: float(value) for series, _space, value in (line.rpartition(" ") for line in lines)}
    return {
        series: value for series, value in found.items() if not re.search(r"_seconds|_bytes|stored_objects", series)
    }


STATES = ("fine", "concern", "stale", "disagreement", "blocker", "failure", "not_reached", "not_begun")
EXPECTED = {
    **dict.fromkeys(FINE, "fine"),
    "stale": "stale",
    "mixed": "disagreement",
    "dead": "not_reached",
    "blocked": "blocker",
    "full": "blocker",
}
NEWEST = f"v{releases.NEWEST.kubernetes}"


def expected_samples(fleet: Fleet) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, state in EXPECTED.items():
        label, target = f'cluster="{name}"', f'cluster="{name}",target="1.37"'
        found[f"kube_storage_cluster_reached{{{label}}}"] = float(name != "dead")
        found.update(
            {f'kube_storage_cluster_state{{{label},state="{other}"}}': float(other == state) for other in STATES}
        )
        if name == "dead":
            continue
        running = {"master-1": NEWEST, **({"master-2": "1.36"} if name == "mixed" else {})}
        for master, release in running.items():
            server = f"{fleet.clusters[name].address(master)}:6443"
            found[f'kube_storage_api_server_info{{{label},server="{server}",release="{release}"}}'] = 1
        found[f"kube_storage_api_servers{{{label}}}"] = len(running)
        found[f"kube_storage_api_servers_ready{{{label}}}"] = len(running)
        found[f"kube_storage_releases{{{label}}}"] = len(set(running.values()))
        found[f"kube_storage_api_servers_agree{{{label}}}"] = float(name != "mixed")
        found[f"kube_storage_stale_objects{{{label}}}"] = 7 if name == "stale" else 0
        found[f"kube_storage_unprovable_objects{{{label}}}"] = 0
        found[f"kube_storage_untrimmed_crds{{{label}}}"] = float(name == "stale")
        found[f"kube_storage_blockers{{{target}}}"] = float(state == "blocker")
        found[f"kube_storage_concerns{{{target}}}"] = {"stale": 2, "mixed": 1}.get(name, 0)
    found[f'kube_storage_stale_resource_objects{{cluster="stale",resource="{WIDGETS}"}}'] = 7
    return found


class Rows(HTMLParser):
    """The rows of the page's first table, by cluster: the text of each cell by its heading, and where the links lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, dict[str, str]] = {}
        self.links: dict[str, list[str]] = {}
        self._host, self._cell = "", ""
        self.feed(page[page.index('id="fleet"') : page.index("Which resource is stale where")])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "tr":
            self._host = given.get("data-host") or ""
            self.found[self._host], self.links[self._host] = {}, []
        elif tag in ("th", "td"):
            self._cell = given.get("data-t") or "Cluster"
        elif tag == "a":
            self.links[self._host].append(str(given["href"]))

    def handle_data(self, data: str) -> None:
        cells = self.found.get(self._host)
        if cells is not None and self._cell:
            cells[self._cell] = (cells.get(self._cell, "") + data).strip()


FINE_ROW = {
    "State": "nothing found",
    "Releases": f"{NEWEST} (1 master)",
    "Agree": "yes",
    "Stale": "0",
    "Oldest stored": "none old",
    "Blockers": "0",
    "Concerns": "0",
    "Safe up to": "1.37",
    "CRDs to trim": "0",
    "Keys, since first seen": "none",
    "etcd used": "0%",
}
# What differs from that.
ROWS: dict[str, dict[str, str]] = {
    **{name: {} for name in FINE},
    "stale": {
        "State": "stale",
        "Stale": "7",
        "Oldest stored": f"{WIDGETS} v1alpha1",
        "Concerns": "2",
        "CRDs to trim": "1",
    },
    "mixed": {
        "State": "API servers differ",
        "Releases": f"{NEWEST}, 1.36 (2 masters)",
        "Agree": "no",
        "Concerns": "1",
    },
    "dead": {**dict.fromkeys(FINE_ROW, ""), "State": "not reached"},
    "blocked": {"State": "blocked", "Blockers": "1"},
    "full": {"State": "blocked", "Blockers": "1", "etcd used": "98%"},
}
WHY = {
    "stale": "7 objects stored in an old form.",
    "mixed": "mutatingadmissionpolicies.admissionregistration.k8s.io: v1 on ",
    "dead": "refuses connections",
    "blocked": "its service default/nobody does not exist.",
    "full": "etcd has raised the alarm NOSPACE",
}


def test_the_page_the_metrics_and_the_exit_status(fleet: Fleet) -> None:
    done = fleet.run()
    assert done.returncode == 2, done.stdout + done.stderr
    record = fleet.record()
    assert {row["host"]: row["state"] for row in record["clusters"]} == EXPECTED
    assert record["status"] == "finished" and len(EXPECTED) == len(TWENTY)
    recap = done.stdout[done.stdout.index("PLAY RECAP") :]
    needed = set(re.findall(r"(?m)^(\S+) .*\bfailed=1\b", recap))
    assert needed == {"dead", "blocked", "full"} and "unreachable=1" not in recap, recap
    assert samples((fleet.folder / "fleet" / "metrics.prom").read_text(encoding="utf-8")) == expected_samples(fleet)

    page = (fleet.folder / "fleet" / "index.html").read_text(encoding="utf-8")
    rows = Rows(page)
    rows.found.pop("")  # the headings
    assert set(rows.found) == set(TWENTY)
    for name, cells in rows.found.items():
        shown = {heading: cells.get(heading, "") for heading in FINE_ROW}
        assert cells["Cluster"] == name and shown == {**FINE_ROW, **ROWS[name]}, name
        assert WHY.get(name, "") in cells.get("Why", "") and (name in WHY) == ("Why" in cells), cells
        for link in rows.links[name]:
            assert (fleet.folder / "fleet" / link).is_file(), link
    # The worst first.
    order = [row for row in rows.found if row not in FINE]
    assert order == ["dead", "blocked", "full", "mixed", "stale"]
    matrix = page[page.index('id="matrix"') :]
    assert re.findall(r'data-host="([^"]+)"', matrix) == ["stale"]
