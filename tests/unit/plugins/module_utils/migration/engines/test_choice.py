# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.choice import (
    AUTO,
    DIRECT,
    IN_TREE,
    MIGRATOR,
    Choice,
    Chosen,
    Offers,
    choose,
    dialect_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.controller import Phase
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.in_tree import (
    InTree,
    counts,
    newest,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.migrator import (
    KubeStorageVersionMigrator,
    next_status,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.snapshots import (
    compare,
    traces,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import Verdict
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource


def served(
    plural: str = "deployments", group: str = "apps", verbs: str = "delete list patch update watch"
) -> ServedResource:
    return ServedResource(
        name=f"{plural}.{group}" if group else plural,
        group=group,
        plural=plural,
        kind="Kind",
        namespaced=True,
        verbs=frozenset(verbs.split()),
        versions=("v1", "v1beta1"),
        hashes=("hash",),
    )


@pytest.mark.parametrize(
    ("may_direct", "in_tree", "may_in_tree", "migrator", "may_migrator", "limit", "engine"),
    [
        (True, "v1", True, True, True, None, DIRECT),
        (False, "v1", True, True, True, None, IN_TREE),
        (False, "v1beta1", True, True, True, None, IN_TREE),
        (False, "v1alpha1", True, True, True, None, MIGRATOR),
        (False, "v1", False, True, True, None, MIGRATOR),
        (False, "v1", False, True, False, None, DIRECT),
        (False, None, True, False, True, None, DIRECT),
        (False, "v1", True, True, True, "max_rate", DIRECT),
    ],
)
def test_auto_chooses_a_controller_only_if_direct_is_not_allowed(
    may_direct: bool,
    in_tree: str | None,
    may_in_tree: bool,
    migrator: bool,
    may_migrator: bool,
    limit: str | None,
    engine: str,
) -> None:
    choice = choose(AUTO, Offers(may_direct, in_tree, may_in_tree, migrator, may_migrator), limit)
    assert choice.engine == engine and choice.reason


def test_an_engine_that_is_not_there_is_refused() -> None:
    nothing = Offers(True, None, True, False, True)
    for engine, group in ((IN_TREE, "storagemigration.k8s.io"), (MIGRATOR, "migration.k8s.io")):
        with pytest.raises(BadInputError, match=group):
            choose(engine, nothing, None)
        with pytest.raises(BadInputError, match="does not support prune_managed_fields"):
            choose(engine, nothing, "prune_managed_fields")
    assert choose(DIRECT, nothing, "max_rate").engine == DIRECT


def test_each_engine_has_its_own_controller_and_needs_what_that_needs() -> None:
    chosen = {
        name: Chosen(Choice(name, "asked for"), dialect_of(name, "v1beta1")) for name in (DIRECT, IN_TREE, MIGRATOR)
    }
    assert [engine.dialect and engine.dialect.name for engine in chosen.values()] == [None, IN_TREE, MIGRATOR]
    assert [engine.trims_by_itself for engine in chosen.values()] == [False, True, False]
    resource = Target(served(), "apps/v1", "selected")
    needed = {
        name: [f"{need.verb} {need.resource}" for need in engine.needs([resource])] for name, engine in chosen.items()
    }
    assert needed[DIRECT] == ["list deployments", "patch deployments"]
    migrations = [f"{verb} storageversionmigrations" for verb in ("list", "create", "delete")]
    assert needed[IN_TREE] == migrations
    assert needed[MIGRATOR] == [*migrations, *(f"{verb} storagestates" for verb in ("get", "create", "patch"))]
    with pytest.raises(ValueError, match="no engine magic"):
        dialect_of("magic", None)


@pytest.mark.parametrize(("engine", "dialect"), [("magic", None), (IN_TREE, None), (DIRECT, InTree("v1"))])
def test_only_direct_has_no_controller(engine: str, dialect: InTree | None) -> None:
    with pytest.raises(ValueError, match=f"{engine} must have a dialect unless it is direct"):
        Chosen(Choice(engine, "asked for"), dialect)


def test_each_version_of_the_api_names_a_resource_in_its_own_way() -> None:
    assert newest({"v1alpha1", "v1beta1"}) == "v1beta1"
    assert newest({"v2"}) is None
    assert InTree("v1").resource(served()) == {"group": "apps", "resource": "deployments"}
    assert InTree("v1beta1").resource(served()) == {"group": "apps", "resource": "deployments"}
    assert InTree("v1alpha1").resource(served()) == {"group": "apps", "version": "v1", "resource": "deployments"}
    assert InTree("v1beta1").collection == "/apis/storagemigration.k8s.io/v1beta1/storageversionmigrations"
    assert InTree("v1").object_name(served()) == "kube-storage-upgrade-deployments.apps"


def test_the_in_tree_controller_trims_only_since_1_36() -> None:
    """k8s.io/kubernetes, pkg/controller/storageversionmigrator: 1.36 brought migrationrunner.go."""
    assert [
        Chosen(Choice(IN_TREE, ""), dialect_of(IN_TREE, version)).trims_by_itself
        for version in ("v1alpha1", "v1beta1", "v1")
    ] == [
        False,
        True,
        True,
    ]


def test_how_to_have_the_in_tree_controller_before_1_37() -> None:
    """Up to 1.34 it also needs client-go's InformerResourceVersion (cmd/kube-controller-manager/app/storageversionmigrator.go)."""
    with pytest.raises(BadInputError, match="InformerResourceVersion") as refused:
        choose(IN_TREE, Offers(True, None, False, False, False), None)
    assert "storagemigration.k8s.io/v1beta1=true (before 1.35: v1alpha1)" in str(refused.value)
    assert "InformerResourceVersion" in InTree("v1alpha1").how_to_start


def test_what_the_in_tree_controller_could_never_do() -> None:
    assert InTree("v1").cannot(served()) is None
    assert "events" in (InTree("v1").cannot(served("events", "")) or "")
    assert "without delete and watch" in (InTree("v1").cannot(served(verbs="list patch")) or "")
    assert "update" in (KubeStorageVersionMigrator().cannot(served(verbs="list patch")) or "")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("The migration is running, 3/10 objects not yet migrated", (7, 10)),
        ("3/10 not yet migrated. migration encountered unhandled error: denied", (7, 10)),
        ("The migration is running, 10 objects verified migrated", (10, 10)),
        ("The migration is running", (None, None)),
    ],
)
def test_what_the_in_tree_controller_counts(message: str, expected: tuple[int | None, int | None]) -> None:
    assert counts(message) == expected


def migration(*conditions: tuple[str, str, str], **status: str) -> dict[str, Any]:
    found = [{"type": kind, "status": state, "message": message} for kind, state, message in conditions]
    return {"status": {"conditions": found, **status}}


def test_phases_of_a_migration() -> None:
    in_tree = InTree("v1")
    assert in_tree.progress({}).phase is Phase.PENDING
    assert in_tree.progress(migration(resourceVersion="5")).phase is Phase.RUNNING
    running = migration(("Running", "True", "The migration is running, 1/4 objects not yet migrated"))
    assert (in_tree.progress(running).phase, in_tree.progress(running).done) == (Phase.RUNNING, 3)
    ended = in_tree.progress(migration(("Running", "True", "x"), ("Succeeded", "True", "")))
    assert ended.phase is Phase.SUCCEEDED and not ended.settled, "the controller still has the CRD to tidy up"
    assert in_tree.progress(migration(("Running", "False", "x"), ("Succeeded", "True", ""))).settled
    failed = in_tree.progress(migration(("Running", "False", ""), ("Failed", "True", "denied")))
    assert (failed.phase, failed.message) == (Phase.FAILED, "denied")
    migrator = KubeStorageVersionMigrator()
    assert migrator.progress(migration(("Running", "True", ""))).phase is Phase.RUNNING
    assert migrator.progress(migration(("Failed", "True", "no"))).message == "no"
    page = {"spec": {"continueToken": "abc"}}
    assert migrator.progress(page).marks(page) != migrator.progress({}).marks({}), "one more page is progress"


def test_objects_before_and_after() -> None:
    def item(name: str, version: str, uid: str = "u", **more: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "namespace": "default", "uid": uid, "resourceVersion": version, **more}}

    before = dict(traces([item(name, "1") for name in ("same", "moved", "edited", "gone", "replaced")]))
    after = dict(
        traces(
            [
                item("same", "1"),
                item("moved", "2"),
                item("edited", "2", labels="x"),
                item("replaced", "2", uid="other"),
                item("new", "2"),
            ]
        )
    )
    assert {key.name: verdict for key, verdict in compare(before, after)} == {
        "same": Verdict.UNCHANGED,
        "moved": Verdict.REWRITTEN,
        "edited": Verdict.CONFLICT,
        "gone": Verdict.DELETED,
        "replaced": Verdict.DELETED,
    }


def test_a_storage_state_never_promises_too_much() -> None:
    first = next_status({}, "new", done=False)
    assert first is not None and first["persistedStorageVersionHashes"] == ["Unknown"]
    begun = next_status(
        {"persistedStorageVersionHashes": ["old"], "currentStorageVersionHash": "old"}, "new", done=False
    )
    assert begun is not None and begun["persistedStorageVersionHashes"] == ["old", "new"]
    assert next_status(begun, "new", done=False) is None
    done = next_status(begun, "new", done=True)
    assert done is not None and done["persistedStorageVersionHashes"] == ["new"]
    assert next_status(done, "new", done=True) is None
