# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a kubeconfig says, and what is wrong with it (issue 17, numbers 1, 2, 3 and 9). On real servers: test_ways_in.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.kubeconfig_secrets import (
    is_secret_argument,
    public_texts,
    texts_named,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import forbidden_sentence
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import impersonation_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.kubeconfig import KubeContext, read_context


def document(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "prod",
        "contexts": [
            {"name": "prod", "context": {"cluster": "one", "user": "jane"}},
            {"name": "stray", "context": {"cluster": "one", "user": "jnae"}},
            {"name": "nobody", "context": {"cluster": "one"}},
            {"name": "nowhere", "context": {"cluster": "two", "user": "jane"}},
        ],
        "clusters": [{"name": "one", "cluster": {"server": "https://10.0.0.11:6443"}}],
        "users": [{"name": "jane", "user": {"token": "hunter2"}}],
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "context", "says"),
    [
        (
            {"current-context": ""},
            None,
            "has no current-context; choose one with the option context (nobody, nowhere, prod, stray)",
        ),
        ({}, "pord", "has no context named 'pord'; did you mean 'prod'?"),
        ({}, "xyz", "has no context named 'xyz' (it has nobody, nowhere, prod, stray)"),
        ({}, "stray", "names the user 'jnae', which isn't in it; did you mean 'jane'?"),
        ({}, "nobody", "names no user"),
        ({}, "nowhere", "names the cluster 'two', which isn't in it (it has one)"),
        ({"clusters": [{"name": "one", "cluster": {}}]}, None, "names no server"),
        ({"users": [{"name": "jane", "user": {"as-groups": ["g"]}}]}, None, "has as-groups without as"),
        (
            {"users": [{"name": "jane", "user": {"client-key": "/no/key"}}]},
            None,
            "does not exist: /no/key (client-key)",
        ),
        ({"users": {"jane": {}}}, None, "is not a valid kubeconfig (users is malformed)"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, changes: dict[str, Any], context: str | None, says: str) -> None:
    path = tmp_path / "config"
    path.write_text(json.dumps(document(**changes)), encoding="utf-8")
    for kubeconfig in (str(path), document(**changes)):
        with pytest.raises(BadInputError) as refused:
            read_context(kubeconfig, context)
        assert says in refused.value.message and "hunter2" not in refused.value.message
        assert (str(path) in refused.value.message) == isinstance(kubeconfig, str) or "names no server" in says


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"The kubeconfig /no/such does not exist"):
        read_context("/no/such")
    with pytest.raises(BadInputError, match="not a kubeconfig's content as text") as content:
        read_context(json.dumps(document()))
    assert "hunter2" not in content.value.message
    empty, text = tmp_path / "empty", tmp_path / "text"
    empty.write_text("", encoding="utf-8")
    text.write_text("just: [text", encoding="utf-8")
    for path, says in ((empty, "is empty"), (text, "is not a valid kubeconfig"), (tmp_path, "can't be read")):
        with pytest.raises(BadInputError, match=says):
            read_context(str(path))


