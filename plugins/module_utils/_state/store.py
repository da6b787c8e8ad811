# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the state is kept: a ConfigMap in the cluster or a file; neither is ever left half-written."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import gzip
import os
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    BadInputError,
    StateConflictError,
    StateStoreError,
    StorageUpgradeError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import REPEATABLE
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import (
    MERGE_PATCH,
    ApiServer,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import cluster_uid, path_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State, damaged, parse, render

_KEY = "state.json.gz"
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True)
class StoreOptions:
    """The option ``state_store``.

    ``path``: the file that holds the state; None if a ConfigMap does.
    ``namespace``, ``name``: of that ConfigMap, and in either case of the Lease of a run.
    """

    path: Path | None = None
    namespace: str = "kube-system"
    name: str = "kube-storage-upgrade"

    @property
    def own_objects(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """By resource, the namespace and name of the objects that a run keeps writing: its Lease, and the ConfigMap if there is one."""
        place = ((self.namespace, self.name),)
        return {"leases.coordination.k8s.io": place, **({"configmaps": place} if self.path is None else {})}

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> StoreOptions:
        """From a module's parameters. Raises BadInputError."""
        given = params.get("state_store") or {}
        namespace, name = given.get("namespace") or cls.namespace, given.get("name") or cls.name
        for text in (namespace, name):
            if not _DNS_LABEL.fullmatch(text):
                raise BadInputError(f"state_store: '{text}' is not a name that Kubernetes accepts.")
        if given.get("kind") != "file":
            return cls(None, namespace, name)
        if not given.get("path"):
            raise BadInputError("state_store of kind file needs a path.")
        path = Path(given["path"]).expanduser()
        if path.is_dir():
            raise BadInputError(f"state_store.path {given['path']} is a directory; name a file.")
        return cls(path, namespace, name)


class StateStore(Protocol):
    """Loads and saves the whole state. ``where`` names the place for people.

    ``save`` replaces only the state that was last loaded or saved; if it finds anything else, it writes nothing and raises
    StateConflictError.
    """

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
        self._collection = path_of("/api/v1", "configmaps", namespace=namespace)
        self._path = path_of("/api/v1", "configmaps", namespace=namespace, name=name)
        self._resource_version: str | None = None
        # What may be stored there if nobody else has changed the state.
        self._own: set[str] = set()

    async def load(self) -> State:
        try:
            found = await self._server.get(self._path)
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
        self._own = {packed}
        try:
            text = gzip.decompress(base64.b64decode(packed)).decode()
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise damaged(self.where, "it can't be decompressed") from error
        return parse(text, self.where)

    async def save(self, state: State) -> None:
        """One conditional write; raises StateConflictError if somebody else has changed the state."""
        packed = base64.b64encode(gzip.compress(render(state).encode(), mtime=0)).decode()
        self._own.add(packed)  # The answer may get lost.
        try:
            await self._write(packed)
        except ApiError as error:
            if error.status != 409 or not await self._is_own():
                raise self._explained(error) from error
            await self._write(packed)
        self._own = {packed}

    async def _is_own(self) -> bool:
        """Whether the state is still ours, so that the write may be repeated.

        A request of ours may have written it although its answer was lost, or a migration rewrote the ConfigMap itself.
        """
        found = await self._server.get(self._path)
        if (found.get("binaryData") or {}).get(_KEY) not in self._own:
            return False
        self._resource_version = found["metadata"]["resourceVersion"]
        return True

    async def _write(self, packed: str) -> None:
        """May be repeated, as it is conditional: after a lost answer the next one is 409; see ``_was_ours``."""
        body: dict[str, Any] = {"metadata": {"name": self.name}, "binaryData": {_KEY: packed}}
        if self._resource_version is None:
            body["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "kube_storage.upgrade"}
            written = await self._server.json("POST", self._collection, body=body, retry=REPEATABLE)
        else:
            body["metadata"]["resourceVersion"] = self._resource_version
            written = await self._server.json(
                "PATCH", self._path, content_type=MERGE_PATCH, body=body, retry=REPEATABLE
            )
        self._resource_version = written["metadata"]["resourceVersion"]

    def _explained(self, error: ApiError) -> StorageUpgradeError:
        if error.status == 409:
            return StateConflictError(written_by_others(self.where))
        if error.status == 404:
            return StateStoreError(
                f"{self.where} can't be written: the namespace does not exist or the ConfigMap was deleted; "
                "create the namespace, or run again."
            )
        return error


def written_by_others(where: str) -> str:
    """The sentence if the state can't be written because others keep writing it."""
    return (
        f"{where} was written by somebody else at the same time; make sure that only one run is active and run again."
    )


class FileStore:
    """The state as a JSON file, replaced as a whole, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = f"file {self.path}"
        self._known: bytes | None = None

    async def load(self) -> State:
        return await asyncio.to_thread(self._load)

    async def save(self, state: State) -> None:
        await asyncio.to_thread(self._save, render(state).encode())

    def _load(self) -> State:
        content = self._read()
        self._known = content
        if content is None:
            return State()
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise damaged(f"The {self.where}", "it isn't a text file") from error
        return parse(text, f"The {self.where}")

    def _save(self, content: bytes) -> None:
        with _locked(self.path.parent):
            if self._read() != self._known:
                raise StateConflictError(written_by_others(f"The {self.where}"))
            write_whole(self.path, content)
            self._known = content

    def _read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateStoreError(
                f"The {self.where} can't be read ({error.strerror}); check state_store.path."
            ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes of this collection from replacing a file there between our read and our write."""
    descriptor = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        pass  # Some network file systems have no locks; then only the comparison protects the file.
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def require_writable(path: Path) -> None:
    """Raises StateStoreError if write_whole would; leaves nothing behind but the folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> StateStoreError:
    return StateStoreError(f"The file {path} can't be written: {error.strerror}; check the path and its permissions.")


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replaces a file as a whole: readers see the old or the new content, even after a power cut."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unwritable(path, error) from error


class OwnStore:
    """A store that refuses the state of another cluster: a file may be named for two, a ConfigMap restored in a new one.

    ``outside``: whether the state is kept outside the cluster. Then the user must be able to read the namespace kube-system, whose uid
    identifies the cluster, once the state says which cluster it is about; a ConfigMap is the cluster's own if nothing can be compared.
    """

    def __init__(self, store: StateStore, server: ApiServer, *, outside: bool) -> None:
        self.where = store.where
        self._store = store
        self._server = server
        self._outside = outside
        self._refused: int | None = None

    async def load(self) -> State:
        state, cluster = await asyncio.gather(self._store.load(), self._cluster())
        if None not in (state.cluster, cluster) and state.cluster != cluster:
            raise StateStoreError(
                f"{self.where} holds the state of another cluster, whose namespace kube-system has another uid: give another "
                "name in state_store, or delete it to start without a baseline."
            )
        if self._outside and state.cluster is not None and cluster is None and self._refused is not None:
            raise StateStoreError(
                f"Whether {self.where} is about this cluster is unknown, as the answer to a GET of the namespace kube-system was "
                f"{self._refused}: allow the user to get that namespace, or keep the state in the cluster."
            )
        return replace(state, cluster=state.cluster or cluster)

    async def save(self, state: State) -> None:
        await self._store.save(state)

    async def _cluster(self) -> str | None:
        try:
            return await cluster_uid(self._server)
        except UnreachableError:
            return None  # A file can be read without it; nothing that is migrated can.
        except ApiError as error:
            if error.status in (403, 404):
                self._refused = error.status
                return None
            raise


def open_store(options: StoreOptions, server: ApiServer) -> StateStore:
    """The store that the option state_store names."""
    if options.path is not None:
        return OwnStore(FileStore(options.path), server, outside=True)
    return OwnStore(ConfigMapStore(server, options.namespace, options.name), server, outside=False)
