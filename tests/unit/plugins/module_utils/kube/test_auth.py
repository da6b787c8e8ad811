# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.oldest_python import refusal
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import require_known
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.redaction import printable
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.errors import transport_failure
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.proxy import parse_proxy
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube import auth
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import api_error, forbidden_sentence
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import normalize_url, open_connection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import server_addresses
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import error_outcome


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://10.0.0.11:6443/", "https://10.0.0.11:6443"),
        ("https://10.0.0.11:443", "https://10.0.0.11"),
        ("https://[fd00::1]:6443", "https://[fd00::1]:6443"),
        ("https://[FD00:0:0::0001]:6443", "https://[fd00::1]:6443"),
        (" https://api.example.com ", "https://api.example.com"),
        ("https://rancher.example.com/k8s/clusters/c-1", "https://rancher.example.com/k8s/clusters/c-1"),
    ],
)
def test_urls(written: str, meant: str) -> None:
    assert normalize_url(written) == meant


@pytest.mark.parametrize("written", ["10.0.0.11:6443", "ftp://x", "https://", "https://x:port", "https://x?y=1", ""])
def test_malformed_urls(written: str) -> None:
    with pytest.raises(BadInputError, match="is not the URL of an API server"):
        normalize_url(written)


def test_credentials_in_a_url_are_refused_and_not_shown() -> None:
    with pytest.raises(BadInputError) as caught:
        normalize_url("https://user:hunter2@x:6443")
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    "proxy",
    [
        "http://me:hun/ter2@p:1",
        "http://[me:hunter2@p",
        "ftp://me:hunter2@p",
        "http://:hunter2@:1",
        "p:0",
        "http://p/path",
    ],
)
def test_a_malformed_proxy_is_one_sentence_without_its_password(proxy: str) -> None:
    """Issue 13, number 14."""
    with pytest.raises(BadInputError, match="is not the URL of a proxy") as refused:
        parse_proxy(proxy, "proxy")
    assert "ter2" not in refused.value.message


@pytest.mark.parametrize(
    ("written", "url", "user", "password"),
    [
        ("http://p:3128", "http://p:3128", None, None),
        ("p:3128", "http://p:3128", None, None),
        ("me:hunter2@p", "http://p", "me", "hunter2"),
        ("https://me:hunter%402@[fd00::1]:1/", "https://[fd00::1]:1", "me", "hunter@2"),
        ("socks5://me@p", "socks5h://p", "me", ""),
    ],
)
def test_proxies(written: str, url: str, user: str | None, password: str | None) -> None:
    """Issue 17, number 5."""
    proxy = parse_proxy(written, "proxy")
    assert (proxy.url, proxy.user, proxy.password) == (url, user, password)
    assert ("Proxy-Authorization" in proxy.headers) == bool(user)
    assert "hunter" not in repr(proxy)
    assert parse_proxy(written, "proxy", {"proxy-authorization": "x"}).headers == {"Proxy-Authorization": "x"}


def test_forbidden_says_who_may_not_do_what() -> None:
    message = (
        'configmaps is forbidden: User "jane" cannot list resource "configmaps" in API group "" at the cluster scope'
    )
    assert "user jane cannot list configmaps at the cluster scope" in str(forbidden_sentence(message))
    assert forbidden_sentence("no") is None
    path = forbidden_sentence('forbidden: User "jane" cannot get path "/metrics": RBAC: no')
    assert path is not None and "user jane cannot get the path /metrics;" in path


@pytest.mark.parametrize(
    "message",
    [
        'admission webhook "x" denied the request: a is forbidden: User "{}" cannot get path "/{}"',
        """secrets "a" is forbidden: ValidatingAdmissionPolicy 'x' with binding 'y' denied request: User "{}" cannot list path "/{}" {}""",
        'Secret "a" is invalid: data: Invalid value: "forbidden: User \\"{}\\" cannot list path \\"{}\\"": no',
    ],
)
def test_what_looks_like_a_missing_permission_inside_anothers_words_is_not_shown(message: str) -> None:
    """Issue 13, number 14."""
    body = {"kind": "Status", "message": message.replace("{}", "hunter2"), "reason": "hunter2"}
    answer = Response(403, {}, json.dumps(body).encode())
    assert forbidden_sentence(body["message"]) is None
    error = api_error(answer, "https://a", "PATCH", "/x")
    assert "hunter2" not in error.message and error.reason == ""
    assert "hunter2" not in str(error_outcome(answer))
    assert "hunter2" in error_outcome(answer, say=printable).message
    assert "hunter2" in api_error(answer, "https://a", "PATCH", "/x", printable).message