def test_paths_are_relative_to_their_own_file_and_the_first_entry_wins(tmp_path: Path) -> None:
    for name, server in (("a", "https://a"), ("b", "https://b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ca.crt").touch()
        cluster = {"server": server, "certificate-authority": "ca.crt"}
        user = {"exec": {"command": f"./{name}"}, "tokenFile": ""}
        content = document(
            clusters=[{"name": "one", "cluster": cluster}],
            users=[{"name": "jane" if name == "b" else "joe", "user": user}],
        )
        (tmp_path / name / "config").write_text(json.dumps({**content, "current-context": "prod"}), encoding="utf-8")
    found = read_context(f"{tmp_path}/a/config:/no/such:{tmp_path}/b/config")
    assert found.cluster["server"] == "https://a"
    assert found.cluster["certificate-authority"] == f"{tmp_path}/a/ca.crt"
    assert found.user["exec"]["command"] == f"{tmp_path}/b/b"
    assert "hunter2" not in repr(read_context(document()))
    assert "exec" not in found.as_kubeconfig(without=["exec"])["users"][0]["user"]


def test_impersonation() -> None:
    """Issue 17, number 2."""

    def headers(user: dict[str, Any]) -> list[tuple[str, str]]:
        return impersonation_of(KubeContext("the kubeconfig", "c", "one", "jane", {}, user))

    assert headers({"token": "x"}) == [] and impersonation_of(None) == []
    assert headers(
        {"as": "joe", "as-uid": "7", "as-groups": ["a", "b"], "as-user-extra": {"Example.com/Reason": ["x", "y"]}}
    ) == [
        ("Impersonate-User", "joe"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-example.com%2Freason", "x"),
        ("Impersonate-Extra-example.com%2Freason", "y"),
    ]


def test_only_what_is_secret_is_hidden() -> None:
    """Issue 17, number 3."""
    users = [
        {
            "name": "a",
            "user": {"token": "t1", "client-key-data": "k1", "client-certificate-data": "c1", "password": "p1"},
        },
        {"name": "b", "user": {"auth-provider": {"name": "oidc", "config": {"refresh-token": "t2", "id-token": "t3"}}}},
        {
            "name": "c",
            "user": {
                "exec": {
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "command": "aws",
                    "args": ["get-token", "--cluster-name", "shop", "--client-secret=s1", "--password", "s2"],
                    "env": [{"name": "AWS_PROFILE", "value": "prod"}, {"name": "AWS_SECRET_ACCESS_KEY", "value": "s3"}],
                }
            },
        },
    ]
    clusters = [{"name": "one", "cluster": {"server": "https://a", "proxy-url": "http://me:hunter2@p"}}]
    public = public_texts(document(users=users, clusters=clusters))
    assert {
        "v1",
        "Config",
        "prod",
        "one",
        "https://a",
        "c1",
        "aws",
        "get-token",
        "shop",
        "client.authentication.k8s.io/v1",
    } <= public
    assert not public & {"t1", "k1", "p1", "t2", "t3", "s1", "--client-secret=s1", "s2", "s3", "http://me:hunter2@p"}
    assert public_texts(document(users=[{"name": "prod", "user": {"token": "prod"}}])) & {"prod"} == set()
    assert public_texts("/root/.kube/config") == {"/root/.kube/config"}
    assert public_texts("apiVersion: v1\nusers: []") == set() == public_texts(None)
    assert texts_named(
        {"api_key": "x", "etcd": {"overrides": [{"password": "y"}]}, "name": "z"}, ("api_key", "password")
    ) == {"x", "y"}
    assert is_secret_argument("--token", "x") and not is_secret_argument("--region", "x")


@pytest.mark.parametrize(
    "arguments",
    ["--pass x", "--pass=x", "-p x", "-u me:x", "--jwt x", "--pin x", "--user-pwd=x", "--github-pat x"],
)
def test_a_secret_under_any_usual_flag_is_hidden(arguments: str) -> None:
    before, argument = ["", *arguments.split()][-2:]
    assert is_secret_argument(before, argument)


@pytest.mark.parametrize(
    "arguments", ["get-token", "--cluster-name shop", "-o json", "--mapping x", "--pinned x", "--path x"]
)
def test_plain_arguments_stay_readable(arguments: str) -> None:
    before, argument = ["", *arguments.split()][-2:]
    assert not is_secret_argument(before, argument)


def test_a_script_may_contain_a_secret() -> None:
    assert is_secret_argument("-c", "curl https://login.example.com/?t=s3cret | jq")
    public = public_texts(
        {"users": [{"user": {"exec": {"env": [{"name": name, "value": f"{name}-value"} for name in ENVIRONMENT]}}}]}
    )
    assert {name for name in ENVIRONMENT if f"{name}-value" in public} == {"AWS_REGION"}


ENVIRONMENT = ("LDAP_PASS", "OS_PASS", "MY_JWT", "GITHUB_PAT", "AWS_REGION")


def test_nobody_is_told_to_grant_rights_to_anonymous() -> None:
    """Issue 17, number 1."""
    message = (
        'nodes is forbidden: User "system:anonymous" cannot list resource "nodes" in API group "" at the cluster scope'
    )
    sentence = str(forbidden_sentence(message))
    assert "doesn't know who asks" in sentence and "ClusterRole" not in sentence
