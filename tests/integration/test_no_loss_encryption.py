# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No data is lost when the key of an encrypted object is unknown. What counts is what etcd holds."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.etcd import put, read_etcd
from .support.kms_plugin import KmsPlugin
from .support.modules import Result
from .support.objects import apply, service_accounts, stale_accounts
from .support.runs import during, finish, start_process
from .support.waiting import wait_until

INFO, MIGRATE = "stored_versions_info", "storage_migrate"
OLD, NEW = "aescbckey-2026-01-10T22:54:38Z", "aescbckey-2026-01-10T22:58:02Z"


def secret_of(text: str) -> str:
    return base64.b64encode(text.encode().ljust(32, b"!")).decode()


def configuration(path: Path, *providers: Mapping[str, Any]) -> Path:
    """An EncryptionConfiguration for Secrets."""
    entry = {"resources": ["secrets"], "providers": [*providers, {"identity": {}}]}
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [entry]}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def local(provider: str, *names: str) -> dict[str, Any]:
    """A provider with a key for each name; the secret is made from the name."""
    return {provider: {"keys": [{"name": name, "secret": secret_of(name)} for name in names]}}


def make_secrets(cluster: Cluster, number: int) -> None:
    items = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"s-{i}", "namespace": "default"}}
        for i in range(number)
    ]
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def touch(cluster: Cluster, name: str) -> None:
    """Has an API server write a Secret."""
    cluster.kubectl("annotate", "secret", name, "touched=now", "--overwrite")


def under(cluster: Cluster, *prefixes: str) -> dict[str, int]:
    """How many Secrets in etcd begin with each of some words behind ``k8s:enc:``; of those that fit, the longest."""
    found: Counter[str] = Counter()
    for entry in read_etcd(cluster, "/registry/secrets/").values():
        fitting = [prefix for prefix in prefixes if entry.value.startswith(f"k8s:enc:{prefix}:".encode())]
        found[max(fitting, key=len, default="other")] += 1
    return dict(found)


@pytest.fixture
def secrets(single_master: Cluster) -> Iterator[Cluster]:
    """A master whose Secrets are gone after the test, so that the next one may encrypt them with other keys."""
    yield single_master
    single_master.kubectl("delete", "secrets", "--all")


def keys_told(result: Result) -> dict[str | None, int]:
    return {row["key"]: row["objects"] for row in result["resources"]["secrets"]["stored"]}


