# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the state is kept: a ConfigMap in the cluster, or a file. Never half-written in either."""

from __future__ import annotations

import asyncio
import base64
import gzip
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import MERGE_PATCH, ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    ApiError,
    BadInputError,
    StateStoreError,
    StorageUpgradeError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state import State, parse, render

DEFAULT = {"kind": "configmap", "namespace": "kube-system", "name": "kube-storage-upgrade"}
_KEY = "state.json.gz"
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


class StateStore(Protocol):
    """Loads and saves the whole state. ``where`` names it for people."""

    where: str

    async def load(self) -> State: ...

    async def save(self, state: State) -> None: ...


class ConfigMapStore:
    """The state, compressed, in one key of a ConfigMap (whose limit is 1 MiB)."""

    def __init__(self, server: ApiServer, namespace: str, name: str) -> None:
        self.where = f"ConfigMap {namespace}/{name}"
        self.namespace = namespace
        self.name = name
        self._server = server
        self._collection = f"/api/v1/namespaces/{namespace}/configmaps"
        self._resource_version: str | None = None
        self._unanswered: set[str] = set()

    async def load(self) -> State:
        try:
            found = await self._server.get(f"{self._collection}/{self.name}")
        except ApiError as error:
            if error.status == 404:
                self._resource_version = None
                return State()
            raise
        self._resource_version = found["metadata"]["resourceVersion"]
        packed = (found.get("binaryData") or {}).get(_KEY)
        if packed is None:
            if found.get("data") or found.get("binaryData"):
                raise StateStoreError(
                    f"{self.where} exists but holds something else; give another name in state_store."
                )
            return State()
        try:
            text = gzip.decompress(base64.b64decode(packed)).decode()
        except (OSError, EOFError, ValueError) as error:
            raise StateStoreError(
                f"{self.where} is damaged; restore it, or delete it to start without a baseline."
            ) from error
        return parse(text, self.where)

    async def save(self, state: State) -> None:
        """One conditional write; raises StateStoreError where somebody else wrote it meanwhile."""
        packed = base64.b64encode(gzip.compress(render(state).encode(), mtime=0)).decode()
        try:
            await self._write(packed)
        except UnreachableError:
            self._unanswered.add(packed)
            raise
        except ApiError as error:
            if error.status != 409 or not await self._was_ours():
                raise self._explained(error) from error
            await self._write(packed)
        self._unanswered.clear()

    async def _was_ours(self) -> bool:
        """Whether what is there was written by a request of ours whose answer was lost."""
        if not self._unanswered:
            return False
        found = await self._server.get(f"{self._collection}/{self.name}")
        if (found.get("binaryData") or {}).get(_KEY) not in self._unanswered:
            return False
        self._resource_version = found["metadata"]["resourceVersion"]
        return True

    async def _write(self, packed: str) -> None:
        body: dict[str, Any] = {"metadata": {"name": self.name}, "binaryData": {_KEY: packed}}
        if self._resource_version is None:
            body["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "kube_storage.upgrade"}
            written = await self._server.json("POST", self._collection, body=body)
        else:
            body["metadata"]["resourceVersion"] = self._resource_version
            written = await self._server.json(
                "PATCH", f"{self._collection}/{self.name}", content_type=MERGE_PATCH, body=body
            )
        self._resource_version = written["metadata"]["resourceVersion"]

    def _explained(self, error: ApiError) -> StorageUpgradeError:
        if error.status == 409:
            return StateStoreError(
                f"{self.where} was written by somebody else at the same time; "
                "make sure that only one run is active and run again."
            )
        if error.status == 404:
            return StateStoreError(
                f"{self.where} can't be written: the namespace does not exist or the ConfigMap was deleted; "
                "create the namespace, or run again."
            )
        return error


class FileStore:
    """The state as a JSON file, replaced as a whole, readable by its owner only."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        self.where = f"file {self.path}"

    async def load(self) -> State:
        return await asyncio.to_thread(self._load)

    async def save(self, state: State) -> None:
        await asyncio.to_thread(write_whole, self.path, render(state).encode())

    def _load(self) -> State:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return State()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not a text file"
            raise StateStoreError(f"The {self.where} can't be read ({why}); check state_store.path.") from error
        return parse(text, f"The {self.where}")


def write_whole(path: Path, content: bytes) -> None:
    """Replaces a file as a whole: a reader sees the old content or the new one, also after a power cut."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StateStoreError(
            f"The file {path} can't be written: {error.strerror}; check the path and its rights."
        ) from error


def open_store(option: Mapping[str, Any] | None, server: ApiServer) -> StateStore:
    """The store that the option state_store names; raises BadInputError where it makes no sense."""
    given = dict(option or {})
    kind = given.get("kind") or "configmap"
    if kind == "file":
        path = given.get("path")
        if not path:
            raise BadInputError("state_store of kind file needs a path.")
        if Path(path).expanduser().is_dir():
            raise BadInputError(f"state_store.path {path} is a directory; name a file.")
        return FileStore(path)
    namespace = given.get("namespace") or DEFAULT["namespace"]
    name = given.get("name") or DEFAULT["name"]
    for text in (namespace, name):
        if not _DNS_LABEL.fullmatch(text):
            raise BadInputError(f"state_store: '{text}' is not a name that Kubernetes accepts.")
    return ConfigMapStore(server, namespace, name)
