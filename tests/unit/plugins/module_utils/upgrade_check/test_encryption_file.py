# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an API server could not read after a restart, by the file on its master."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("yaml")

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, EtcdClusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.encryption_file import (
    check_encryption_file,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import held

FLAG = "--encryption-provider-config"
SECRET = "c2VjcmV0IHNlY3JldCE="
STORED = held(
    secrets={
        Variant(None, None, "aescbc", "v1", "old"): Tally(objects=2),
        Variant(None, None, "aescbc", "v1", "new"): Tally(objects=5),
        Variant(None, None, "kms", "v2", "vault", "sha256:1"): Tally(objects=1),
        Variant(None, None, "aescbc", "v1", None, None, "a"): Tally(objects=9),
        Variant("v1", "protobuf"): Tally(objects=3),
    }
)


def check(
    folder: Path, *keys: str, config: str | None = None, endpoint: str = "https://127.0.0.1:2379", flag: str = FLAG
) -> list[Finding]:
    file, manifest = folder / "enc.yaml", folder / "kube-apiserver.yaml"
    providers: list[dict[str, Any]] = [
        {"identity": {}},
        {"kms": {"name": "vault", "endpoint": "unix:///a", "apiVersion": "v2"}},
    ]
    if keys:
        providers.append({"aescbc": {"keys": [{"name": key, "secret": SECRET} for key in keys]}})
    document = {"kind": "EncryptionConfiguration", "resources": [{"resources": ["secrets"], "providers": providers}]}
    file.write_text(json.dumps(document) if config is None else config, encoding="utf-8")
    command = ["kube-apiserver", *([f"{flag}={file}"] if flag else [])]
    manifest.write_text(json.dumps({"spec": {"containers": [{"command": command}]}}), encoding="utf-8")
    etcd = EtcdClusters(Etcd([endpoint], cast(Any, None)))
    return check_encryption_file(etcd, STORED, ["secrets"], str(manifest))


def test_a_file_that_lost_a_key_since_the_api_server_was_started(tmp_path: Path) -> None:
    assert check(tmp_path, "old", "new") == []
    (finding,) = check(tmp_path, "new")
    assert finding.id == "encryption_file/kube-apiserver" and finding.blocks
    assert "names no key for 2 objects of secrets under aescbc old." in finding.what and SECRET not in str(finding)
    assert "Delete nothing" in finding.remediation
    # The flag was removed from the manifest, of which the API server knows nothing yet either.
    (finding,) = check(tmp_path, "old", "new", flag="")
    assert (
        "5 objects of secrets under aescbc new" in finding.what
        and "1 object of secrets under kms vault" in finding.what
    )


@pytest.mark.parametrize("config", ["", "kind: EncryptionConfiguration\nresources: [{providers: []}]", f"{{{SECRET}"])
def test_a_file_with_which_no_api_server_starts(tmp_path: Path, config: str) -> None:
    (finding,) = check(tmp_path, config=config)
    assert "is not a valid EncryptionConfiguration" in finding.what and SECRET not in str(finding)


def test_files_that_may_be_those_of_another_cluster_say_nothing(tmp_path: Path) -> None:
    assert check(tmp_path, endpoint="https://10.0.0.11:2379") == []
    assert check_encryption_file(None, STORED, ["secrets"]) == []
    here = EtcdClusters(Etcd(["https://[::1]:2379"], cast(Any, None)))
    assert check_encryption_file(here, STORED, ["secrets"], str(tmp_path / "none")) == []
    assert (
        check_encryption_file(here, None, []) == check_encryption_file(here, Stored(), [], str(tmp_path / "none")) == []
    )


def test_either_spelling_of_the_flag_is_one(tmp_path: Path) -> None:
    assert check(tmp_path, "old", "new", flag="--encryption_provider_config") == []


def test_what_no_server_reads_now_is_not_lost_by_a_restart(tmp_path: Path) -> None:
    check(tmp_path, "new")
    here = EtcdClusters(Etcd(["https://127.0.0.1:2379"], cast(Any, None)))
    assert check_encryption_file(here, STORED, ["configmaps"], str(tmp_path / "kube-apiserver.yaml")) == []