def test_key_names_with_colons(secrets: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    """Number 13: with the names that RKE2 and k3s give, two keys of one hour were one key."""
    cluster = secrets
    old, new = f"aescbc:v1:{OLD}", f"aescbc:v1:{NEW}"
    cluster.encrypt("master-1", configuration(tmp_path / "old.json", local("aescbc", OLD)))
    make_secrets(cluster, 12)
    present = configuration(tmp_path / "new.json", local("aescbc", NEW, OLD))
    cluster.encrypt("master-1", present)
    touch(cluster, "s-3")
    assert under(cluster, old, new) == {old: 11, new: 1}

    for more in ({}, {"encryption_config": str(present)}, {"encryption_keys": [f"aescbc:{OLD}", f"aescbc:{NEW}"]}):
        found = module(cluster, INFO, etcd=cluster.etcd, resources=["secrets"], **more)
        assert keys_told(found) == {OLD: 11, NEW: 1}, more
        assert found["totals"]["stale"] == 11
        assert found["totals"]["encryption_unknown"] == (0 if "encryption_config" in more else 1)
    done = module(cluster, MIGRATE, select="stale", resources=["secrets"], etcd=cluster.etcd)
    assert (done["rewritten"], done["proof"]["stale"], done["proof"]["encryption_unknown"]) == (11, 0, 0)
    assert under(cluster, old, new) == {new: 12}
    again = module(cluster, MIGRATE, select="stale", resources=["secrets"], etcd=cluster.etcd)
    assert again["changed"] is False and again["unchanged"] == 0


def test_a_restart_with_another_key_during_a_run(secrets: Cluster, tmp_path: Path) -> None:
    """All Secrets are rewritten before the restart, so etcd holds them under the key that the master had at the beginning."""
    cluster, words = secrets, ["aescbc:v1:key1", "aescbc:v1:key2", "aescbc:v1:key3"]
    cluster.encrypt("master-1", configuration(tmp_path / "1.json", local("aescbc", "key1")))
    make_secrets(cluster, 12)
    cluster.encrypt("master-1", configuration(tmp_path / "2.json", local("aescbc", "key2", "key1")))
    stale_json(cluster, 80)
    resources = ["secrets", "serviceaccounts"]
    process = start_process(cluster, select="stale", resources=resources, etcd=cluster.etcd, max_rate=12, page_size=20)
    during(process, lambda: under(cluster, *words) == {words[1]: 12} and stale_accounts(cluster) < 75)
    cluster.encrypt("master-1", configuration(tmp_path / "3.json", local("aescbc", "key3", "key2", "key1")))
    done = finish(process)
    assert not done.get("failed"), done["msg"]
    assert under(cluster, *words) == {words[2]: 12}, "no key may be dropped that something is still under"
    assert (done["proof"]["stale"], done["proof"]["encryption_unknown"]) == (0, 0)
    assert done["resources"]["secrets"]["rewritten"] == 12 and stale_accounts(cluster) == 0
    cluster.kubectl("delete", "serviceaccounts", "-n", "default", "--all")


def stale_json(cluster: Cluster, number: int) -> None:
    """ServiceAccounts in an encoding that the master does not write."""
    for account in service_accounts(number)["items"]:
        metadata = {**account["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": "2026-01-01T00:00:00Z"}
        key = f"/registry/serviceaccounts/default/{metadata['name']}"
        put(cluster, key, json.dumps({**account, "metadata": metadata}).encode())
    wait_until(lambda: stale_accounts(cluster) >= number)


def test_a_key_name_that_etcd_does_not_reveal(secrets: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    """Number 13: a secretbox may begin right behind each colon, so without the names nothing is claimed."""
    cluster = secrets
    first, second = "box-2026-01-10T22:54:38Z", "box-2026-01-10T22:58:02Z"
    cluster.encrypt("master-1", configuration(tmp_path / "first.json", local("secretbox", first)))
    make_secrets(cluster, 12)
    assert module(cluster, MIGRATE, select="stale", resources=["secrets"], etcd=cluster.etcd)["proof"]["stale"] == 0
    cluster.encrypt("master-1", configuration(tmp_path / "second.json", local("secretbox", second, first)))
    touch(cluster, "s-3")
    words = [f"secretbox:v1:{name}" for name in (first, second)]
    assert under(cluster, *words) == {words[0]: 11, words[1]: 1}

    unsure = module(cluster, INFO, etcd=cluster.etcd, resources=["secrets"])
    assert keys_told(unsure) == {None: 12}
    (row,) = unsure["resources"]["secrets"]["stored"]
    assert row["key_begins_with"] == "box-2026-01-10T22"
    assert unsure["totals"]["stale"] == 0 and "none is stale in version or encoding" in unsure.message
    assert unsure["encryption_unknown_resources"] == {"secrets": {"key_name": 12}}
    assert "Whether 12 are under the current encryption key is unknown" in unsure.message
    names = [f"secretbox:{first}", f"secretbox:{second}"]
    sure = module(cluster, INFO, etcd=cluster.etcd, resources=["secrets"], encryption_keys=names)
    assert keys_told(sure) == {first: 11, second: 1} and sure["totals"]["stale"] == 11
    # The newest one shows no more than how somebody encrypted it.
    assert sure["encryption_unknown_resources"] == {"secrets": {"guessed": 1}}

    # It asks the API server by a patch of each, instead of believing that all is well.
    done = module(cluster, MIGRATE, select="stale", resources=["secrets"], etcd=cluster.etcd)
    assert (done["rewritten"], done["proof"]["stale"], done["proof"]["encryption_unknown"]) == (11, 0, 12)
    assert under(cluster, *words) == {words[1]: 12}
    again = module(cluster, MIGRATE, select="stale", resources=["secrets"], etcd=cluster.etcd, encryption_keys=names)
    assert again["changed"] is False and again["proof"]["encryption_unknown"] == 0
    wrong = module(cluster, INFO, etcd=cluster.etcd, encryption_keys=["box"])
    # What encryption hides is unproven whether it was written in this run or not.
    assert again["proof"]["unprovable_resources"] == {"secrets": 12}
    assert wrong.failed and "write it as aescbc:key1" in wrong.message


def twins(path: Path, *secrets: str) -> Path:
    """Keys that all have one name."""
    keys = [{"name": "twin", "secret": secret_of(secret)} for secret in secrets]
    # Not aescbc: what it decrypts with a wrong key can look right, in one of 256 cases.
    return configuration(path, {"aesgcm": {"keys": keys}})


def test_two_keys_with_one_name(secrets: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    """Number 14: API servers allow it, and what is stored under either looks the same."""
    cluster = secrets
    cluster.encrypt("master-1", twins(tmp_path / "a.json", "a"))
    make_secrets(cluster, 12)
    both = twins(tmp_path / "both.json", "b", "a")
    cluster.encrypt("master-1", both)
    touch(cluster, "s-3")
    assert under(cluster, "aesgcm:v1:twin") == {"aesgcm:v1:twin": 12}

    done = module(cluster, MIGRATE, select="stale", resources=["secrets"], etcd=cluster.etcd)
    assert done["rewritten"] == 11
    assert done["proof"]["encryption_unknown_resources"] == {"secrets": 12}
    assert "Etcd doesn't show whether 12 objects are under the current encryption key" in done.message
    # With the first key gone all can still be read.
    cluster.encrypt("master-1", twins(tmp_path / "b.json", "b"))
    assert cluster.kubectl("get", "secrets", "-o", "name").count("secret/s-") == 12

    # Where the configuration has both, all are visited, whatever the first answer is.
    cluster.encrypt("master-1", both)
    found = module(cluster, INFO, etcd=cluster.etcd, resources=["secrets"], encryption_config=str(both))
    assert found["encryption_unknown_resources"] == {"secrets": {"same_name": 12}}
    assert "Whether 12 are under the current encryption key is unknown" in found.message
    again = module(
        cluster, MIGRATE, select="stale", resources=["secrets"], etcd=cluster.etcd, encryption_config=str(both)
    )
    assert (again["rewritten"], again["unchanged"]) == (0, 12)


@pytest.fixture
def kms(secrets: Cluster, tmp_path: Path) -> Iterator[KmsPlugin]:
    """A KMS plugin that all Secrets are encrypted with."""
    socket = tmp_path / "kms.sock"
    plugin = KmsPlugin(socket, "remote-1")
    provider = {"kms": {"apiVersion": "v2", "name": "plugin", "endpoint": f"unix://{socket}", "timeout": "10s"}}
    secrets.encrypt("master-1", configuration(tmp_path / "kms.json", provider))
    yield plugin
    secrets.kubectl("delete", "secrets", "--all")
    secrets.encrypt("master-1", configuration(tmp_path / "plain.json"))
    plugin.close()


def last_asked(cluster: Cluster) -> float:
    """When the API server asked its plugin last, as it says itself."""
    metrics = cluster.kubectl("get", "--raw", "/metrics")
    found = re.findall(
        r"^apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds.* (\S+)$", metrics, re.M
    )
    return max(map(float, found))


def turn(cluster: Cluster, plugin: KmsPlugin, key_id: str) -> None:
    """Rotates the plugin's key just after the API server has asked for it."""
    before = last_asked(cluster)

    def asked() -> bool:
        cluster.kubectl("get", "--raw", "/readyz")
        return last_asked(cluster) > before

    wait_until(asked)
    plugin.key_id = key_id


def under_remote(cluster: Cluster) -> dict[str, int]:
    """How many Secrets are under each remote key."""
    values = [entry.value for entry in read_etcd(cluster, "/registry/secrets/").values()]
    found = Counter(match[0].decode() for value in values for match in [re.search(rb"remote-\d", value)] if match)
    return dict(found)


def test_a_kms_key_that_was_just_rotated(
    kms: KmsPlugin, secrets: Cluster, module: Callable[..., Result], tmp_path: Path
) -> None:
    """Number 17: until the API server has asked its plugin again, it considers what is under the previous key current."""
    make_secrets(secrets, 12)
    turn(secrets, kms, "remote-2")
    config = str(tmp_path / "kms.json")
    found = module(secrets, INFO, etcd=secrets.etcd, resources=["secrets"], encryption_config=config)
    # Nothing was written since, so that only the API server can tell.
    assert found["totals"]["stale"] == 12 and under_remote(secrets) == {"remote-1": 12}
    assert found["resources"]["secrets"]["expected"]["key_id_source"] == "servers"

    turn(secrets, kms, "remote-3")
    done = module(secrets, MIGRATE, select="stale", resources=["secrets"], etcd=secrets.etcd)
    assert under_remote(secrets) == {"remote-3": 12}, done.message
    assert (done["rewritten"], done["proof"]["stale"], done["proof"]["encryption_unknown"]) == (12, 0, 0)


def test_a_kms_key_that_nobody_reports(kms: KmsPlugin, secrets: Cluster, module: Callable[..., Result]) -> None:
    """Number 17: a user who may not read the metrics can't know, and nothing is claimed."""
    make_secrets(secrets, 12)
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "no-metrics"}}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "no-metrics"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "no-metrics"}
    apply(
        secrets,
        {**role, "rules": rules},
        {**role, "kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [subject]},
    )
    user = secrets.user_kubeconfig("no-metrics")
    wait_until(lambda: secrets.kubectl("auth", "can-i", "patch", "secrets", "--as", "no-metrics").strip() == "yes")

    turn(secrets, kms, "remote-2")
    done = module(secrets, MIGRATE, select="stale", resources=["secrets"], etcd=secrets.etcd, kubeconfig=str(user))
    # Each is visited; if the API server asks its plugin meanwhile, some are rewritten. It is unknown for all of them.
    assert done["rewritten"] + done["unchanged"] == done["proof"]["encryption_unknown"] == 12
    assert "Etcd doesn't show whether 12 objects are under the current encryption key" in done.message
    (problem,) = [problem for problem in done["proof"]["problems"] if "KMS" in problem]
    assert "Which key of the KMS plugin plugin the API servers use now is unknown" in problem
    assert "cannot get the path /metrics" in problem and "keep its old keys" in problem
    found = module(secrets, INFO, etcd=secrets.etcd, resources=["secrets"], kubeconfig=str(user))
    assert found["encryption_unknown_resources"] == {"secrets": {"kms_key": 12}} and problem in found["problems"]
