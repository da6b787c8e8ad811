# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every way to a cluster (issue 17): credential plugins, token files, impersonation, certificates, proxies.

Most tests call the connection in this process instead of running Ansible, which costs a tenth; the servers, plugins and proxies are
real.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import kubernetes
import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    BadInputError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_clusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube import auth, credentials
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import Cluster, open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError

from tests.control_plane.certificates import Authority, Pair
from tests.control_plane.cluster import Cluster as ControlPlane
from tests.control_plane.cluster import ClusterError

from .support.modules import ANSIBLE, Result
from .support.plays import run_playbook
from .support.proxy import TunnelProxy
from .support.waiting import wait_until

V1 = "client.authentication.k8s.io/v1"
Answer = TypeVar("Answer")
# Found before the tests have a home of their own.
_PYENV = sorted(str(path) for path in Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9"))
OLD_PYTHON = next(iter(_PYENV), None) or shutil.which("python3.9")


@pytest.fixture(autouse=True)
def _no_leftovers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """kubernetes keeps the last kubeconfig for the whole process, and reads the environment."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    kubernetes.client.Configuration.set_default(None)
    yield
    kubernetes.client.Configuration.set_default(None)


def ask(work: Callable[[Cluster], Awaitable[Answer]], **params: Any) -> Answer:
    """What ``work`` finds out about the cluster that these options name."""

    async def main() -> Answer:
        async with open_cluster(ClusterOptions.from_params(params)) as cluster:
            return await work(cluster)

    return asyncio.run(main())


async def known_as(cluster: Cluster) -> dict[str, Any]:
    """As whom the server knows us."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await cluster.entry.json("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
    user: dict[str, Any] = answer["status"]["userInfo"]
    return user


async def who(cluster: Cluster) -> tuple[str, list[str]]:
    """Name and groups of that."""
    user = await known_as(cluster)
    return user["username"], user.get("groups") or []


async def nodes(cluster: Cluster) -> dict[str, Any]:
    return await cluster.entry.get("/api/v1/nodes")


def refused(kubeconfig: Any, **params: Any) -> str:
    """The sentence with which a way in ends."""
    with pytest.raises(StorageUpgradeError) as error:
        ask(nodes, kubeconfig=kubeconfig, **params)
    return error.value.message


def admin(control_plane: ControlPlane) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(control_plane.kubeconfig.read_text(encoding="utf-8"))
    return document


def with_user(control_plane: ControlPlane, **user: Any) -> dict[str, Any]:
    """The admin's kubeconfig as a dictionary, with another user."""
    document = admin(control_plane)
    document["users"][0]["user"] = user
    return document


def plugin(folder: Path, script: str) -> dict[str, Any]:
    """A kubeconfig's entry for a real credential plugin."""
    path = folder / "plugin"
    path.write_text(f"#!{sys.executable}\nimport json, os, sys\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return {"command": str(path), "apiVersion": V1}


def printing(status: str, version: str = V1) -> str:
    return f'print(json.dumps({{"apiVersion": "{version}", "kind": "ExecCredential", "status": {status}}}))'


@pytest.fixture(scope="module")
def token(single_master: ControlPlane) -> str:
    """One of a service account that may do nothing."""
    single_master.kubectl("create", "serviceaccount", "walker")
    return single_master.kubectl("create", "token", "walker").strip()


WALKER = "system:serviceaccount:default:walker"


def test_credential_plugins(single_master: ControlPlane, tmp_path: Path, token: str) -> None:
    """Number 1: what goes wrong is told with the command, never with its output; what goes right works."""
    works = plugin(tmp_path, printing(f'{{"token": "{token}"}}'))
    assert ask(who, kubeconfig=with_user(single_master, exec=works))[0] == WALKER
    asked = plugin(
        tmp_path,
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])['spec']\n"
        "assert info['interactive'] is False and info['cluster']['server'].startswith('https://'), info\n"
        "assert info['cluster']['certificate-authority-data'] and os.environ['REGION'] == 'eu' and sys.argv[1:] == ['a']\n"
        + printing(f'{{"token": "{token}"}}'),
    )
    asked = {**asked, "provideClusterInfo": True, "args": ["a"], "env": [{"name": "REGION", "value": "eu"}]}
    assert ask(who, kubeconfig=with_user(single_master, exec=asked))[0] == WALKER
    secret = "s3cr3t"
    for script, more, says in (
        (
            "",
            {"command": "no-such-plugin", "installHint": "get it from\nexample.com"},
            "is not on the host where the task runs; install it there (get it",
        ),
        (
            f"print('{secret}'); print('{secret}', file=sys.stderr); sys.exit(3)",
            {"args": ["--token", secret, "x"]},
            "failed with exit code 3",
        ),
        ("os.kill(os.getpid(), 9)", {}, "was ended by SIGKILL"),
        (f"print('{secret}')", {}, "did not print an ExecCredential"),
        (
            printing(f'{{"token": "{secret}"}}', "client.authentication.k8s.io/v1beta1"),
            {},
            "answers in client.authentication.k8s.io/v1beta1, but the kubeconfig asks for client.authentication.k8s.io/v1",
        ),
        (printing("{}"), {}, "returned neither a token nor a client certificate"),
        (printing(f'{{"clientCertificateData": "{secret}"}}'), {}, "a client certificate without its key"),
        (printing(f'{{"clientCertificateData": "{secret}", "clientKeyData": "{secret}"}}'), {}, "can't be used"),
        (printing('{"token": "x", "expirationTimestamp": "soon"}'), {}, "is not a time"),
        ("", {"interactiveMode": "Always"}, "requires a terminal"),
        ("", {"apiVersion": ""}, "has no apiVersion"),
    ):
        entry = {**plugin(tmp_path, script), **more}
        said = refused(with_user(single_master, exec=entry))
        assert says in said and secret not in said and "anonymous" not in said, said
        assert f"of user '{admin(single_master)['users'][0]['name']}' of the kubeconfig" in said


