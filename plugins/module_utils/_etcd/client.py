# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""etcd, read through its JSON gateway (POST /v3/kv/range), which needs no gRPC library and no etcdctl.

Chosen because a master has neither: etcdctl is in etcd's container, and grpcio in no distribution's base. It
costs nothing that counts, as values are classified without decoding them whole: in the benchmark a scan uses
less of the processor than etcd itself does to answer it. The gateway is on by default since etcd 3.5 (in 3.4
only where no file configures etcd) and takes the same client certificates as gRPC.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    BadInputError,
    EtcdError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import (
    HttpClient,
    TransportSettings,
    open_client,
)

DEFAULT_PREFIX = "/registry"
_DEFAULT_ENDPOINT = "https://127.0.0.1:2379"
_KUBEADM_PKI = "/etc/kubernetes/pki/etcd"
# kubeadm makes this client certificate for etcd's liveness probe; it may read.
_KUBEADM_FILES = {
    "ca_cert": f"{_KUBEADM_PKI}/ca.crt",
    "client_cert": f"{_KUBEADM_PKI}/healthcheck-client.crt",
    "client_key": f"{_KUBEADM_PKI}/healthcheck-client.key",
}
_REQUEST_TIMEOUT = 30.0
_HEADERS = (("Content-Type", "application/json"), ("User-Agent", "kube_storage.upgrade"))
_LAST_KEY = re.compile(rb'"key"\s*:\s*"([^"]*)"')
_MORE = re.compile(rb'"more"\s*:\s*true')
# Lost connections and 5xx of every member at once: an election takes about a second.
_ROUNDS = 5
_ROUND_PAUSE = 0.2


class CompactedError(EtcdError):
    """The revision asked for is gone: etcd was compacted since."""


@dataclass(frozen=True)
class Page:
    """One answer to a range request, not yet parsed: most of it is base64 that nobody needs to see."""

    body: bytes = field(repr=False)

    @property
    def more(self) -> bool:
        return _MORE.search(self.body, max(0, len(self.body) - 200)) is not None

    @property
    def last_key(self) -> bytes | None:
        """Found from the end, so that the next page can be asked for before this one is parsed."""
        at = self.body.rfind(b'"key"')
        match = _LAST_KEY.match(self.body, at) if at >= 0 else None
        return base64.b64decode(match[1]) if match else None

    def items(self) -> list[dict[str, str]]:
        """``key`` and ``value`` in base64, ``mod_revision`` as text; values must not leave who classifies them."""
        found = self._document().get("kvs") or []
        return found if isinstance(found, list) else []

    @property
    def revision(self) -> int:
        """etcd's revision when it answered."""
        return int((self._document().get("header") or {}).get("revision") or 0)

    @property
    def count(self) -> int:
        """Keys in the whole range, whatever the limit."""
        return int(self._document().get("count") or 0)

    def _document(self) -> dict[str, Any]:
        try:
            document = json.loads(self.body)
        except ValueError as error:
            raise EtcdError(
                "etcd's JSON gateway answered with something that is not JSON; check etcd.endpoints."
            ) from error
        if not isinstance(document, dict):
            raise EtcdError("etcd's JSON gateway answered with unexpected JSON; check etcd.endpoints.")
        return document


class Etcd:
    """All members of one etcd; use as an async context manager. Reads only.

    Any member can answer a range at a known revision (``serializable``), so those are spread over
    all of them; a member that fails is left out until no other one is left.
    """

    def __init__(self, endpoints: Sequence[str], http: HttpClient, *, prefix: str = DEFAULT_PREFIX) -> None:
        self.endpoints = tuple(endpoints)
        self.prefix = prefix
        self._http = http
        self._next = 0
        self._failed: dict[str, EtcdError] = {}
        self._passing: dict[str, bool] = {}

    async def __aenter__(self) -> Etcd:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        limit: int = 0,
        revision: int = 0,
        min_mod_revision: int = 0,
        keys_only: bool = False,
    ) -> Page:
        """Keys from ``start`` to before ``end`` (None: the one key ``start``).

        ``revision`` 0 asks for the newest, linearizable: that is what fixes the revision of a scan.
        Raises CompactedError if the revision is gone, else EtcdError.
        """
        body: dict[str, Any] = {"key": base64.b64encode(start).decode()}
        if end is not None:
            body["range_end"] = base64.b64encode(end).decode()
        if limit:
            body["limit"] = str(limit)
        if revision:
            body.update(revision=str(revision), serializable=True)
        if min_mod_revision:
            body["min_mod_revision"] = str(min_mod_revision)
        if keys_only:
            body["keys_only"] = True
        return Page(await self._post("/v3/kv/range", body))

    async def status(self) -> dict[str, Any]:
        """etcd's version and size of one member that answers."""
        answer = json.loads(await self._post("/v3/maintenance/status", {}))
        return {"version": str(answer.get("version") or ""), "db_size": int(answer.get("dbSize") or 0)}

    async def _post(self, path: str, document: Mapping[str, Any]) -> bytes:
        data = json.dumps(document).encode()
        behind = rounds = 0
        while True:
            if len(self._failed) == len(self.endpoints):
                rounds += 1
                if rounds >= _ROUNDS or not all(self._passing[one] for one in self._failed):
                    first = next(iter(self._failed.values()))
                    self._failed.clear()
                    raise first
                self._failed.clear()
                await asyncio.sleep(_ROUND_PAUSE * 2**rounds)
            endpoint = self._choose()
            try:
                answer = await self._http.request(
                    "POST", endpoint + path, headers=_HEADERS, body=data, timeout=_REQUEST_TIMEOUT
                )
            except UnreachableError as error:
                passing = error.kind == "reset"
                self._leave_out(endpoint, EtcdError(_unreachable_sentence(endpoint, error)), passing)
                continue
            if answer.status == 200 and not answer.body.startswith(b'{"error"'):
                return answer.body
            problem = _gateway_problem(endpoint, answer.status, answer.body)
            if isinstance(problem, CompactedError):
                raise problem
            if b"future revision" in answer.body and behind < 50:
                # A member that lags behind; it or another one will have the revision in a moment.
                behind += 1
                await asyncio.sleep(0.02 * behind)
                continue
            self._leave_out(endpoint, problem, answer.status >= 500)

    def _choose(self) -> str:
        usable = [one for one in self.endpoints if one not in self._failed]
        self._next += 1
        return usable[self._next % len(usable)]

    def _leave_out(self, endpoint: str, error: EtcdError, passing: bool) -> None:
        """Notes a failing member; ``passing``: it may well answer in a moment."""
        self._failed.setdefault(endpoint, error)
        self._passing[endpoint] = passing


