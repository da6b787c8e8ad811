# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How to reach an etcd, what may be wrong with that, and the sentences that say so.

If authentication is enabled in etcd, its JSON gateway takes no names from client certificates (etcd, server/embed/serve.go:
accessController), only a token that is issued for a user and a password.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    BadInputError,
    EtcdError,
    UnreachableCause,
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.http2 import (
    UNIX,
    how_to_install,
    is_available,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.tls import (
    EncryptedKeyError,
    client_certificate_problem,
    client_context,
    no_passphrase,
    reason_of,
)

_PROBE_TIMEOUT = 2.0
# Where the error's own sentence says what to do; elsewhere etcd's options have to be named.
_NOT_ETCD = (UnreachableKind.EXHAUSTED, UnreachableKind.PROXY, UnreachableKind.UNUSABLE)
_NAMED = (UnreachableCause.PROXY, UnreachableCause.GRPC)


class CompactedError(EtcdError):
    """The requested revision is gone: etcd was compacted."""


class PermissionDeniedError(EtcdError):
    """etcd knows the user and refuses them; so will every other member."""


class NoLeaderError(EtcdError):
    """The member could not reach a leader within etcd's own time limit."""


class Explanation(NamedTuple):
    """Why a member gave no answer, and whether it may soon (``passing``)."""

    message: str
    passing: bool


@dataclass(frozen=True)
class Access:
    """How etcd is reached. ``client_cert`` is a path; ``tls`` makes a new context with the same files, None for http."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    client_cert: str | None = None
    files: Mapping[str, str | None] | None = None
    through_proxy: bool = False

    async def explain(self, endpoint: str, error: UnreachableError) -> Explanation:
        """Finds the cause with a closer look at the client certificate and at the port's protocol."""
        if error.kind in (UnreachableKind.TLS, UnreachableKind.RESET):
            problem = client_certificate_problem(self.client_cert, f"etcd.client_cert: {self.client_cert}")
            if problem is not None:
                return Explanation(f"etcd at {endpoint} can't be asked: {problem}", passing=False)
        unclear = error.kind in (UnreachableKind.TLS, UnreachableKind.RESET) and not endpoint.startswith(UNIX)
        if unclear and not self.through_proxy and not is_available() and await self.is_grpc_only(endpoint):
            return Explanation(
                f"{endpoint} is a gRPC-only port of etcd, or kine, which k3s uses with an SQL database. To have it read over gRPC, "
                f"{how_to_install()}. Or, if it is etcd, give the port of its JSON gateway (--listen-client-http-urls: 2382 on RKE2 and "
                "k3s, 2383 on Talos) as etcd.endpoints.",
                passing=False,
            )
        return Explanation(self.unreachable(endpoint, error), passing=error.kind is UnreachableKind.RESET)

    async def is_grpc_only(self, endpoint: str) -> bool:
        """Whether the port speaks HTTP/2 first, unasked, as only a gRPC server does."""
        parts = urlsplit(endpoint)
        tls = None
        if parts.scheme == "https" and self.files is not None:
            tls = tls_context(self.files)
            tls.set_alpn_protocols(["h2"])
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(parts.hostname, parts.port, ssl=tls), _PROBE_TIMEOUT
            )
        except (OSError, asyncio.TimeoutError):
            return False
        try:
            frame = await asyncio.wait_for(reader.readexactly(9), _PROBE_TIMEOUT)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            return False
        finally:
            writer.close()
        # A SETTINGS frame, of type 4 and on stream 0 (RFC 9113, 4.1 and 6.5).
        return frame[3:] == b"\x04\0\0\0\0\0"

    def unreachable(self, endpoint: str, error: UnreachableError) -> str:
        """The sentence for a member that gave no answer."""
        if error.kind in _NOT_ETCD or error.cause in _NAMED or endpoint.startswith(UNIX):
            return error.message
        if error.cause is UnreachableCause.EXPIRED:
            return f"etcd's own certificate at {endpoint} has expired; renew it (kubeadm certs renew etcd-server)."
        if error.cause is UnreachableCause.CERTIFICATE:
            return (
                f"etcd's certificate at {endpoint} can't be verified; check etcd.ca_cert, and that the address is in "
                "the certificate."
            )
        if error.kind is UnreachableKind.TLS:
            return (
                f"etcd at {endpoint} refused the TLS connection; check that etcd.client_cert and client_key belong to "
                "etcd's own CA."
            )
        if error.kind is UnreachableKind.TIMEOUT:
            return f"etcd at {endpoint} did not answer in time; check etcd.endpoints, and that the member is running."
        if error.kind is UnreachableKind.DNS:
            return f"The host name of the etcd endpoint {endpoint} can't be resolved; check etcd.endpoints."
        if error.kind is UnreachableKind.REFUSED:
            return f"{endpoint} refuses connections; check etcd.endpoints, and that etcd is running there."
        return (
            f"The connection to etcd at {endpoint} was lost or refused; check that the address is etcd's client port "
            "and that etcd.client_cert and client_key belong to etcd's own CA."
        )

    def gateway_problem(self, endpoint: str, status: int, body: bytes) -> EtcdError:
        """What an error answer means; etcd's own message is passed on, as it contains no data. Anything else there may repeat what it got."""
        text = body.decode(errors="replace")
        try:
            document = json.loads(body)
            message = str(document.get("message") or document.get("error") or "") if isinstance(document, dict) else ""
        except ValueError:
            message = ""
        if "has been compacted" in message:
            return CompactedError("The revision of the scan was compacted away; run the task again.")
        if status == 404:
            without = (
                ""
                if is_available() or self.through_proxy
                else f" To have such an etcd read over gRPC, {how_to_install()}."
            )
            return EtcdError(
                f"{endpoint} has no JSON gateway: it is not an etcd client port, or etcd runs with "
                f"--enable-grpc-gateway=false; check etcd.endpoints.{without}"
            )
        if "CommonName of client" in text:
            give = "" if self.username else "etcd.username, etcd.password and "
            return EtcdError(
                f"Authentication is enabled in etcd at {endpoint}, so its JSON gateway refuses client certificates that have a common "
                f"name; give {give}a client certificate without one."
            )
        if "invalid user ID or password" in text:
            return EtcdError(f"etcd at {endpoint} does not accept etcd.username with etcd.password; check both.")
        denied = "permission denied" in text or status == 403
        if "user name is empty" in text or status == 401 or (denied and not self.username):
            # Without a token the gateway asks as the user that etcd's own certificate names, who usually doesn't exist.
            return PermissionDeniedError(
                f"Authentication is enabled in etcd at {endpoint}, and its JSON gateway takes no name from a client certificate; give "
                "etcd.username and etcd.password."
            )
        if denied:
            return PermissionDeniedError(
                f"etcd at {endpoint} does not let the user {self.username} read the keys; grant that permission (etcdctl role "
                "grant-permission ROLE read /registry/ --prefix), or give a user who can."
            )
        if "no leader" in text or "request timed out" in text:
            return NoLeaderError(
                f"etcd at {endpoint} has no leader, or one that is too slow: find out which members are down or can't reach each other "
                "(etcdctl endpoint status --cluster), and run again."
            )
        if "bad certificate" in message or "authentication handshake failed" in message:
            return EtcdError(
                f"The JSON gateway of etcd at {endpoint} can't reach its own server: etcd's server certificate must also "
                "allow client authentication (as kubeadm's does)."
            )
        shown = "" if self.password and self.password in message else message[:200]
        return EtcdError(
            f"etcd at {endpoint} answered with {status}{': ' + shown if shown else ''}; check etcd.endpoints."
        )


