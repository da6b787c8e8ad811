# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""openshift-client (``oc``, or ``kubectl``), run with the same credentials as our own requests.

Only this program acknowledges and starts an update of OpenShift: it is the client that OpenShift supports for that, and that
its administrators know and may audit. Everything else, including all reads, goes through the request layer (_kube). So this
file can do one thing, a merge patch.

Credentials reach the program through flags and the environment. Secrets go into a file that only this user may read, as
anybody can see a command line.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    BadInputError,
    UnreachableError,
    UnreachableKind,
    UpdateError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.redaction import redact
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import forbidden_sentence
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import auth_options
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions

_TIMEOUT = 60.0
# By kubernetes.core's names of its options, without secret ones.
_FLAGS = {
    "host": "--server",
    "context": "--context",
    "ssl_ca_cert": "--certificate-authority",
    "cert_file": "--client-certificate",
    "key_file": "--client-key",
}


@dataclass(frozen=True)
class KubectlAccess:
    """How the program reaches the cluster; ``document`` is a kubeconfig to be written, ``variables`` go into its environment."""

    flags: tuple[str, ...] = ()
    document: Mapping[str, Any] | None = field(default=None, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


def access(auth: Mapping[str, Any], headers: Mapping[str, Any], server_name: str | None) -> KubectlAccess:
    """From kubernetes.core's options, with the same effect as in its own client. Pure."""
    document: Mapping[str, Any] | None = None
    variables: dict[str, str] = {}
    secret = {"token": auth.get("api_key"), "username": auth.get("username"), "password": auth.get("password")}
    kubeconfig = auth.get("kubeconfig")
    if any(secret.values()):
        if not auth.get("host"):
            raise BadInputError(
                "api_key, username and password need the option host here; or put them in the kubeconfig."
            )
        user = {"name": "user", "user": {name: value for name, value in secret.items() if value}}
        context = {"name": "context", "context": {"cluster": "cluster", "user": "user"}}
        cluster = {"name": "cluster", "cluster": {"server": auth["host"]}}
        document = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "context"}
        auth = {name: value for name, value in auth.items() if name != "context"}
    elif isinstance(kubeconfig, Mapping):
        document = kubeconfig
    elif kubeconfig:
        variables["KUBECONFIG"] = os.path.expanduser(str(kubeconfig))
    flags = [f"{flag}={auth[name]}" for name, flag in _FLAGS.items() if auth.get(name)]
    if auth.get("verify_ssl") is False:
        flags.append("--insecure-skip-tls-verify=true")
    if server_name:
        flags.append(f"--tls-server-name={server_name}")
    if headers.get("Impersonate-User"):
        flags.append(f"--as={headers['Impersonate-User']}")
    flags += [f"--as-group={group}" for group in headers.get("Impersonate-Group") or ()]
    if auth.get("proxy"):
        variables["HTTPS_PROXY"] = str(auth["proxy"])
    if auth.get("no_proxy"):
        variables["NO_PROXY"] = str(auth["no_proxy"])
    if document is not None:
        document = {"apiVersion": "v1", "kind": "Config", **document}
    return KubectlAccess(tuple(flags), document, variables)


class Kubectl:
    """Use as an async context manager; a kubeconfig that it wrote is gone afterwards."""

    def __init__(self, program: str, cluster: ClusterOptions) -> None:
        self._program = program
        self._access = access(*auth_options(cluster.auth), cluster.tls_server_name)
        self._cleanup = AsyncExitStack()
        self._environment = {**os.environ, **self._access.variables}

    async def __aenter__(self) -> Kubectl:
        if self._access.document is not None:
            file = self._cleanup.enter_context(tempfile.NamedTemporaryFile("w", suffix=".json"))
            file.write(json.dumps(self._access.document))
            file.flush()
            self._environment["KUBECONFIG"] = file.name
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._cleanup.aclose()

    def require(self) -> None:
        """Raises BadInputError if the program is not there."""
        if shutil.which(self._program) is None:
            raise BadInputError(
                f"'{self._program}' was not found on this host; install openshift-client, or give the path of a "
                "compatible program with the option oc."
            )

    async def patch(self, resource: str, name: str, patch: Mapping[str, Any], namespace: str = "") -> None:
        """A merge patch of one object; raises UpdateError with what the program says."""
        where = [f"--namespace={namespace}"] if namespace else []
        await self._run("patch", resource, name, *where, "--type=merge", f"--patch={json.dumps(patch)}")

    async def _run(self, *arguments: str) -> None:
        self.require()
        process = await asyncio.create_subprocess_exec(
            self._program,
            *arguments,
            *self._access.flags,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
        )
        try:
            output, _errors = await asyncio.wait_for(process.communicate(), _TIMEOUT)
        except asyncio.TimeoutError as error:
            raise UnreachableError(
                f"'{self._program} {_command(arguments)}' did not finish within {_TIMEOUT:g} s; try it manually.",
                kind=UnreachableKind.TIMEOUT,
            ) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = " ".join(output.decode(errors="replace").split())
            said = said.removeprefix("Error from server ").removeprefix("(Forbidden): ")
            raise UpdateError(
                forbidden_sentence(said)
                or f"'{self._program} {_command(arguments)}' failed: {redact(said) or 'no output'}"
            )


def _command(arguments: Sequence[str]) -> str:
    return " ".join(arguments[:3])
