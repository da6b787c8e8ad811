# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An EncryptionConfiguration is replaced as a whole, by what was made from it, or not at all. Issue 11, 11 c to f."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption import (
    config_file as _encryption_config_file,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.config_file import (
    FileChangedError,
    FileError,
    replace_file,
)

OLD, NEW = b"old keys\n", b"old keys, new keys\n"
DIGEST = hashlib.sha256(OLD).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_bytes(OLD)
    path.chmod(0o644)
    return path


def replace(file: Path, content: bytes = NEW, replaces: str = DIGEST, **more: Any) -> dict[str, Any]:
    return replace_file(
        str(file), content, replaces, **{"copy_to": None, "renew_copy": False, "check_mode": False, **more}
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_planned_replaces_what_it_was_made_from(file: Path) -> None:
    done = replace(file)
    assert file.read_bytes() == NEW
    assert done["changed"] is True and done["sha256"] == hashlib.sha256(NEW).hexdigest()
    assert replace(file)["changed"] is False
    assert [path.name for path in file.parent.iterdir()] == ["config.yaml"]


def test_a_file_that_somebody_changed_is_left_alone(file: Path) -> None:
    file.write_bytes(b"another key\n")
    with pytest.raises(FileChangedError, match="was changed since the plan was made"):
        replace(file, copy_to=f"{file}.before")
    assert file.read_bytes() == b"another key\n"
    assert [path.name for path in file.parent.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(("before", "after"), [(0o644, 0o640), (0o640, 0o640), (0o600, 0o600), (0o666, 0o660)])
def test_owner_group_and_mode_stay_without_the_permissions_of_others(file: Path, before: int, after: int) -> None:
    if os.getuid() == 0:
        os.chown(file, 1234, 4321)
    file.chmod(before)
    replace(file)
    assert mode(file) == after
    assert os.getuid() != 0 or (file.stat().st_uid, file.stat().st_gid) == (1234, 4321)


def test_a_copy_of_the_first_file_is_kept_for_root_only(file: Path) -> None:
    copy = Path(f"{file}.before-k2")
    assert replace(file, copy_to=str(copy))["backup_file"] == str(copy)
    assert copy.read_bytes() == OLD and mode(copy) == 0o600
    replace(file, b"third\n", hashlib.sha256(NEW).hexdigest(), copy_to=str(copy))
    assert copy.read_bytes() == OLD
    replace(file, b"fourth\n", hashlib.sha256(b"third\n").hexdigest(), copy_to=str(copy), renew_copy=True)
    assert copy.read_bytes() == b"third\n"


def test_a_link_stays_a_link(file: Path) -> None:
    link = file.with_name("link.yaml")
    link.symlink_to(file)
    replace(link)
    assert link.is_symlink() and file.read_bytes() == NEW


def test_check_mode_writes_nothing(file: Path) -> None:
    done = replace(file, check_mode=True, copy_to=f"{file}.before")
    assert done["changed"] is True and done["sha256"] == DIGEST and done["backup_file"] is None
    assert file.read_bytes() == OLD


@pytest.mark.parametrize("call", ["fsync", "rename", "fchown"])
def test_what_can_not_be_written_changes_nothing(file: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_encryption_config_file.os, call, full)
    with pytest.raises(FileError, match="file system is full; it is unchanged"):
        replace(file)
    assert file.read_bytes() == OLD
    assert [path.name for path in file.parent.iterdir()] == ["config.yaml"]


def test_what_a_killed_writer_left_is_removed(file: Path) -> None:
    left = file.with_name(".config.yaml.kube-storage-upgrade-abc")
    left.write_bytes(b"half a fi")
    replace(file)
    assert not left.exists()


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="can't be read or written"):
        replace(tmp_path / "nothing.yaml")
