# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A snapshot's stream and files: only a whole, verified one ever gets its name."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import json
import os
import shutil
import stat
import struct
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    BadInputError,
    EtcdError,
    FileError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.bolt import BoltError, revision_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.snapshot import SnapshotOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.snapshot_files import SnapshotFolder
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.snapshot_stream import SnapshotStream

NOW = datetime(2026, 11, 27, 11, 45, 2, tzinfo=timezone.utc)
DATABASE = os.urandom(100 * 512)


def messages(database: bytes = DATABASE, size: int = 32 * 1024, checksum: bytes | None = None) -> Iterator[bytes]:
    """As the gateway sends them; numbers of 64 bits are texts, and zeros are left out."""
    for at in range(0, len(database), size):
        left = len(database) - min(at + size, len(database))
        blob = base64.b64encode(database[at : at + size]).decode()
        yield (
            json.dumps({"result": {"blob": blob, **({"remaining_bytes": str(left)} if left else {})}}).encode() + b"\n"
        )
    checksum = hashlib.sha256(database).digest() if checksum is None else checksum
    yield json.dumps({"result": {"blob": base64.b64encode(checksum).decode()}}).encode() + b"\n"


@pytest.mark.parametrize("piece", [7, 4096, 1 << 20])
@pytest.mark.parametrize("size", [512, 32 * 1024, 1 << 20])
def test_a_whole_snapshot_ends_with_its_checksum(piece: int, size: int) -> None:
    file = io.BytesIO()
    stream = SnapshotStream(file.write)  # type: ignore[arg-type]
    sent = b"".join(messages(size=size))
    for at in range(0, len(sent), piece):
        stream.feed(sent[at : at + piece])
        assert stream.done <= len(DATABASE)
    digest = stream.end()
    assert stream.size == stream.done == len(DATABASE)
    assert file.getvalue() == DATABASE + hashlib.sha256(DATABASE).digest()
    assert digest == hashlib.sha256(file.getvalue()).hexdigest()


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (list(messages())[:-1], "ended after"),
        (list(messages())[:1], "ended after"),
        ([], "ended after 0 of an unknown number"),
        (list(messages(checksum=bytes(32))), "doesn't match the checksum"),
        ([list(messages())[0], b'{"error":{"grpc_code":14,"message":"etcdserver: stopped"}}\n'], "etcdserver: stopped"),
        ([b"<html>\n"], "not JSON"),
        ([b'{"header":{}}\n'], "stopped sending"),
    ],
)
def test_anything_else_is_refused(sent: list[bytes], says: str) -> None:
    stream = SnapshotStream(lambda _data: None)
    with pytest.raises(EtcdError, match=says):
        stream.feed(b"".join(sent))
        stream.end()


def page(
    number: int, flags: int, entries: list[tuple[bytes, bytes]] | list[tuple[bytes, int]], size: int = 4096
) -> bytes:
    """A page of bbolt; branches point to pages, leaves hold values."""
    header = struct.pack("<QHHI", number, flags, len(entries), 0)
    width, data, heads = 16, b"", b""
    begin = 16 + width * len(entries)
    for index, (key, value) in enumerate(entries):
        position = begin + len(data) - (16 + width * index)
        if isinstance(value, int):
            heads += struct.pack("<IIQ", position, len(key), value)
            data += key
        else:
            heads += struct.pack("<IIII", 0, position, len(key), len(value))
            data += key + value
    return (header + heads + data).ljust(size, b"\0")


