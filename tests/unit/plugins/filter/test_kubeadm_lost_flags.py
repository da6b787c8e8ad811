# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flags that are in the manifest of a static pod, but not in kubeadm's configuration, from which it makes the next manifest."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml
from ansible_collections.kube_storage.upgrade.plugins.filter.kubeadm_lost_flags import kubeadm_lost_flags


def read(component: str, *flags: str, master: str = "m1", key: str = "command") -> dict[str, Any]:
    manifest = yaml.safe_dump({"spec": {"containers": [{key: [component, *flags]}]}})
    return {"item": [master, component], "content": base64.b64encode(manifest.encode()).decode()}


CONFIGURATION: dict[str, Any] = {
    "apiServer": {"extraArgs": [{"name": "audit-log-path", "value": "/a"}]},
    "etcd": {"local": {"extraArgs": [{"name": "quota-backend-bytes", "value": "1"}]}},
    "scheduler": None,
}


@pytest.mark.parametrize(
    "results",
    [
        [],
        [{"item": ["m1", "etcd"], "failed": True, "msg": "file not found"}],
        [read("kube-apiserver", "--secure-port=6443", "--audit-log-path=/a", "--emulated-version=1.36")],
        [read("etcd", "--quota-backend-bytes=1", "--feature-gates=InitialCorruptCheck=true", key="args")],
        [read("kube-scheduler", "--kubeconfig", "/k", "--leader-elect")],
        [{"item": ["m1", "etcd"], "content": base64.b64encode(b"- a: [").decode()}],
        [{"item": ["m1", "etcd"], "content": base64.b64encode(b"- a").decode()}],
    ],
)
def test_nothing_is_lost(results: list[dict[str, Any]]) -> None:
    assert kubeadm_lost_flags(results, CONFIGURATION) == ""


def test_what_is_only_in_manifests_is_named_with_its_masters() -> None:
    """Without the first, no API server can decrypt; without the second, etcd may be over its quota."""
    results = [
        read("kube-apiserver", "--encryption-provider-config=/e", "--audit-log-path=/a"),
        read("kube-apiserver", "--encryption-provider-config=/e", master="m2"),
        read("etcd", "--quota-backend-bytes=8"),
        read("kube-scheduler", "--v=4"),
    ]
    found = kubeadm_lost_flags(results, {**CONFIGURATION, "etcd": {"external": {}}})
    named = "--encryption-provider-config of kube-apiserver on m1, m2; --quota-backend-bytes of etcd on m1; --v of kube-scheduler on m1."
    assert found.startswith(
        f"kubeadm would drop flags, because its configuration of the cluster doesn't have them: {named}"
    )
    assert kubeadm_lost_flags(results, CONFIGURATION, drop=["v", "--encryption-provider-config"]) == ""


def test_underscores_in_names_are_dashes() -> None:
    """component-base takes both, so that of the manifest and that of the configuration are the same flag."""
    results = [read("kube-apiserver", "--audit_log_path=/a", "--encryption_provider_config=/e")]
    assert "--encryption-provider-config of kube-apiserver on m1." in kubeadm_lost_flags(results, CONFIGURATION)
    assert kubeadm_lost_flags(results, CONFIGURATION, drop=["encryption_provider_config"]) == ""


def test_an_external_etcd_is_not_that_of_kubeadm() -> None:
    external = {**CONFIGURATION, "etcd": {"external": {"endpoints": ["https://m1:2379"]}}}
    assert kubeadm_lost_flags([read("etcd", "--quota-backend-bytes=8")], external) == ""


def test_extra_arguments_were_a_mapping_before() -> None:
    older = {"apiVersion": "kubeadm.k8s.io/v1beta3", "apiServer": {"extraArgs": {"audit-log-path": "/a"}}}
    assert kubeadm_lost_flags([read("kube-apiserver", "--audit-log-path=/a")], older) == ""
