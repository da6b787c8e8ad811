# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures: real clusters, and modules run as users run them."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster
from tests.control_plane.hosts import HostError, require_root

from .support.logs import last_lines, servers_logs
from .support.modules import Result, run_module

STARTED = pytest.StashKey[float]()
TEMPORARY = pytest.StashKey[Path]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root there are no test hosts; that is said, not hidden."""
    try:
        require_root()
    except HostError as error:
        for item in items:
            if "integration" in str(item.path):
                item.add_marker(pytest.mark.skip(reason=str(error)))


@pytest.fixture(scope="session", autouse=True)
def temporary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tells the hook below where clusters are."""
    request.config.stash[TEMPORARY] = tmp_path_factory.getbasetemp()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The report of a failure ends with the logs of the servers that the test used."""
    report = yield
    if report.when == "setup":
        item.stash[STARTED] = report.start
    base = item.config.stash.get(TEMPORARY, None)
    if report.failed and base is not None:
        logs = servers_logs(base, item.stash[STARTED])
        report.sections.append(("Logs of its servers", "\n".join(map(last_lines, logs)) or "no server was started"))
    return report


@pytest.fixture(scope="session")
def module() -> Callable[..., Result]:
    return run_module


@pytest.fixture
def new_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters that end with the test."""
    made: list[Cluster] = []

    def make(**options: Any) -> Cluster:
        cluster = Cluster.up(tmp_path / f"cluster-{len(made)}", owner_pid=os.getpid(), **options)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.down()


@pytest.fixture(scope="module")
def three_masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three masters at 1.37, shared by the tests of one file, which leave it as they found it."""
    cluster = Cluster.up(tmp_path_factory.mktemp("three-masters") / "cluster", owner_pid=os.getpid())
    yield cluster
    cluster.down()


@pytest.fixture(scope="module")
def single_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master at 1.37, shared by the tests of one file."""
    cluster = Cluster.up(tmp_path_factory.mktemp("single-master") / "cluster", masters=1, owner_pid=os.getpid())
    yield cluster
    cluster.down()
