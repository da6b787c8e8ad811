# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles of playbooks/files/rbac, and a user who may do nothing but what is bound."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.control_plane.cluster import Cluster

from .modules import ROOT
from .objects import apply
from .waiting import wait_until

FILES = ROOT / "playbooks" / "files"
RBAC = FILES / "rbac" / "kube-storage-upgrade.yml"
OPENSHIFT = FILES / "rbac" / "kube-storage-upgrade-openshift.yml"
USER = "least"
P = "kube-storage-upgrade-"


def documents(path: Path) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["items"]
    return items


ROLES = {(role["kind"], role["metadata"]["name"]): role for role in documents(RBAC)}


def binding(role: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": f"{USER}-{role['metadata']['name']}"}
    if "namespace" in role["metadata"]:
        metadata["namespace"] = role["metadata"]["namespace"]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{role['kind']}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": role["metadata"]["name"]},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}],
    }


class Limited:
    """A cluster and a user who may do nothing but what is bound."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.kubeconfig = cluster.user_kubeconfig(USER)
        self.bound: set[str] = set()

    def bind(self, *names: str) -> None:
        """Binds these roles and no others, and awaits that the API server knows."""
        for role in ROLES.values():
            bound = binding(role)
            if role["metadata"]["name"] in {P + name for name in names}:
                apply(self.cluster, role, bound)
                self.await_rules(role)
                self.bound.add(role["metadata"]["name"])
            elif role["metadata"]["name"] in self.bound:
                where = ["-n", bound["metadata"]["namespace"]] if "namespace" in bound["metadata"] else []
                self.cluster.kubectl("delete", bound["kind"], bound["metadata"]["name"], "--ignore-not-found", *where)
        wait_until(
            lambda: self.may("list", "pods") is bool({"direct", "check", "etcd", "read", "kubeadm"} & set(names))
        )

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Meanwhile one of the roles that are bound is not."""
        role = next(role for (_kind, found), role in ROLES.items() if found == P + name)
        bound = binding(role)
        self.cluster.kubectl("delete", bound["kind"], bound["metadata"]["name"])
        wait_until(lambda: not any(self.may_rule(rule, None) for rule in role["rules"]))
        yield
        apply(self.cluster, bound)
        self.await_rules(role)

    def take_away(self, role: dict[str, Any], number: int) -> None:
        rules = [rule for i, rule in enumerate(role["rules"]) if i != number]
        apply(self.cluster, {**role, "rules": rules})
        rule = role["rules"][number]
        wait_until(lambda: not self.may_rule(rule, role["metadata"].get("namespace")))

    def await_rules(self, role: dict[str, Any]) -> None:
        for rule in role["rules"]:
            wait_until(
                lambda rule=rule: self.may_rule(rule, role["metadata"].get("namespace"))  # type: ignore[misc]
            )

    def may_rule(self, rule: dict[str, Any], namespace: str | None) -> bool:
        if "nonResourceURLs" in rule:
            return self.may(rule["verbs"][-1], rule["nonResourceURLs"][0])
        group = f".{rule['apiGroups'][0]}" if rule["apiGroups"][0] not in ("", "*") else ""
        resource, _slash, subresource = rule["resources"][0].partition("/")
        resource = "pods" if resource == "*" else resource
        where = ["-n", namespace] if namespace else []
        what = "/".join([resource + group, *rule.get("resourceNames", [])[:1]])
        return self.may(rule["verbs"][-1], what, *(["--subresource", subresource] if subresource else []), *where)

    def may(self, verb: str, *what: str, who: str = USER) -> bool:
        command = [str(self.cluster.folder / "bin" / "kubectl"), "--kubeconfig", str(self.cluster.kubeconfig)]
        command += ["auth", "can-i", verb, *what, "--as", who]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "yes"