def inline(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A small bucket, which is kept in its parent."""
    return struct.pack("<QQ", 0, 0) + page(0, 2, entries, size=0)


def revision(main: int) -> bytes:
    return struct.pack(">Q", main) + b"_" + struct.pack(">Q", 0)


def database(*, keys: list[int], compacted: int = 0, magic: int = 0xED0CDAED, deep: bool = True) -> bytes:
    """Two meta pages, the root bucket, and the bucket of revisions below a branch."""

    def meta(number: int, transaction: int) -> bytes:
        body = struct.pack("<IIIIQQQQQQ", magic, 2, 4096, 0, 2, 0, 3, 9, transaction, 0)
        return (struct.pack("<QHHI", number, 4, 0, 0) + body).ljust(4096, b"\0")

    about = [(b"consistent_index", bytes(8))] + ([(b"scheduledCompactRev", revision(compacted))] if compacted else [])
    root = page(2, 2, [(b"key", struct.pack("<QQ", 4, 0)), (b"meta", inline(about))])
    half = len(keys) // 2
    if deep:
        tree = [page(4, 1, [(revision(1), 5), (revision(2), 6)])]
        tree += [page(5, 2, [(revision(key), b"a") for key in keys[:half]])]
        tree += [page(6, 2, [(revision(key), b"b") for key in keys[half:]])]
    else:
        tree = [page(4, 2, [(revision(key), b"a") for key in keys])]
    return b"".join([meta(0, 8), meta(1, 9), root, bytes(4096), *tree])


class Case(NamedTuple):
    data: bytes
    revision: int


@pytest.mark.parametrize(
    "case",
    [
        Case(database(keys=[2, 3, 5, 900]), 900),
        Case(database(keys=[2, 3], deep=False), 3),
        Case(database(keys=[], deep=False), 1),
        Case(database(keys=[2, 3, 5, 9], compacted=12), 12),
    ],
)
def test_the_revision_is_read_from_the_file(case: Case) -> None:
    assert revision_of(io.BytesIO(case.data)) == case.revision


@pytest.mark.parametrize(
    "data",
    [b"", bytes(20000), database(keys=[2, 3], magic=1), database(keys=[2, 3])[:9000], DATABASE],
    ids=["empty", "zeros", "not bbolt", "cut off", "noise"],
)
def test_another_file_has_no_revision(data: bytes) -> None:
    with pytest.raises(BoltError):
        revision_of(io.BytesIO(data))


def taken(folder: Path, cluster: str, now: datetime, number: int) -> str:
    with SnapshotFolder(str(folder)).new(cluster, now) as file:
        file.write(b"whole")
        return file.keep(number)


def test_a_snapshot_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "etcd"
    files = SnapshotFolder(str(folder))
    files.prepare(5, check_mode=True)
    assert not folder.exists()
    files.prepare(5, check_mode=False)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with pytest.raises(EtcdError), files.new("c1", NOW) as file:
        file.write(b"half")
        assert [name[:6] for name in os.listdir(folder)] == [".etcd-"]
        raise EtcdError("lost")
    assert os.listdir(folder) == []
    path = Path(taken(folder, "c1", NOW, 7))
    assert path.name == "etcd-c1-20261127T114502Z-r7.db" and os.listdir(folder) == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_only_old_snapshots_of_the_same_etcd_are_removed(tmp_path: Path) -> None:
    (tmp_path / "etcd-c1-mine.db").write_bytes(b"")
    mine = [taken(tmp_path, "c1", NOW.replace(minute=minute), minute) for minute in (9, 1, 5)]
    other = taken(tmp_path, "c2", NOW.replace(minute=0), 1)
    files = SnapshotFolder(str(tmp_path))
    newest = files.newest("c1", 9)
    assert newest is not None and (newest.path, newest.revision) == (mine[0], 9)
    assert newest.taken_at == NOW.replace(minute=9, microsecond=0)
    assert files.newest("c3", 9) is None and SnapshotFolder(str(tmp_path / "none")).newest("c1", 9) is None
    assert files.remove_old("c1", 0, ()) == []
    assert files.remove_old("c1", 2, (mine[0],)) == [mine[1]]
    assert {str(path) for path in tmp_path.iterdir()} == {mine[0], mine[2], other, str(tmp_path / "etcd-c1-mine.db")}


def test_the_snapshot_that_was_just_taken_stays_whatever_the_clock_says(tmp_path: Path) -> None:
    """The clock was ahead when the others were taken, so the new one has the oldest name."""
    ahead = [taken(tmp_path, "c1", NOW.replace(hour=23, minute=minute), minute) for minute in (1, 2, 3)]
    new = taken(tmp_path, "c1", NOW, 9)
    files = SnapshotFolder(str(tmp_path))
    assert files.remove_old("c1", 3, (new,)) == ahead[:1]
    assert files.remove_old("c1", 1, (new,)) == ahead[1:]
    assert [str(path) for path in tmp_path.iterdir()] == [new]


def test_a_cluster_with_the_same_id_keeps_its_snapshots(tmp_path: Path) -> None:
    """etcd's id is a hash of the first members' peer URLs (server/etcdserver/api/membership: genID), so two kubeadm clusters may share it."""
    theirs = [taken(tmp_path, "c1", NOW.replace(minute=minute), 70_000 + minute) for minute in (1, 2)]
    mine = taken(tmp_path, "c1", NOW.replace(minute=3), 400)
    files = SnapshotFolder(str(tmp_path))
    assert files.are_mixed("c1", (mine,)) and files.remove_old("c1", 1, (mine,)) == []
    newest = files.newest("c1", 401)
    assert newest is not None and newest.path == mine
    assert files.newest("c1", 399) is None
    # Later runs of either of them see it, too.
    next_one = taken(tmp_path, "c1", NOW.replace(minute=4), 70_100)
    assert files.are_mixed("c1", (next_one,)) and files.remove_old("c1", 1, (next_one,)) == []
    assert {str(path) for path in tmp_path.iterdir()} == {*theirs, mine, next_one}


def test_partial_files_of_killed_runs_are_removed_and_those_of_others_are_not(tmp_path: Path) -> None:
    abandoned, busy = (tmp_path / f".etcd-c1-20261127T114502Z-{number}.part" for number in (1, 2))
    abandoned.write_bytes(b"")
    with busy.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        SnapshotFolder(str(tmp_path)).prepare(1, check_mode=False)
        assert list(tmp_path.iterdir()) == [busy]


def test_what_can_not_be_written_is_refused_first(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(FileError, match="doesn't fit"):
        SnapshotFolder(str(tmp_path)).prepare(free, check_mode=False)
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileError):
            SnapshotFolder(str(path)).prepare(1, check_mode=False)


def test_options_that_make_no_sense_are_refused() -> None:
    for params in ({"path": "here", "keep": 1}, {"path": "/there", "keep": -1}):
        with pytest.raises(BadInputError):
            SnapshotOptions.from_params(params)
