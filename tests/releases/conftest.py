# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster of each release, shared by the tests of that release, and a record of what passed on which servers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.control_plane import releases
from tests.control_plane.cluster import Cluster
from tests.control_plane.hosts import require_root
from tests.control_plane.releases import CONTROL_PLANE, Etcd, Release
from tests.integration.support.controllers import CONTROLLERS
from tests.integration.support.modules import Result, run_module

from . import tested
from .clusters import gates, server_flags
from .tested import Row, Run

_RUN = pytest.StashKey[Run]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("releases")
    group.addoption("--release", action="append", metavar="VERSION", help="only this release, such as 1.31.14")
    group.addoption("--record", action="store_true", help="write what passed to tested.json and README.md")


def pytest_configure(config: pytest.Config) -> None:
    folder = Path(__file__).parent
    config.stash[_RUN] = Run(whole=[Path(argument).resolve() for argument in config.args] == [folder])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test that takes a release, directly or through its cluster, runs on all that were asked for."""
    chosen = metafunc.config.getoption("--release")
    for name, rows in (("release", CONTROL_PLANE), ("etcd", releases.ETCD)):
        if name in metafunc.fixturenames:
            wanted = [row for row in rows if not chosen or tested.name(row) in chosen]
            if "following" in metafunc.fixturenames:
                wanted = [row for row in wanted if isinstance(row, Release) and _next(row)]
            metafunc.parametrize(name, wanted, ids=tested.name, scope="session")


def _next(release: Release) -> Release | None:
    return next((row for row in CONTROL_PLANE if row.minor == release.minor + 1), None)


@pytest.fixture
def following(release: Release) -> Release:
    """The release that comes next; where none is built here, there is no such test."""
    found = _next(release)
    assert found
    return found


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    require_root()


@pytest.fixture(scope="session")
def module() -> Callable[..., Result]:
    return run_module


@pytest.fixture(scope="session")
def cluster(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two masters, kube-controller-manager and etcd of one release, with the in-tree engine's API switched on."""
    made = Cluster.up(
        tmp_path_factory.mktemp(f"release-{release.kubernetes}") / "cluster",
        masters=2,
        version=release.kubernetes,
        etcd_version=release.etcd,
        controllers=CONTROLLERS,
        controllers_version=release.kubernetes,
        controllers_flags=[f"feature-gates={gates(release)}"],
        flags=server_flags(release),
        owner_pid=os.getpid(),
    )
    yield made
    made.down()


@pytest.fixture(scope="session")
def behind(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server of the newest release with an etcd that none has built in."""
    folder = tmp_path_factory.mktemp(f"etcd-{etcd.etcd}") / "cluster"
    made = Cluster.up(
        folder, masters=1, version=releases.NEWEST.kubernetes, etcd_version=etcd.etcd, owner_pid=os.getpid()
    )
    yield made
    made.down()


def _row(item: pytest.Item) -> Row | None:
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    row = params.get("release") or params.get("etcd")
    return row if isinstance(row, (Release, Etcd)) else None  # pytest has a row of its own where none was asked for.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    row = _row(item)
    if row is not None:
        item.config.stash[_RUN].add(row, item.nodeid, report)
    return report  # type: ignore[return-value]


def pytest_collection_finish(session: pytest.Session) -> None:
    for item in session.items:
        row = _row(item)
        if row is not None:
            session.config.stash[_RUN].expect(row, item.nodeid)


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items:
        items[0].config.stash[_RUN].whole = False


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run = config.stash[_RUN]
    terminalreporter.section("releases")
    for line in run.lines():
        terminalreporter.line(line)
    if config.getoption("--record"):
        terminalreporter.line(tested.record(run))
