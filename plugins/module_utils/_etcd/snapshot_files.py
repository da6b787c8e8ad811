# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of snapshots in a folder: written whole or not at all, for their owner only, the oldest removed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import EtcdError, FileError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.bolt import BoltError, revision_of

# etcd-<cluster>-<time>-r<revision>.db; the id of the cluster keeps the snapshots of two clusters in one folder apart.
_NAME = re.compile(r"etcd-([0-9a-f]+)-(\d{8}T\d{6}Z)-r(\d+)\.db")
_PART = re.compile(r"\.etcd-[0-9a-f]+-\d{8}T\d{6}Z-\d+\.part")
_TIME = "%Y%m%dT%H%M%SZ"
# The database may grow while it is sent, and others write to the same disk.
_SPARE = 16 << 20


class SnapshotFile:
    """A snapshot that is being written."""

    def __init__(self, folder: Path, stem: str, part: Path, file: BinaryIO) -> None:
        self.size = 0
        self._part = part
        self._folder = folder
        self._stem = stem
        self._file = file

    def write(self, data: bytes) -> None:
        """Raises FileError."""
        try:
            self._file.write(data)
        except OSError as error:
            raise _not_written(self._folder, error) from error
        self.size += len(data)

    def revision(self) -> int:
        """etcd's revision in it. Raises EtcdError if it is not a database of etcd."""
        try:
            self._file.flush()
            return revision_of(self._file)
        except OSError as error:
            raise _not_written(self._folder, error) from error
        except BoltError as error:
            raise EtcdError(
                f"The snapshot has the right checksum, but is not a database that this collection can read: {error}; take it with "
                "etcdctl snapshot save instead."
            ) from error

    def keep(self, revision: int) -> str:
        """Gives it its name, once it is on disk; returns the path. Raises FileError."""
        path = self._folder / f"{self._stem}-r{revision}.db"
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            os.rename(self._part, path)
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise _not_written(self._folder, error) from error
        return str(path)


@dataclass(frozen=True)
class Taken:
    """A complete snapshot, by its name."""

    path: str
    taken_at: datetime
    revision: int


class SnapshotFolder:
    """``path``: the folder, which ``prepare`` makes if it doesn't exist."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def prepare(self, expected: int, *, check_mode: bool) -> None:
        """Checks that ``expected`` bytes fit. Raises FileError, and then nothing was written."""
        try:
            existing = next(path for path in (self._path, *self._path.parents) if path.exists())
            if not existing.is_dir():
                raise FileError(f"{existing} is not a folder; give the folder for etcd's snapshots as path.")
            if not os.access(existing, os.W_OK | os.X_OK):
                raise FileError(
                    f"Nothing can be written to {existing}; give another folder as path, or run the task as another user."
                )
            if not check_mode:
                self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._remove_abandoned()
            free = shutil.disk_usage(existing).free
        except OSError as error:
            raise _not_written(self._path, error) from error
        if free < expected + _SPARE:
            raise FileError(
                f"etcd's database has {expected >> 20} MiB, and {existing} has {free >> 20} MiB free, so its snapshot doesn't fit; free "
                "space there, or give a folder on another disk as path."
            )

    @contextmanager
    def new(self, cluster: str, now: datetime) -> Iterator[SnapshotFile]:
        """A new file, which is removed unless it is kept. Raises FileError."""
        stem = f"etcd-{cluster}-{now.strftime(_TIME)}"
        part = self._path / f".{stem}-{os.getpid()}.part"
        try:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise _not_written(self._path, error) from error
        with open(descriptor, "w+b") as file:
            # Shows that somebody is writing it.
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield SnapshotFile(self._path, stem, part, file)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(part)

    def newest(self, cluster: str, revision: int) -> Taken | None:
        """The newest snapshot of an etcd cluster, by its id as etcdctl shows it; None if there is none, or the folder can't be read."""
        try:
            return newest_of((str(self._path / name) for name in self._of(cluster)), revision)
        except OSError:
            return None

    def _of(self, cluster: str) -> list[str]:
        """The names of a cluster's snapshots. Raises OSError."""
        return [name for name in os.listdir(self._path) if (match := _NAME.fullmatch(name)) and match[1] == cluster]

    def remove_old(self, cluster: str, keep: int, taken: Collection[str]) -> list[str]:
        """Removes the oldest snapshots of an etcd cluster until ``keep`` remain (0: any number); returns their paths. Raises FileError.

        Those that this run has ``taken`` stay, even if a clock that was ahead gave others a later time. If ``are_mixed``, none is removed.
        """
        if keep == 0:
            return []
        removed: list[str] = []
        try:
            new, others = self._split(cluster, taken)
            if _are_mixed(new, others):
                return []
            for name in others[: max(0, len(new) + len(others) - keep)]:
                os.unlink(self._path / name)
                removed.append(str(self._path / name))
        except OSError as error:
            raise FileError(
                f"The new snapshot is complete, but an old one in {self._path} could not be removed: {error.strerror or error}."
            ) from error
        return removed

    def are_mixed(self, cluster: str, taken: Collection[str]) -> bool:
        """Whether snapshots with this id can't all be of one cluster, as its revision only rises.

        They may be if it was restored from one of them, or if the clock was wrong when one was named.
        """
        try:
            return _are_mixed(*self._split(cluster, taken))
        except OSError:
            return False

    def _split(self, cluster: str, taken: Collection[str]) -> tuple[list[str], list[str]]:
        """The names of a cluster's snapshots: those that were ``taken`` now, and the others, the oldest first. Raises OSError."""
        found = sorted(self._of(cluster), key=_age)
        new = [name for name in found if str(self._path / name) in taken]
        return new, [name for name in found if name not in new]

    def _remove_abandoned(self) -> None:
        """Partial files of runs that were killed: nobody holds a lock on them."""
        for name in os.listdir(self._path):
            if not _PART.fullmatch(name):
                continue
            with suppress(OSError), open(self._path / name, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(self._path / name)


def _are_mixed(new: Iterable[str], others: Iterable[str]) -> bool:
    """``others``: in the order of their times."""
    revisions = [_age(name)[1] for name in others]
    newest = max((_age(name)[1] for name in new), default=None)
    return revisions != sorted(revisions) or (newest is not None and max(revisions, default=0) > newest)


def newest_of(paths: Iterable[str], revision: int) -> Taken | None:
    """The newest snapshot of one etcd cluster among these files; None if there is none. Pure.

    One of a later ``revision`` than the cluster is at now is another cluster's: those with the same first member's address share an id.
    """
    ages = {path: _age(os.path.basename(path)) for path in paths}
    path = max((path for path in ages if 0 < ages[path][1] <= revision), key=lambda path: ages[path], default=None)
    if path is None:
        return None
    moment, at = ages[path]
    try:
        return Taken(path, datetime.strptime(moment, _TIME).replace(tzinfo=timezone.utc), at)
    except ValueError:
        return None  # A file of somebody else.


def _age(name: str) -> tuple[str, int]:
    match = _NAME.fullmatch(name)
    return (match[2], int(match[3])) if match else ("", 0)


def _not_written(folder: Path, error: OSError) -> FileError:
    return FileError(
        f"etcd's snapshot can't be written to {folder}: {error.strerror or error}; no partial file was left there."
    )