def _unreachable_sentence(endpoint: str, error: UnreachableError) -> str:
    if error.kind == "tls":
        if "can't be verified" in error.message:
            return (
                f"etcd's certificate at {endpoint} can't be verified; check etcd.ca_cert, and that the address is in "
                "the certificate."
            )
        return (
            f"etcd at {endpoint} refused the TLS connection; check that etcd.client_cert and client_key belong to "
            "etcd's own CA."
        )
    if error.kind == "timeout":
        return f"etcd at {endpoint} did not answer in time; check etcd.endpoints and whether the member has quorum."
    if error.kind == "dns":
        return f"The host name of the etcd endpoint {endpoint} can't be resolved; check etcd.endpoints."
    if error.kind == "refused":
        return f"{endpoint} refuses connections; check etcd.endpoints, and that etcd runs there."
    return (
        f"The connection to etcd at {endpoint} was lost or refused; check that the address is etcd's client port "
        "and that etcd.client_cert and client_key belong to etcd's own CA."
    )


def _gateway_problem(endpoint: str, status: int, body: bytes) -> EtcdError:
    """What an error answer means; etcd's own message is passed on, as it holds no data."""
    try:
        document = json.loads(body)
        message = str(document.get("message") or document.get("error") or "") if isinstance(document, dict) else ""
    except ValueError:
        message = ""
    if "has been compacted" in message:
        return CompactedError("The revision of the scan was compacted away; run the task again.")
    if status == 404:
        return EtcdError(
            f"{endpoint} has no JSON gateway: it is no etcd client port, or etcd runs with "
            "--enable-grpc-gateway=false; check etcd.endpoints."
        )
    if "user name is empty" in message or status == 401:
        return EtcdError(
            f"etcd at {endpoint} asks for a user and password, which is not supported; use a client certificate."
        )
    if "permission denied" in message or status == 403:
        return EtcdError(f"etcd at {endpoint} does not let this client certificate read the keys; use one that may.")
    if "bad certificate" in message or "authentication handshake failed" in message:
        return EtcdError(
            f"The JSON gateway of etcd at {endpoint} can't reach its own server: etcd's server certificate must also "
            "allow client authentication (as kubeadm's does)."
        )
    return EtcdError(
        f"etcd at {endpoint} answered with {status}{': ' + message[:200] if message else ''}; check etcd.endpoints."
    )


def open_etcd(options: Mapping[str, Any] | None) -> Etcd:
    """From the option ``etcd``; what is not given is taken from where kubeadm puts it on a master.

    Raises BadInputError, before anything is sent, for addresses and files that can't be used.
    """
    given = {name: value for name, value in (options or {}).items() if value}
    endpoints = [_endpoint(one) for one in given.get("endpoints") or [_DEFAULT_ENDPOINT]]
    prefix = "/" + str(given.get("prefix") or DEFAULT_PREFIX).strip("/")
    context = None
    if any(one.startswith("https://") for one in endpoints):
        files = {name: given.get(name) for name in _KUBEADM_FILES}
        if not any(files.values()):
            files = {name: path if os.path.exists(path) else None for name, path in _KUBEADM_FILES.items()}
            if not files["ca_cert"] and "endpoints" not in given:
                raise BadInputError(
                    f"No etcd was given, and {_KUBEADM_PKI} does not exist here; run the task on a master, "
                    "or give etcd.endpoints, ca_cert, client_cert and client_key."
                )
        context = _ssl_context(files)
    return Etcd(endpoints, open_client(TransportSettings(ssl_context=context, concurrency=8)), prefix=prefix)


def _endpoint(text: str) -> str:
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.path.strip("/"):
        shown = text if "@" not in text else "(hidden, as it holds credentials)"
        raise BadInputError(f"etcd.endpoints: '{shown}' is not an etcd endpoint; write it like https://10.0.0.11:2379.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or 2379}"


def _ssl_context(files: Mapping[str, str | None]) -> ssl.SSLContext:
    ca_cert, client_cert, client_key = files["ca_cert"], files["client_cert"], files["client_key"]
    if bool(client_cert) != bool(client_key):
        missing = "client_key" if client_cert else "client_cert"
        raise BadInputError(f"etcd.{missing} is missing; a client certificate and its key go together.")
    for name, path in files.items():
        if path:
            _require_readable(name, path)
    try:
        context = ssl.create_default_context(cafile=ca_cert)
    except (OSError, ValueError) as error:
        raise BadInputError(f"etcd.ca_cert: {ca_cert} is not a PEM certificate; give etcd's own CA.") from error
    if client_cert:
        try:
            context.load_cert_chain(client_cert, client_key)
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
            f"etcd.{name}: {path} can't be read ({error.strerror}); run the task as a user who may (become: true)."
        ) from error
