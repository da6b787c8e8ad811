# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What crd_manifests may name. Issue 13, number 7: what holds no CRD passed as safe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.manifests import read_manifests
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import WIDGETS, crd

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}


def test_crds_are_found_wherever_they_are(tmp_path: Path) -> None:
    deep = tmp_path / "charts" / "operator" / "crds"
    deep.mkdir(parents=True)
    (deep / "crds.yaml").write_text(yaml.safe_dump_all([NAMESPACE, crd("v1", "v1")]), encoding="utf-8")
    (tmp_path / "values.yaml").write_text("a: 1\n", encoding="utf-8")
    for given in (
        [str(tmp_path)],
        [str(deep / "crds.yaml")],
        [json.dumps(crd("v1", "v1"))],
        [NAMESPACE, crd("v1", "v1")],
        [[crd("v1", "v1")]],
        [{"kind": "List", "items": [crd("v1", "v1")]}],
    ):
        assert [found.name for found in read_manifests(given)] == [WIDGETS]
    assert read_manifests([]) == []
    assert len(read_manifests([crd("v1", "v1"), crd("v1", "v1")])) == 1


def test_a_plain_equals_sign_is_a_text() -> None:
    """As in the schema of prometheus-operator's AlertmanagerConfigs."""
    text = yaml.safe_dump(crd("v1", "v1")) + "x-match:\n- '!='\n- =\n- =~\n"
    (found,) = read_manifests([text])
    assert found.document["x-match"] == ["!=", "=", "=~"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([NAMESPACE], "crd_manifests holds no CustomResourceDefinition"),
        ([yaml.safe_dump(NAMESPACE)], "a text in the option holds no CustomResourceDefinition"),
        ([""], "a text in the option holds no CustomResourceDefinition"),
        (["just a few\nwords"], "holds no Kubernetes manifest"),
        (
            [yaml.safe_dump(crd("v1", "v1")).replace("example.com", "{{ .Values.group }}")],
            "a chart that isn't rendered",
        ),
        (
            [
                yaml.safe_dump(crd("v1", "v1")).replace(
                    "spec:",
                    "spec:\n  conversion: {webhook: {clientConfig: {service: {namespace: '{{ .Release.Namespace }}'}}}}",
                )
            ],
            "a chart that isn't rendered",
        ),
        ([crd("v1", "v1"), crd("v2", "v2")], "is there twice, with different content"),
        (["{{- if .Values.crds }}\nkind: CustomResourceDefinition\n{{- end }}\n"], "a chart that isn't rendered"),
        ([yaml.safe_dump(crd("v1", "v1")), yaml.safe_dump(NAMESPACE)], "holds no CustomResourceDefinition; check it"),
    ],
)
def test_what_holds_no_crd_is_an_error(given: list[Any], says: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read_manifests(given)
    assert says in caught.value.message


def test_folders_and_files_without_a_crd_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds no file that ends in .yml"):
        read_manifests([str(tmp_path)])
    (tmp_path / "ns.yaml").write_text(yaml.safe_dump(NAMESPACE), encoding="utf-8")
    for path in (tmp_path, tmp_path / "ns.yaml"):
        with pytest.raises(BadInputError, match=f"{path} holds no CustomResourceDefinition"):
            read_manifests([str(path)])
    (tmp_path / "empty.yaml").write_text("", encoding="utf-8")
    with pytest.raises(BadInputError, match="empty.yaml holds no"):
        read_manifests([str(tmp_path / "empty.yaml")])
