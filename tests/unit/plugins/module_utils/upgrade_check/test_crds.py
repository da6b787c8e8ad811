# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""New CRDs against those in the cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import crds
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import WIDGETS, crd


def test_crds() -> None:
    live = crds.definition_of(crd("v1", "v1alpha1", "v1"))

    def compare(document: dict[str, Any], in_etcd: crds.StoredObjects | None = None) -> list[str]:
        return [finding.check for finding in crds.evaluate_new(crds.definition_of(document), live, in_etcd)]

    assert compare(crd("v1", "v1alpha1", "v1")) == []
    assert compare(crd("v1", "v1")) == ["crd_drops_stored_version"]
    assert compare(crd("v2", "v1alpha1", "v1", "v2")) == []
    assert compare(crd("v2", "v1alpha1", "v1", "v2", served=("v2",))) == ["crd_stops_serving"]
    (empty,) = crds.evaluate_new(crds.definition_of(crd("v1", "v1")), live, crds.StoredObjects({"v1": 4}))
    assert "Nothing is stored in it anymore" in empty.remediation
    # Stored by someone who trimmed the status too early.
    trimmed = replace(live, stored=("v1",))
    (found,) = crds.evaluate_new(crds.definition_of(crd("v1", "v1")), trimmed, crds.StoredObjects({"v1alpha1": 2}))
    assert "v1alpha1: 2 objects in etcd" in found.what
    assert crds.evaluate_new(crds.definition_of(crd("v1", "v1")), None, None) == []
    webhook = {"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a"}}}
    assert crds.definition_of(crd("v1", "v1", "v2", conversion=webhook)).converts
    assert not crds.definition_of(crd("v1", "v1", conversion=webhook)).converts


LIVE = crds.definition_of(crd("v1", "v1alpha1", "v1"))


def test_objects_with_a_hidden_version_may_be_stored_in_any() -> None:
    """Encryption of custom resources: no version can be seen, so nothing says that the old one is gone."""
    (finding,) = crds.evaluate_new(definition("v1", "v1"), LIVE, crds.StoredObjects({}, hidden=7))
    assert "storage_migrate" in finding.remediation and "Nothing is stored in it" not in finding.remediation
    assert "The version of 7 objects in etcd is hidden by encryption." in finding.what
    (outstanding,) = crds.evaluate_live(LIVE, crds.StoredObjects({"v1": 3}, hidden=1), to_be_applied=False)
    assert outstanding.what.endswith("The version of 1 object in etcd is hidden by encryption.")
    (seen,) = crds.evaluate_live(LIVE, crds.StoredObjects({"v1": 3}), to_be_applied=False)
    assert "hidden" not in seen.what


def definition(*arguments: str, **more: Any) -> crds.Definition:
    return crds.definition_of(crd(*arguments, **more))


def test_what_etcd_may_not_hold_completely_proves_no_absence() -> None:
    """Another etcd may keep it, its objects could not be counted, or no API server serves it."""
    (finding,) = crds.evaluate_new(definition("v1", "v1"), LIVE, crds.StoredObjects({"v1": 4}, complete=False))
    assert "Nothing is stored in it" not in finding.remediation and "drops v1alpha1," in finding.what
    (finding,) = crds.evaluate_new(definition("v1", "v1"), LIVE, crds.StoredObjects({"v1alpha1": 2}, complete=False))
    assert "v1alpha1: at least 2 objects in etcd" in finding.what
    (outstanding,) = crds.evaluate_live(LIVE, crds.StoredObjects({"v1": 3}, complete=False), to_be_applied=False)
    assert outstanding.what == "status.storedVersions still has v1alpha1 beside v1."
    (gone,) = crds.evaluate_live(LIVE, crds.StoredObjects({"v0": 3}, complete=False), to_be_applied=False)
    assert gone.check == "undecodable", "what is seen counts in any case"


def test_a_crd_without_the_current_storage_version_is_an_older_one() -> None:
    """Issue 13, number 6: "run storage_migrate first" would never end, as it writes exactly the version that is to be dropped."""
    (found,) = crds.evaluate_new(definition("v1alpha1", "v1alpha1"), LIVE, crds.StoredObjects({"v1": 4}))
    assert found.check == "crd_drops_storage_version"
    assert "lacks v1, the current storage version: it is older" in found.what
    assert "make v1alpha1, which both have, the storage version" in found.remediation
    (nothing_common,) = crds.evaluate_new(definition("v0", "v0"), replace(LIVE, stored=("v1",)), None)
    assert "add v0 to the CRD in the cluster" in nothing_common.remediation