def tls_context(files: Mapping[str, str | None]) -> ssl.SSLContext:
    """From ``ca_cert``, ``client_cert`` and ``client_key``; raises BadInputError for files that can't be used."""
    ca_cert, client_cert, client_key = files["ca_cert"], files["client_cert"], files["client_key"]
    if bool(client_cert) != bool(client_key):
        missing = "client_key" if client_cert else "client_cert"
        raise BadInputError(f"etcd.{missing} is missing; a client certificate and its key go together.")
    for name, path in files.items():
        if path:
            _require_readable(name, path)
    try:
        context = client_context(ca_cert)
    except (OSError, ValueError) as error:
        raise BadInputError(f"etcd.ca_cert: {ca_cert} is not a PEM certificate; give etcd's own CA.") from error
    if client_cert:
        try:
            context.load_cert_chain(client_cert, client_key, no_passphrase)
        except EncryptedKeyError as error:
            raise BadInputError(f"etcd.client_key: {client_key} can't be used: {reason_of(error)}.") from error
        except (OSError, ValueError) as error:
            raise BadInputError(
                f"etcd.client_cert: {client_cert} and {client_key} are not a PEM certificate and its key; check both."
            ) from error
    return context


def _require_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except FileNotFoundError as error:
        raise BadInputError(
            f"etcd.{name}: {path} does not exist; give the right path, on the host where the task runs."
        ) from error
    except OSError as error:
        raise BadInputError(
            f"etcd.{name}: {path} can't be read ({error.strerror}); run the task as a user who can (become: true)."
        ) from error
