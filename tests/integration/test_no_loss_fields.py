# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Custom resources that would lose fields when they are rewritten (issue 11, number 8)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.control_plane.cluster import Cluster

from .support.modules import Result
from .support.stock import GROUP, MERGE_PATCH, Api, Stock
from .support.waiting import wait_until

FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
STRING = {"type": "string"}


class Fields(Stock):
    """A CRD whose versions have schemas of their own for ``spec``."""

    def __init__(
        self,
        cluster: Cluster,
        plural: str,
        schemas: Mapping[str, Any],
        *,
        versions: tuple[str, ...] = ("v1alpha1", "v1"),
    ) -> None:
        self.schemas = dict(schemas)
        super().__init__(cluster, plural, versions=versions)

    def crd(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(json.dumps(super().crd()))
        for version in document["spec"]["versions"]:
            version["schema"]["openAPIV3Schema"]["properties"]["spec"] = self.schemas[version["name"]]
        return document

    def create(self, name: str, version: str, spec: Mapping[str, Any]) -> None:
        body = {"apiVersion": f"{GROUP}/{version}", "kind": self.kind, "metadata": {"name": name}, "spec": spec}
        self.api.good("POST", f"/apis/{GROUP}/{version}/namespaces/default/{self.plural}", body)

    def specs(self) -> dict[str, Any]:
        """What etcd holds of each object's spec."""
        return {key.partition("/")[2]: json.loads(entry.value).get("spec") for key, entry in self.stored().items()}

    def narrow(self, schemas: Mapping[str, Any]) -> None:
        """Gives the versions other schemas, and waits until the API server reads by them."""
        self.schemas = dict(schemas)
        probe = {"apiVersion": f"{GROUP}/{self.served}", "kind": self.kind, "metadata": {"name": "probe"}}
        path = self.path("probe")
        self.api.good("POST", path.rpartition("/")[0], {**probe, "spec": {"onlyFree": 1}})
        self.edit()
        wait_until(lambda: "onlyFree" not in (Api(self.cluster).good("GET", path).get("spec") or {}))
        self.api.good("DELETE", path)


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def test_a_rewrite_goes_through_the_storage_version(single_master: Cluster, module: Callable[..., Result]) -> None:
    """v1 is preferred and knows less than v1beta1, which is stored: a patch through v1 would drop ``extra``."""
    schemas = {"v1beta1": closed(kept=STRING, extra=STRING), "v1": closed(kept=STRING)}
    stock = Fields(single_master, "routes", schemas, versions=("v1beta1", "v1"))
    stock.create("item", "v1beta1", {"kept": "a", "extra": "b"})
    before = stock.stored()
    done = module(single_master, "storage_migrate", resources=[stock.name])
    assert done["unchanged"] == 1 and done["rewritten"] == 0
    assert stock.stored() == before and stock.specs()["item"] == {"kept": "a", "extra": "b"}
    stock.remove()


def test_fields_that_the_crd_no_longer_knows(single_master: Cluster, module: Callable[..., Result]) -> None:
    stock = Fields(single_master, "disks", {"v1alpha1": FREE, "v1": FREE})
    for number in range(5):
        spec: dict[str, Any] = {"size": "1", "list": [{"a": "x"}], "labels": {"own": {"z": 1}}}
        if number < 2:
            spec["useEfi"] = True
        stock.create(f"item-{number}", "v1alpha1", spec)
    known = closed(size=STRING, list={"type": "array", "items": closed(a=STRING)}, labels=FREE)
    stock.narrow({"v1alpha1": known, "v1": known})
    stock.store("v1")

    checked = module(single_master, "upgrade_check", target_version="1.37", etcd=single_master.etcd)
    (blocker,) = [found for found in checked["blockers"] if found["resource"] == stock.name]
    assert blocker["id"] == f"dropped_fields/{stock.name}"
    assert blocker["what"] == "2 objects hold fields that the CRD no longer knows (spec.useEfi)."
    assert f"{GROUP}/disks/default/item-0" in blocker["etcd_keys"] and len(blocker["etcd_keys"]) == 2
    assert module(single_master, "upgrade_check", target_version="1.37")["blockers"] == []  # etcd alone tells

    stale = {"select": "stale", "etcd": single_master.etcd, "resources": [stock.name]}
    done = module(single_master, "storage_migrate", **stale)
    assert done.failed and done.data["rewritten"] == 3 and done.data["totals"]["failed"] == 2
    assert {(found["name"], found["reason"]) for found in done.data["failures"]} == {
        ("item-0", "FieldsWouldBeDropped"),
        ("item-1", "FieldsWouldBeDropped"),
    }
    assert "spec.useEfi" in done.message and "drop_unknown_fields" in done.message
    assert done.data["trimmed"] == [] and done.data["resources"][stock.name]["persisted"] is False
    assert stock.stale() == ["item-0", "item-1"] and stock.specs()["item-0"]["useEfi"] is True
    assert stock.stored_versions() == ["v1alpha1", "v1"]

    again = module(single_master, "storage_migrate", drop_unknown_fields=[stock.name], **stale)
    assert again["rewritten"] == 2 and again["totals"]["failed"] == 0 and stock.stale() == []
    assert all("useEfi" not in spec for spec in stock.specs().values())
    assert stock.stored_versions() == ["v1"]
    stock.remove()


def test_nothing_is_dropped_to_find_out_how_api_servers_write(
    single_master: Cluster, module: Callable[..., Result]
) -> None:
    """Nothing is stale and no migration on record, so only a check of how custom resources are written could touch them."""
    stock = Fields(single_master, "shelves", {"v1": FREE}, versions=("v1",))
    stock.create("item", "v1", {"size": "1", "useEfi": True})
    stock.create("other", "v1", {"size": "1"})  # It shows how API servers encrypt.
    stock.narrow({"v1": closed(size=STRING)})
    before = stock.stored()
    done = module(single_master, "storage_migrate", select="stale", etcd=single_master.etcd, resources=[stock.name])
    assert stock.specs()["item"] == {"size": "1", "useEfi": True} and stock.stored() == before
    assert done["changed"] is False and done["resources"][stock.name]["persisted"] is True
    stock.remove()


def test_what_is_predicted_is_what_an_api_server_drops(single_master: Cluster, module: Callable[..., Result]) -> None:
    """The fields that the check names, compared with what really vanished from etcd."""
    spec = {
        "known": "1",
        "gone": {"deep": {"er": 1}},
        "list": [{"a": "x", "b": "y"}, {"c": 1}],
        "any": {"own": {"z": 1}},
        "typed": {"own": {"a": "1", "z": 1}},
        "free": {"x": {"y": 1}, "part": {"a": "1", "z": 1}},
        "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"x": 1}},
    }
    stock = Fields(single_master, "mixes", {"v1alpha1": FREE, "v1": FREE})
    stock.create("item", "v1alpha1", spec)
    known = closed(
        known=STRING,
        list={"type": "array", "items": closed(a=STRING)},
        any={"type": "object", "additionalProperties": {"type": "object"}},
        typed={"type": "object", "additionalProperties": closed(a=STRING)},
        free={**FREE, "properties": {"part": closed(a=STRING)}},
        pod={"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"kind": STRING}},
    )
    stock.narrow({"v1alpha1": known, "v1": known})
    stock.store("v1")
    blockers = module(single_master, "upgrade_check", target_version="1.37", etcd=single_master.etcd)["blockers"]
    (what,) = [found["what"] for found in blockers if found["resource"] == stock.name]
    body = {"metadata": {"labels": {"written": "again"}}}
    stock.api.good("PATCH", stock.path("item"), body, MERGE_PATCH)
    vanished = sorted(missing(spec, stock.specs()["item"], "spec"))
    assert vanished and what.endswith(f"({shown(vanished)}).")
    stock.remove()


def shown(paths: list[str]) -> str:
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return ", ".join(paths[:5]) + more


def missing(before: Any, after: Any, path: str) -> set[str]:
    """Paths of ``before`` that ``after`` lacks, in the words of the check: names that are the user's own are a star."""
    found: set[str] = set()
    if isinstance(before, dict):
        for name, inner in before.items():
            here = f"{path}.{'*' if name == 'own' else name}"
            found |= missing(inner, after[name], here) if name in (after or {}) else {here}
    elif isinstance(before, list):
        for item, other in zip(before, after, strict=True):
            found |= missing(item, other, f"{path}[]")
    return found