def test_what_every_api_server_refuses() -> None:
    """Issue 13, number 7."""
    two = crd("v1", "v1alpha1", "v1")
    two["spec"]["versions"][0]["storage"] = True
    assert crds.why_refused(crds.definition_of(two), None) == [
        ("it has 2 storage versions (v1alpha1, v1), and must have exactly one", False)
    ]
    assert "0 storage versions" in crds.why_refused(definition("none", "v1"), None)[0].reason
    assert crds.why_refused(definition("v1", "v1"), LIVE) == []
    changed = crds.why_refused(definition("v1", "v1", scope="Cluster"), LIVE)
    reason = "its scope is Cluster, but that of the CRD in the cluster is Namespaced, which can't be changed"
    assert changed == [(reason, True)]
    renamed = definition("v1", "v1", names={"kind": "Gadget", "plural": "widgets"})
    finding = crds.evaluate_refusals(renamed, crds.why_refused(renamed, LIVE), None)
    assert finding is not None and finding.blocks and "its kind is Gadget" in finding.what
    assert "delete that CRD, with all its objects" in finding.remediation
    old = {**crd("v1", "v1"), "apiVersion": "apiextensions.k8s.io/v1beta1"}
    assert "no API server since 1.22 serves" in crds.why_refused(crds.definition_of(old), None)[0].reason
    told = crds.evaluate_refusals(LIVE, [], "spec.scope: Invalid value: (hidden): field is immutable (422)")
    assert told is not None and "in a dry run: spec.scope" in told.what
    assert crds.evaluate_refusals(LIVE, [], None) is None


def test_a_crd_that_is_being_deleted_is_reported() -> None:
    going = crds.definition_of(
        {**crd("v1", "v1"), "metadata": {"name": WIDGETS, "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    )
    (concern,) = crds.evaluate_live(going, None, to_be_applied=False)
    assert (concern.check, concern.blocks) == ("crd_terminating", False)
    (blocker,) = crds.evaluate_live(going, None, to_be_applied=True)
    assert blocker.blocks and "being deleted" in blocker.what


def test_field_managers_of_versions_that_go() -> None:
    """Issue 13, number 1."""
    found = crds.evaluate_managers(WIDGETS, {"v1alpha1": 3}, "v1", new=True)
    assert found is not None and found.blocks
    assert found.what == "Field managers of objects are at v1alpha1 (3 objects), which the new CRD drops."
    live = crds.evaluate_managers(WIDGETS, {"v1alpha1": 1}, "v1", new=False)
    assert live is not None and not live.blocks and "the CRD no longer has" in live.what
    assert crds.evaluate_managers(WIDGETS, {}, "v1", new=True) is None
    rewrite = f"run storage_migrate with resources: [{WIDGETS}] and managed_fields: rewrite"
    assert rewrite in found.remediation and "Before a CRD drops v1alpha1" in found.remediation
    assert rewrite in live.remediation.lower()
    for new in (True, False):
        by_webhook = crds.evaluate_managers(WIDGETS, {"v1alpha1": 3}, "v1", new=new, webhook=True)
        assert by_webhook is not None and rewrite not in by_webhook.remediation
        assert "managed_fields: prune" in by_webhook.remediation and "at v1" in by_webhook.remediation


def test_field_managers_of_versions_that_a_later_crd_may_drop() -> None:
    found = crds.evaluate_older_managers(WIDGETS, {"v1alpha1": 3, "v1beta1": 1}, "v1", webhook=False)
    assert found is not None and not found.blocks and "managed_fields: rewrite" in found.remediation
    assert "v1alpha1 (3 objects), v1beta1 (1 object)" in found.what
    assert crds.evaluate_older_managers(WIDGETS, {}, "v1", webhook=False) is None
    older = ["v1alpha1", "v1alpha2", "v2alpha1", "v1beta1", "v1", "v2", "v10"]
    for number, version in enumerate(older):
        assert [crds.is_older(other, version) for other in older] == [True] * number + [False] * (7 - number)
    assert not crds.is_older("v1", "internal") and crds.is_older("internal", "v1") and not crds.is_older("v1", None)


def test_a_crd_that_loses_its_conversion_webhook_blocks() -> None:
    """Without one, objects of one version are taken for those of another as they are, and lose fields with the next write."""
    webhook = {"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a/convert"}}}

    def lost(*versions: str, served: tuple[str, ...] | None = None, conversion: Any = None) -> str | None:
        live = crds.definition_of(crd("v1", "v1alpha1", "v1", "v1beta1", conversion=webhook))
        more = {} if conversion is None else {"conversion": conversion}
        found = crds.evaluate_conversion(crds.definition_of(crd("v1", *versions, served=served, **more)), live)
        return None if found is None else found.what

    assert "converts between v1alpha1, v1." in str(lost("v1alpha1", "v1"))
    assert "converts between v1, v1beta1." in str(lost("v1", "v1beta1", conversion={"strategy": "None"}))
    assert lost("v1alpha1", "v1", conversion=webhook) is None
    assert lost("v1") is None, "there is nothing to convert"
    assert lost("v1", "v2") is None, "nothing is stored as v2"
    # Nothing is stored as v1beta1, and nobody can ask for it.
    assert lost("v1", "v1beta1", served=("v1",)) is None
    live = crds.definition_of(crd("v1", "v1alpha1", "v1"))
    assert crds.evaluate_conversion(crds.definition_of(crd("v1", "v1alpha1", "v1")), live) is None
