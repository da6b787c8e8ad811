# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the state is kept: what a ConfigMap or a file does on a bad day. Issue 13, numbers 2 and 13."""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    StateConflictError,
    StateStoreError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import (
    ConfigMapStore,
    FileStore,
    StoreOptions,
    open_store,
    require_writable,
)
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.migration.fake_api_server import (
    STATE,
    FakeApiServer,
)

T = TypeVar("T")
FIRST, SECOND = State(recorded_at="2026-11-24T12:00:00Z"), State(recorded_at="2026-11-25T12:00:00Z")


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def config_map(server: FakeApiServer) -> ConfigMapStore:
    return ConfigMapStore(server.cluster().entry, "kube-system", "kube-storage-upgrade")


def test_a_rewrite_of_the_config_map_itself_is_not_a_conflict() -> None:
    """A migration rewrites it with another key, or a webhook changes something else in it."""
    server = FakeApiServer()
    store = config_map(server)
    wait_for(store.save(FIRST))
    server.objects[STATE]["metadata"]["resourceVersion"] = "999"
    wait_for(store.save(SECOND))
    assert wait_for(config_map(server).load()) == SECOND


def test_what_somebody_else_wrote_is_a_conflict() -> None:
    server = FakeApiServer()
    store = config_map(server)
    wait_for(store.save(FIRST))
    other = config_map(server)
    wait_for(other.load())
    wait_for(other.save(SECOND))
    with pytest.raises(StateConflictError):
        wait_for(store.save(FIRST))


@pytest.mark.parametrize(
    "packed",
    [
        b"no gzip",
        gzip.compress(b"{}", mtime=0)[:-4],
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 20,
        gzip.compress(b"\xff\xfe", mtime=0),
        gzip.compress(b"[" * 5, mtime=0),
    ],
    ids=["no gzip", "cut", "bad deflate", "no text", "no JSON"],
)
def test_a_damaged_config_map_is_one_sentence(packed: bytes) -> None:
    server = FakeApiServer()
    server.add(STATE, binaryData={"state.json.gz": base64.b64encode(packed).decode()})
    with pytest.raises(StateStoreError, match="ConfigMap kube-system/kube-storage-upgrade is damaged .*no baseline"):
        wait_for(config_map(server).load())


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StateStoreError, match=f"The file {path} is damaged .*no baseline"):
        wait_for(FileStore(path).load())


def test_a_file_that_somebody_else_wrote_is_a_conflict(tmp_path: Path) -> None:
    store, other = FileStore(tmp_path / "state.json"), FileStore(tmp_path / "state.json")
    wait_for(store.load())
    wait_for(other.load())
    wait_for(other.save(FIRST))
    with pytest.raises(StateConflictError):
        wait_for(store.save(SECOND))
    assert wait_for(other.load()) == FIRST


def test_a_path_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "file")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StateStoreError, match="can't be written"):
        require_writable(tmp_path / "file" / "below")


# The state of another cluster


NAMESPACE = "/api/v1/namespaces/kube-system"


def of_cluster(uid: str | None) -> FakeApiServer:
    server = FakeApiServer()
    if uid is not None:
        server.objects[NAMESPACE] = {"metadata": {"name": "kube-system", "uid": uid}}
    return server


@pytest.mark.parametrize("in_file", [True, False])
def test_the_state_of_another_cluster_is_refused(tmp_path: Path, in_file: bool) -> None:
    """Issue 11: one file for two clusters, or a ConfigMap that was restored in a new one."""
    options = StoreOptions(tmp_path / "state.json") if in_file else StoreOptions()
    first, other = of_cluster("one"), of_cluster("two")
    store = open_store(options, first.cluster().entry)
    state = wait_for(store.load())
    wait_for(store.save(replace(state, recorded_at="2026-11-24T12:00:00Z")))
    if not in_file:
        other.objects[STATE] = first.objects[STATE]
    assert wait_for(open_store(options, first.cluster().entry).load()).cluster == "one"
    with pytest.raises(StateStoreError, match="holds the state of another cluster"):
        wait_for(open_store(options, other.cluster().entry).load())


def test_a_state_of_an_unknown_cluster_is_taken_for_its_own(tmp_path: Path) -> None:
    """It was saved by a user who may not read that namespace, or before this was noted."""
    options = StoreOptions(tmp_path / "state.json")
    wait_for(FileStore(tmp_path / "state.json").save(FIRST))
    for uid in (None, "one"):
        loaded = wait_for(open_store(options, of_cluster(uid).cluster().entry).load())
        assert loaded == replace(FIRST, cluster=uid)


@pytest.mark.parametrize("in_file", [True, False])
def test_a_file_about_a_cluster_counts_only_if_the_cluster_is_known(tmp_path: Path, in_file: bool) -> None:
    """The user may not get the namespace kube-system; a ConfigMap is in the cluster itself."""
    options = StoreOptions(tmp_path / "state.json") if in_file else StoreOptions()
    first, unknown = of_cluster("one"), of_cluster(None)
    unknown.before = lambda _method, path: Response(403, {}, b"{}") if path == NAMESPACE else None
    store = open_store(options, first.cluster().entry)
    wait_for(store.save(replace(wait_for(store.load()), recorded_at="2026-11-24T12:00:00Z")))
    if not in_file:
        unknown.objects[STATE] = first.objects[STATE]
        assert wait_for(open_store(options, unknown.cluster().entry).load()).cluster == "one"
        return
    with pytest.raises(StateStoreError, match="allow the user to get that namespace"):
        wait_for(open_store(options, unknown.cluster().entry).load())
