# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files on a master that record which upgrade steps began there and did not end. Only the standard library of old Pythons.

They are kept where a reboot clears them, since that also ends a step's processes. Users other than root have their own folder,
and read those of others; only a file that belongs to the owner of its folder counts.
"""

from __future__ import annotations

import glob
import json
import os
import re
import stat
from typing import Any

ROOT_FOLDER = "/run/kube-storage-upgrade-steps"
USER_FOLDER = "/var/tmp/kube-storage-upgrade-{}"
_ID = re.compile(r"[0-9a-f]{8,64}\Z")
_LARGEST = 65536


def own_folder() -> str:
    return ROOT_FOLDER if os.geteuid() == 0 else USER_FOLDER.format(os.geteuid())


def is_id(text: str) -> bool:
    return bool(_ID.match(text))


def leave(marker: dict[str, Any], folder: str | None = None) -> str:
    """Writes the marker and returns its path; raises OSError."""
    folder = folder or own_folder()
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        pass
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(1, "somebody else's", folder)
    path = os.path.join(folder, marker["id"] + ".json")
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "w") as file:
        json.dump(marker, file, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return path


def find(master: str, cluster: str | None, folders: list[str] | None = None) -> list[dict[str, Any]]:
    """The markers for this master, with the ``path`` of each, except those that certainly belong to another cluster."""
    found = []
    for folder in folders if folders is not None else [ROOT_FOLDER, *sorted(glob.glob(USER_FOLDER.format("*")))]:
        for path in sorted(glob.glob(os.path.join(folder, "*.json"))):
            marker = _read(folder, path)
            if marker is None or marker.get("master") != master:
                continue
            if not (cluster and marker.get("cluster") and marker["cluster"] != cluster):
                found.append({**marker, "path": path})
    return found


def _read(folder: str, path: str) -> dict[str, Any] | None:
    try:
        owner = os.lstat(folder)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            known = os.fstat(file.fileno())
            if not stat.S_ISDIR(owner.st_mode) or not stat.S_ISREG(known.st_mode) or known.st_uid != owner.st_uid:
                return None
            marker = json.loads(file.read(_LARGEST).decode())
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and is_id(str(marker.get("id"))) else None


def remove(paths: list[str]) -> list[str]:
    """Removes markers; returns those that remain."""
    left = []
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError:
            left.append(path)
    return left