def test_credentials_that_the_server_does_not_know(single_master: ControlPlane, tmp_path: Path) -> None:
    """Number 1: nobody is told to give rights to system:anonymous."""
    said = refused(with_user(single_master))
    assert "doesn't know who asks" in said and "has no credentials" in said and "ClusterRole" not in said
    wrong = plugin(tmp_path, printing('{"token": "expired"}'))
    assert "does not accept the credentials (401)" in refused(with_user(single_master, exec=wrong))
    document = admin(single_master)
    document["contexts"][0]["context"]["user"] = "amdin"
    assert "names the user 'amdin', which isn't in it" in refused(document)


def test_auth_providers(single_master: ControlPlane, token: str) -> None:
    """oidc is the last that kubectl has; its id-token is sent as it is until it ends. The others gave way to plugins."""

    def provider(name: str, **config: str) -> dict[str, Any]:
        return with_user(single_master, **{"auth-provider": {"name": name, "config": config}})

    client = {"client-id": "kubectl", "idp-issuer-url": "https://127.0.0.1:9"}
    assert ask(who, kubeconfig=provider("oidc", **{**client, "id-token": token}))[0] == WALKER
    head, _body, signature = token.split(".")
    ended = ".".join((head, base64.urlsafe_b64encode(b'{"exp":1}').decode().rstrip("="), signature))
    said = refused(provider("oidc", **{**client, "id-token": ended}))
    assert "The auth provider 'oidc' of user" in said and "Log in again" in said and signature not in said
    for name in ("gcp", "azure"):
        said = refused(provider(name))
        assert (
            f"The auth provider '{name}' of user" in said and "credential plugin" in said and "ClusterRole" not in said
        )


