# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of module encryption_config_file: replaces a configuration if it is the one that the new one was made from.

The new file is complete on disk before it takes the old one's name, so neither a reader nor a power cut ever leaves a partial
one. Runs on masters, so it uses only the standard library.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import FileError, StorageUpgradeError

_OTHERS = 0o007
# Like owner and mode, the SELinux context and the access list determine who may read a file.
_ATTRIBUTES = ("security.selinux", "system.posix_acl_access")


class FileChangedError(StorageUpgradeError):
    """The file is not the one that the new content was made from."""

    name = "file_changed"


def replace_file(
    path: str, content: bytes, replaces: str, *, copy_to: str | None, renew_copy: bool, check_mode: bool
) -> dict[str, Any]:
    """The module's result. ``replaces``: SHA-256 in hex of the expected file; a file with the new content is left alone.

    ``copy_to`` first gets a copy of the old file, for root only; an existing copy is kept unless ``renew_copy``.
    Raises FileError and FileChangedError, and then the file is unchanged.
    """
    wanted = hashlib.sha256(content).hexdigest()
    place = os.path.realpath(path)  # a link stays a link
    try:
        with _alone_in(os.path.dirname(place)) as folder:
            present = _read(place)
            found = hashlib.sha256(present).hexdigest()
            if found not in (wanted, replaces):
                raise FileChangedError(
                    f"{path} was changed since the plan was made, and was left alone. If nobody else is working on it, run again: "
                    "a new plan is made from what is there."
                )
            changed = found != wanted
            if changed and not check_mode:
                _remove_leftovers(place)
                if copy_to and (renew_copy or not os.path.lexists(copy_to)):
                    _remove_leftovers(copy_to)
                    _put(copy_to, present, folder, None)
                _put(place, content, folder, place)
                found = wanted
            state = os.stat(place)
    except OSError as error:
        raise FileError(_sentence(path, error)) from error
    return {
        "changed": changed,
        "sha256": found,
        "mode": f"0{stat.S_IMODE(state.st_mode):o}",
        "mtime": state.st_mtime,
        "backup_file": copy_to if copy_to and os.path.lexists(copy_to) else None,
    }


@contextmanager
def _alone_in(folder: str) -> Iterator[int]:
    """Lets only one process at a time compare and rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read()


def _put(path: str, content: bytes, folder: int, like: str | None) -> None:
    """Writes a file beside it, syncs, renames. ``like``: the file whose owner, group and mode (without others') it gets."""
    descriptor, beside = tempfile.mkstemp(prefix=_beside(path), dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "wb") as file:
            if like is not None:
                _dress(file.fileno(), like)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
    os.fsync(folder)


def _beside(path: str) -> str:
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.kube-storage-upgrade-")


def _remove_leftovers(path: str) -> None:
    """Removes what a killed writer left behind, as it contains keys."""
    for leftover in glob.glob(glob.escape(_beside(path)) + "*"):
        os.unlink(leftover)


def _dress(descriptor: int, like: str) -> None:
    state = os.stat(like)
    os.fchown(descriptor, state.st_uid, state.st_gid)
    for name in _ATTRIBUTES:
        try:
            os.setxattr(descriptor, name, os.getxattr(like, name))
        except OSError:
            continue  # it has none, or the file system doesn't know of it
    os.fchmod(descriptor, stat.S_IMODE(state.st_mode) & ~_OTHERS)


def _sentence(path: str, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path} can't be written, because its file system is full; it is unchanged. Free some space there and run again."
    if error.errno == errno.EBUSY:
        return f"{path} can't be replaced, because it is itself a mount; mount its folder instead. It is unchanged."
    return f"{path} can't be read or written ({error.strerror or type(error).__name__}); it is unchanged."
