# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._openshift.kubectl import access


def test_a_kubeconfig_goes_into_the_environment_and_what_overrides_it_into_flags() -> None:
    found = access(
        {"kubeconfig": "/etc/admin.conf", "context": "here", "verify_ssl": False, "proxy": "http://user:word@proxy"},
        {"Impersonate-User": "ann", "Impersonate-Group": ["a", "b"]},
        "kubernetes.default.svc",
    )
    assert found.flags == (
        "--context=here",
        "--insecure-skip-tls-verify=true",
        "--tls-server-name=kubernetes.default.svc",
        "--as=ann",
        "--as-group=a",
        "--as-group=b",
    )
    assert found.variables == {"KUBECONFIG": "/etc/admin.conf", "HTTPS_PROXY": "http://user:word@proxy"}
    assert found.document is None


@pytest.mark.parametrize("secret", [{"api_key": "s3cret"}, {"username": "ann", "password": "s3cret"}])
def test_secrets_are_never_on_the_command_line(secret: dict[str, str]) -> None:
    found = access({"host": "https://a:6443", "ssl_ca_cert": "/ca.crt", **secret}, {}, None)
    assert found.flags == ("--server=https://a:6443", "--certificate-authority=/ca.crt")
    assert found.document is not None and "s3cret" in str(found.document)
    assert "s3cret" not in repr(found) and not found.variables


def test_a_token_without_a_host_is_refused() -> None:
    with pytest.raises(BadInputError, match="need the option host"):
        access({"api_key": "s3cret"}, {}, None)


def test_a_kubeconfig_given_as_content_is_written() -> None:
    assert access({"kubeconfig": {"clusters": []}}, {}, None).document == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [],
    }