def test_a_plugins_token_that_ends_is_replaced(
    single_master: ControlPlane, tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number 4: in time before it ends, and when the server refuses it; each with one run of the plugin."""
    runs = tmp_path / "runs"
    count = (
        f"n = len(open('{runs}', 'a+').read()) if 0 else os.path.getsize('{runs}'); open('{runs}', 'a').write('x')\n"
    )

    def times() -> int:
        return runs.stat().st_size

    runs.touch()
    other = plugin(tmp_path, count + printing(f'{{"token": "{token}" if n else "refused"}}'))

    async def several(cluster: Cluster) -> set[str]:
        return {name for name, _groups in await asyncio.gather(*(who(cluster) for _time in range(5)))}

    assert ask(several, kubeconfig=with_user(single_master, exec=other)) == {WALKER} and times() == 2

    runs.write_text("", encoding="utf-8")
    soon = "__import__('datetime').datetime.now(__import__('datetime').timezone.utc).isoformat()"
    status = f'{{"token": "{token}", **({{}} if n else {{"expirationTimestamp": {soon}}})}}'
    other = plugin(tmp_path, count + printing(status))
    assert ask(several, kubeconfig=with_user(single_master, exec=other)) == {WALKER} and times() == 2

    async def fails_later(cluster: Cluster) -> str:
        assert (await who(cluster))[0] == WALKER
        plugin(tmp_path, "sys.exit(4)")
        assert cluster.connection.renewal is not None
        await cluster.connection.renewal.after_refusal(cluster.connection.renewal.version)
        assert (await who(cluster))[0] == WALKER, "what hasn't ended yet is used on"
        single_master.kubectl("delete", "serviceaccount", "walker")
        single_master.kubectl("create", "serviceaccount", "walker")
        monkeypatch.setattr(credentials, "_PLUGIN_EVERY", 0.0)
        while True:  # API servers remember for some seconds whom a token belongs to.
            try:
                await who(cluster)
            except ApiError as error:
                return error.message
            await asyncio.sleep(0.1)

    own = single_master.kubectl("create", "token", "walker").strip()
    said = ask(
        fails_later, kubeconfig=with_user(single_master, exec=plugin(tmp_path, printing(f'{{"token": "{own}"}}')))
    )
    assert "(401)" in said and "failed with exit code 4" in said


def test_a_plugins_certificate_that_changes(single_master: ControlPlane, tmp_path: Path) -> None:
    """Number 4: connections that showed the old one are not used again."""
    authority = Authority(single_master.folder / "certificates", "ca")
    old, new = authority.issue("plugin-old", "old"), authority.issue("plugin-new", "new")

    def issuing(pair: Pair) -> dict[str, Any]:
        parts = f'"clientCertificateData": open("{pair.cert}").read(), "clientKeyData": open("{pair.key}").read()'
        return plugin(tmp_path, printing(f"{{{parts}}}"))

    async def twice(cluster: Cluster) -> tuple[str, str]:
        first = (await who(cluster))[0]
        issuing(new)
        assert cluster.connection.renewal is not None
        assert await cluster.connection.renewal.after_refusal(cluster.connection.renewal.version)
        return first, (await who(cluster))[0]

    assert ask(twice, kubeconfig=with_user(single_master, exec=issuing(old))) == ("old", "new")


def test_a_token_file_that_rotates(single_master: ControlPlane, tmp_path: Path) -> None:
    """Number 4."""
    single_master.kubectl("create", "serviceaccount", "rotator")
    path = tmp_path / "token"
    path.write_text("outdated\n", encoding="utf-8")
    document = with_user(single_master, tokenFile=str(path), token="something else")
    assert "(401)" in refused(document)

    async def rotated(cluster: Cluster) -> str:
        path.write_text(single_master.kubectl("create", "token", "rotator"), encoding="utf-8")
        return (await who(cluster))[0]

    assert ask(rotated, kubeconfig=document) == "system:serviceaccount:default:rotator"
    path.unlink()
    assert "names a file that does not exist" in refused(with_user(single_master, tokenFile=str(path)))


def test_impersonation_of_a_kubeconfig(
    single_master: ControlPlane, module: Callable[..., Result], tmp_path: Path
) -> None:
    """Numbers 2 and 3: the run is made as that user, and nothing but secrets becomes asterisks."""
    document = admin(single_master)
    user = document["users"][0]["user"]
    user.update(
        {"as": "jane", "as-groups": ["editors"], "as-user-extra": {"example.com/Why": ["a drill"]}, "as-uid": "7"}
    )
    name, groups = ask(who, kubeconfig=document)
    assert name == "jane" and "editors" in groups and "system:masters" not in groups
    user_info = ask(known_as, kubeconfig=document)
    assert (user_info["uid"], user_info["extra"]) == ("7", {"example.com/why": ["a drill"]})
    assert "user jane cannot list nodes" in refused(document)
    assert ask(who, kubeconfig=document, impersonate_user="joe") == ("joe", ["system:authenticated"])
    result = module(None, "storage_version_hashes", kubeconfig=document, verbose="-vvv")
    assert result.failed and "user jane cannot list" in result.message
    server = document["clusters"][0]["cluster"]["server"]
    assert result.data["cluster"] == {"name": None, "context": document["current-context"], "server": server}
    shown = result.data["invocation"]["module_args"]["kubeconfig"]
    assert shown["apiVersion"] == "v1" and shown["users"][0]["user"]["as"] == "jane"


def test_what_is_wrong_with_files_and_certificates(single_master: ControlPlane, tmp_path: Path) -> None:
    """Number 9."""
    authority = Authority(single_master.folder / "certificates", "ca")
    expired = authority.issue("expired-user", "jane", expired=True)
    said = refused(
        with_user(single_master, **{"client-certificate": str(expired.cert), "client-key": str(expired.key)})
    )
    assert "(401)" in said and f"The client certificate {expired.cert} expired on" in said
    good = authority.issue("encrypted-user", "jane")
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkcs8", "-topk8", "-in", str(good.key), "-out", str(locked), "-passout", "pass:hunter2"]
    subprocess.run(command, check=True, capture_output=True)
    said = refused(with_user(single_master, **{"client-certificate": str(good.cert), "client-key": str(locked)}))
    assert "is encrypted" in said and str(good.cert) in said
    etcd = {**single_master.etcd, "client_cert": str(good.cert), "client_key": str(locked)}
    with pytest.raises(BadInputError, match=r"^etcd\.client_key: .* the key is encrypted"):
        asyncio.run(_etcd_version(etcd))
    with pytest.raises(BadInputError, match="The kubeconfig /no/such does not exist"):
        ask(nodes, kubeconfig="/no/such")


def test_proxies(single_master: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 5: HTTP and SOCKS 5, credentials in the URL, NO_PROXY; a proxy that refuses or is dead is named."""
    document = admin(single_master)
    target = single_master.balancer_url.removeprefix("https://")

    async def three(cluster: Cluster) -> None:
        for _time in range(3):
            await nodes(cluster)

    with TunnelProxy() as proxy:
        for url in (f"http://{proxy.address}", proxy.address, f"socks5://{proxy.address}"):
            proxy.targets.clear()
            ask(three, kubeconfig=document, proxy=url)
            assert proxy.targets == [target], "one connection is used for all"
        proxy.targets.clear()
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        ask(nodes, kubeconfig=document)
        assert proxy.targets == [target]
        monkeypatch.setenv("NO_PROXY", f"example.com,{single_master.network.gateway}/24")
        ask(nodes, kubeconfig=document)
        assert proxy.targets == [target]
        monkeypatch.delenv("HTTPS_PROXY")
        monkeypatch.delenv("NO_PROXY")
        document["clusters"][0]["cluster"]["proxy-url"] = f"socks5://{proxy.address}"
        ask(nodes, kubeconfig=document)
        assert proxy.targets == [target, target]
        nobody = {**document, "clusters": [{**document["clusters"][0]}]}
        nobody["clusters"][0]["cluster"] = {**document["clusters"][0]["cluster"], "server": "https://127.0.0.1:9"}
        assert f"The proxy socks5h://{proxy.address} can't reach https://127.0.0.1:9: connection refused" in refused(
            nobody
        )
        proxy.targets.clear()
        etcd = {**single_master.etcd, "proxy": f"socks5://{proxy.address}"}
        assert asyncio.run(_etcd_version(etcd)) and proxy.targets

    document["clusters"][0]["cluster"].pop("proxy-url")
    password = "hunter/2"
    with TunnelProxy(credentials=f"me:{password}") as proxy:
        for scheme in ("http", "socks5"):
            ask(nodes, kubeconfig=document, proxy=f"{scheme}://me:hunter%2F2@{proxy.address}")
            for wrong in ("", "me:hunter%2F3@"):
                said = refused(document, proxy=f"{scheme}://{wrong}{proxy.address}")
                assert "(407)" in said and proxy.address in said and "hunter" not in said
            etcd = {**single_master.etcd, "proxy": f"{scheme}://me:hunter%2F2@{proxy.address}"}
            assert asyncio.run(_etcd_version(etcd))
            said = etcd_refused({**etcd, "proxy": f"{scheme}://me:hunter%2F3@{proxy.address}"})
            assert "(407)" in said and proxy.address in said and "hunter" not in said
        ask(
            nodes,
            kubeconfig=document,
            proxy=f"http://{proxy.address}",
            proxy_headers={"proxy_basic_auth": f"me:{password}"},
        )
        gone = proxy.address
    for scheme in ("http", "socks5"):
        said = refused(document, proxy=f"{scheme}://me:hunter%2F2@{gone}")
        assert f"{gone} refuses connections" in said and said.startswith("The proxy ") and "hunter" not in said
        said = etcd_refused({**single_master.etcd, "proxy": f"{scheme}://me:hunter%2F2@{gone}"})
        assert f"{gone} refuses connections" in said and "hunter" not in said
    for status, says in ((403, "does not allow connections to https://"), (503, "can't reach https://")):
        with TunnelProxy(answers=status) as proxy:
            assert says in refused(document, proxy=f"http://{proxy.address}")
    monkeypatch.setitem(sys.modules, "urllib3.contrib.socks", None)
    said = refused(document, proxy="socks5://127.0.0.1:9")
    assert "lacks the Python library PySocks" in said and sys.executable in said


def etcd_refused(options: dict[str, Any]) -> str:
    with pytest.raises(StorageUpgradeError) as error:
        asyncio.run(_etcd_version(options))
    return error.value.message


async def _etcd_version(options: dict[str, Any]) -> str:
    async with open_clusters(options) as clusters:
        return str((await clusters.of("secrets").status())["version"])


@pytest.mark.parametrize(
    ("first_bytes", "says"),
    [
        (b"", "ended the connection during the TLS handshake"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS"),
    ],
)
def test_what_is_not_a_server(single_master: ControlPlane, first_bytes: bytes, says: str) -> None:
    """Number 9: a load balancer with nothing behind it, and a port that speaks plain HTTP."""

    async def behind(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first_bytes)
        writer.close()

    async def main() -> str:
        listening = await asyncio.start_server(behind, "127.0.0.1", 0)
        document = admin(single_master)
        document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with listening, open_cluster(ClusterOptions.from_params({"kubeconfig": document})) as cluster:
            with pytest.raises(StorageUpgradeError) as error:
                await nodes(cluster)
        return error.value.message

    assert says in asyncio.run(main())


async def plain_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    await writer.drain()
    writer.close()


async def websocket_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n"
    )
    await writer.drain()
    writer.close()


async def http2_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    server = H2Connection(H2Configuration(client_side=False))
    server.initiate_connection()
    writer.write(server.data_to_send())
    with pytest.raises(ProtocolError):
        while data := await reader.read(65536):
            server.receive_data(data)
    writer.write(server.data_to_send())
    await writer.drain()
    writer.close()


def through_a_front_end(
    pair: Pair,
    ca: Path,
    *,
    address: str = "127.0.0.1",
    host: str = "127.0.0.1",
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = plain_answer,
    protocol: str = "http/1.1",
) -> str:
    """What a server with that certificate, which speaks TLS 1.3 alone, answers; or the sentence that refuses it."""

    async def main() -> str:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        tls.set_alpn_protocols([protocol])
        tls.load_cert_chain(pair.cert, pair.key)
        listening = await asyncio.start_server(answer, address, 0, ssl=tls)
        url = f"https://{host}:{listening.sockets[0].getsockname()[1]}"
        options = {"host": url, "ca_cert": str(ca), "api_key": "a token"}
        async with listening, open_cluster(ClusterOptions.from_params(options)) as cluster:
            try:
                return str(await nodes(cluster))
            except StorageUpgradeError as error:
                return error.message

    return asyncio.run(main())


def test_tls_as_kubectl_takes_it(tmp_path: Path) -> None:
    """TLS 1.3 alone; a server whose own certificate is the CA; one that has expired."""
    authority = Authority(tmp_path, "ca")
    pair = authority.issue("front", "front", addresses=["127.0.0.1"])
    assert through_a_front_end(pair, authority.pair.cert) == "{}"
    assert through_a_front_end(pair, pair.cert) == "{}"
    expired = authority.issue("expired-front", "front", addresses=["127.0.0.1"], expired=True)
    said = through_a_front_end(expired, authority.pair.cert)
    assert "certificate has expired; renew it" in said


def test_chains_and_revocation_lists_as_kubectl_takes_them(tmp_path: Path) -> None:
    """The server sends its issuer, or the client trusts just that; a list beside the CA is ignored, as by Go."""
    root, between = Authority(tmp_path, "root"), Authority(tmp_path, "between")
    between.become_issued_by(root)
    pair = between.issue("front", "front", addresses=["127.0.0.1"])
    alone = pair.cert.read_bytes()
    assert through_a_front_end(pair, between.pair.cert) == "{}"
    assert "check ca_cert" in through_a_front_end(pair, root.pair.cert)
    pair.cert.write_bytes(alone + between.pair.cert.read_bytes())
    assert through_a_front_end(pair, root.pair.cert) == "{}"
    beside = tmp_path / "with-list.crt"
    beside.write_bytes(between.revocation_list(pair) + between.pair.cert.read_bytes() + root.pair.cert.read_bytes())
    assert through_a_front_end(pair, beside) == "{}"


def test_a_front_end_that_only_speaks_http_2(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    pair = authority.issue("front-2", "front", addresses=["127.0.0.1"])
    said = through_a_front_end(pair, authority.pair.cert, answer=http2_only, protocol="h2")
    assert "it speaks HTTP/2 only; let it accept HTTP/1.1, too" in said


def test_a_front_end_that_only_speaks_websocket(tmp_path: Path) -> None:
    """kubectl gives up there, too, and says less."""
    authority = Authority(tmp_path, "ca")
    pair = authority.issue("front-ws", "front", addresses=["127.0.0.1"])
    said = through_a_front_end(pair, authority.pair.cert, answer=websocket_only)
    assert "takes no plain HTTP/1.1 requests (426), only websocket; let that front end accept them" in said


@pytest.mark.parametrize("host", ["[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]"])
def test_any_notation_of_ipv6_leads_to_the_server(tmp_path: Path, host: str) -> None:
    """Number 10."""
    authority = Authority(tmp_path, "ca")
    pair = authority.issue("front-6", "front", addresses=["::1"])
    assert through_a_front_end(pair, authority.pair.cert, address="::1", host=host) == "{}"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One master that speaks TLS 1.3 alone."""
    folder = tmp_path_factory.mktemp("strict") / "cluster"
    cluster = ControlPlane.up(folder, masters=1, flags=["tls-min-version=VersionTLS13"], owner_pid=os.getpid())
    yield cluster
    cluster.down()


def test_a_real_server_with_tls_1_3_alone_reached_by_ipv6(strict: ControlPlane, module: Callable[..., Result]) -> None:
    """Number 10 as well: two notations of its address are one server."""
    old = ssl.create_default_context(cafile=str(strict.certificate("ca").cert))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError), socket.create_connection((strict.address("master-1"), 6443)) as plain:
        old.wrap_socket(plain, server_hostname="master-1").close()
    with socket.socket(socket.AF_INET6) as free:
        free.bind(("::1", 0))
        port = free.getsockname()[1]
    relay = [str(strict.folder / "bin" / "tcp-proxy"), "--listen", f"[::1]:{port}"]
    with subprocess.Popen([*relay, "--backends", f"{strict.address('master-1')}:6443"]) as relaying:
        try:
            url = f"https://[::1]:{port}"
            document = admin(strict)
            document["clusters"][0]["cluster"] |= {"server": url, "tls-server-name": "master-1"}
            kubeconfig = strict.folder / "by-ipv6"
            kubeconfig.write_text(json.dumps(document), encoding="utf-8")
            wait_until(lambda: _is_answered(strict, kubeconfig))
            servers = [url, f"https://[0:0:0:0:0:0:0:1]:{port}", f"https://[::0001]:{port}/"]
            found = module(None, "storage_version_hashes", kubeconfig=str(kubeconfig), servers=servers)
            assert [server["url"] for server in found["servers"]] == [url] and found["converged"] is True
            assert found["cluster"]["server"] == url
        finally:
            relaying.kill()


def _is_answered(cluster: ControlPlane, kubeconfig: Path) -> bool:
    """As kubectl sees it."""
    with suppress(ClusterError):
        return cluster.kubectl("get", "--raw", "/readyz", kubeconfig=kubeconfig) == "ok"
    return False


def test_a_real_python_that_is_too_old_or_lacks_a_library(single_master: ControlPlane, tmp_path: Path) -> None:
    """Number 8."""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    lacks = f"The Python library kubernetes is needed where this task runs; {bare}/bin/python lacks it"
    cases = [(str(bare / "bin" / "python"), lacks)]
    cases += [(OLD_PYTHON, f"this is 3.9 at {OLD_PYTHON}")] if OLD_PYTHON else []
    for interpreter, says in cases:
        task = {"kube_storage.upgrade.storage_version_hashes": {"kubeconfig": str(single_master.kubeconfig)}}
        playbook = tmp_path / "play.yml"
        playbook.write_text(
            json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]), encoding="utf-8"
        )
        done = run_playbook(playbook, tmp_path, variables={"ansible_python_interpreter": interpreter})
        said = " ".join((done.stdout + done.stderr).split())
        assert done.returncode != 0 and says in said, said


def test_in_a_pod(single_master: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 7: the pod's own account, whose token rotates; a kubeconfig that somebody put there is preferred."""
    single_master.kubectl("create", "serviceaccount", "pod")
    path = tmp_path / "pod-token"
    path.write_text(single_master.kubectl("create", "token", "pod"), encoding="utf-8")
    host, _colon, port = single_master.balancer_url.removeprefix("https://").rpartition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    in_cluster = kubernetes.config.incluster_config
    monkeypatch.setattr(in_cluster, "SERVICE_TOKEN_FILENAME", str(path))
    monkeypatch.setattr(in_cluster, "SERVICE_CERT_FILENAME", str(single_master.certificate("ca").cert))
    monkeypatch.setattr(auth, "_POD_TOKEN", str(path))
    pod = "system:serviceaccount:default:pod"
    assert ask(who)[0] == pod
    assert auth.describe({}) == {"context": None, "server": single_master.balancer_url}

    async def rotated(cluster: Cluster) -> str:
        assert cluster.connection.renewal is not None
        path.write_text("outdated", encoding="utf-8")
        await cluster.connection.renewal.after_refusal(cluster.connection.renewal.version)
        path.write_text(single_master.kubectl("create", "token", "pod"), encoding="utf-8")
        return (await who(cluster))[0]

    assert ask(rotated) == pod
    kubernetes.client.Configuration.set_default(None)
    own = tmp_path / ".kube" / "config"
    own.parent.mkdir()
    own.write_text(single_master.kubeconfig.read_text(encoding="utf-8"), encoding="utf-8")
    assert "system:masters" in ask(who)[1]
    monkeypatch.setenv("KUBECONFIG", str(single_master.user_kubeconfig("explicit")))
    assert ask(who)[0] == "explicit"
    monkeypatch.setenv("KUBECONFIG", "/no/such")
    with pytest.raises(BadInputError, match="The kubeconfig /no/such does not exist"):
        ask(who)


def test_a_kubeconfig_below_files_and_in_a_vault(single_master: ControlPlane, tmp_path: Path) -> None:
    """Number 6."""
    (tmp_path / "files").mkdir()
    secret = tmp_path / "files" / "admin.conf"
    secret.write_text(single_master.kubeconfig.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "password").write_text("hunter2", encoding="utf-8")
    vault = ["--vault-password-file", str(tmp_path / "password")]
    subprocess.run(
        [str(ANSIBLE.with_name("ansible-vault")), "encrypt", *vault, str(secret)], check=True, capture_output=True
    )
    tasks: list[dict[str, Any]] = [
        {
            "kube_storage.upgrade.storage_version_hashes": {"kubeconfig": "admin.conf", "cluster_name": "shop"},
            "register": "found",
        },
        {"kube_storage.upgrade.encryption_config_info": {"kubeconfig": "admin.conf"}},
        {"ansible.builtin.assert": {"that": ["found.converged", "found.cluster.name == 'shop'"]}},
    ]
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    given = {"ansible_python_interpreter": sys.executable}
    done = run_playbook(playbook, tmp_path, *vault, variables=given)
    assert done.returncode == 0, done.stdout + done.stderr
    locked = run_playbook(playbook, tmp_path, variables=given)
    assert locked.returncode != 0 and "is encrypted with Ansible Vault" in locked.stdout + locked.stderr