def test_tls_failures_say_what_to_change() -> None:
    wrong_ca = ssl.SSLCertVerificationError(1, "self-signed certificate in certificate chain")
    wrong_ca.verify_message = "self-signed certificate in certificate chain"
    assert "check ca_cert" in transport_failure("https://a:1/x", wrong_ca).message
    wrong_name = ssl.SSLCertVerificationError(1, "mismatch")
    wrong_name.verify_message = "IP address mismatch, certificate is not valid for '10.0.0.1'"
    assert "tls_server_name" in transport_failure("https://a:1/x", wrong_name).message


def test_an_old_python_is_refused_in_one_sentence() -> None:
    """Issue 17, number 8."""
    assert refusal((3, 10), "python") is None
    said = str(refusal((3, 9, 18), "/usr/bin/python3"))
    assert "needs Python 3.10" in said and "3.9 at /usr/bin/python3" in said and "ansible_python_interpreter" in said


def test_endpoint_slices() -> None:
    slices = {
        "items": [
            {
                "ports": [{"name": "https", "port": 6443}],
                "endpoints": [{"addresses": ["10.0.0.12"]}, {"addresses": ["10.0.0.11"]}],
            },
            {"ports": [{"name": "https", "port": 6443}], "endpoints": [{"addresses": ["fd00::1"]}]},
            {"ports": None, "endpoints": None},
        ]
    }
    assert [url for _address, url in server_addresses(slices, "https")] == [
        "https://10.0.0.11:6443",
        "https://10.0.0.12:6443",
        "https://[fd00::1]:6443",
    ]


def test_unknown_resources_are_refused_with_a_hint() -> None:
    known = ["deployments.apps", "secrets"]
    require_known(["secrets"], known, "resources")
    with pytest.raises(BadInputError, match="did you mean deployments.apps"):
        require_known(["deployments"], known, "resources")
    with pytest.raises(BadInputError, match="did you mean secrets"):
        require_known(["secret"], known, "resources")


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"host": "http://other:8080", "client_cert": "c.crt", "client_key": "c.key"}, None),
        ({"host": "http://other:8080", "api_key": "own"}, "Bearer own"),
    ],
)
def test_a_pod_s_token_goes_to_no_other_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], sent: str | None
) -> None:
    pytest.importorskip("kubernetes")
    token = tmp_path / "token"
    token.write_text("of the pod", encoding="utf-8")
    monkeypatch.setattr(auth, "_POD_TOKEN", str(token))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert dict(open_connection(options).authorize()).get("Authorization") == sent


@pytest.mark.parametrize(
    ("user", "cluster", "says"),
    [
        ({"auth-provider": {"name": "gcp"}}, {}, "The auth provider 'gcp' of user 'u'"),
        (
            {"auth-provider": {"name": "oidc", "config": {"refresh-token": "t"}}},
            {},
            "The auth provider 'oidc' of user 'u'",
        ),
        ({"auth-provider": {"name": "gcp"}}, {"certificate-authority-data": "x"}, "is not a valid kubeconfig; compare"),
        ({"auth-provider": {"name": "oidc"}, "client-key-data": "x"}, {}, "is not a valid kubeconfig; compare"),
        ({"auth-provider": "oidc"}, {}, "is not a valid kubeconfig (the auth-provider of user 'u' is malformed)"),
        ({"auth-provider": {"name": "oidc", "config": "t"}}, {}, "(the auth-provider of user 'u' is malformed)"),
        (
            {"auth-provider": {"name": "oidc", "config": {"id-token": ["t"]}}},
            {},
            "(the auth-provider of user 'u' is malformed)",
        ),
        ({"auth-provider": None}, {}, None),
    ],
)
def test_an_auth_provider_is_blamed_only_for_what_it_causes(
    monkeypatch: pytest.MonkeyPatch, user: dict[str, Any], cluster: dict[str, Any], says: str | None
) -> None:
    """Issue 17: any malformed kubeconfig whose user has one was said to give no token."""
    kubernetes = pytest.importorskip("kubernetes")
    monkeypatch.setattr(kubernetes.client.Configuration, "_default", None)
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:9", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    if says is None:
        assert open_connection({"kubeconfig": document}).authorize() == []
        return
    with pytest.raises(BadInputError) as refused:
        open_connection({"kubeconfig": document})
    assert says in refused.value.message
