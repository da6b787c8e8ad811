# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the revision of a snapshot in its file, a bbolt database, as etcd does when it opens one.

The format is go.etcd.io/bbolt's (internal/common: page.go, meta.go, inode.go), in the byte order of nearly every machine.
Only the way to a few keys is read, so the size of the file doesn't matter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

_MAGIC, _VERSION = 0xED0CDAED, 2
_META = struct.Struct("<IIIIQQQQQQ")
_PAGE = struct.Struct("<QHHI")
_BRANCH_ENTRY = struct.Struct("<IIQ")
_LEAF_ENTRY = struct.Struct("<IIII")
_BUCKET = struct.Struct("<QQ")
_BRANCH, _LEAF = 0x01, 0x02
# The page size is that of the machine on which the member runs.
_PAGE_SIZES = tuple(1 << power for power in range(9, 17))
# A deeper tree has a cycle.
_DEEPEST = 64
_MOST_PAGE = 1 << 30
# go.etcd.io/etcd, server/storage/schema: the bucket of all revisions, and the one of what was compacted.
_KEYS, _ABOUT, _COMPACTED = b"key", b"meta", (b"scheduledCompactRev", b"finishedCompactRev")


class BoltError(ValueError):
    """The file is not a whole bbolt database of etcd."""


def revision_of(file: BinaryIO) -> int:
    """etcd's revision in a snapshot: the newest one that is stored, or the last compacted one if that is newer.

    Raises BoltError. 1 is the revision of an empty etcd.
    """
    try:
        reader = _Reader(file)
        revision = 1
        last = reader.last_key(_KEYS)
        if last is not None:
            revision = max(revision, _main_revision(last))
        for name, value in reader.entries(_ABOUT):
            if name in _COMPACTED:
                revision = max(revision, _main_revision(value))
        return revision
    except struct.error as error:
        raise BoltError("a page ends too early") from error


def _main_revision(data: bytes) -> int:
    """The first part of an encoded revision (server/storage/mvcc/revision.go)."""
    return int(struct.unpack_from(">Q", data)[0])


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size, self._root = self._newest_meta()

    def _newest_meta(self) -> tuple[int, int]:
        """(page size, page of the root bucket), from the newer of the two meta pages."""
        found = []
        for at in (0, *_PAGE_SIZES):
            data = self._at(at + _PAGE.size, _META.size)
            if len(data) < _META.size:
                continue
            magic, version, size, _flags, root, _sequence, _free, _pages, transaction, _sum = _META.unpack(data)
            if (magic, version) == (_MAGIC, _VERSION) and size in _PAGE_SIZES and at in (0, size):
                found.append((transaction, size, root))
        if not found:
            raise BoltError("it has no meta page")
        _transaction, size, root = max(found)
        return size, root

    def _at(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def _page(self, number: int) -> bytes:
        """A page with those that it continues on."""
        _number, _flags, _count, more = _PAGE.unpack(self._at(number * self._size, _PAGE.size))
        length = (more + 1) * self._size
        if length > _MOST_PAGE:
            raise BoltError("a page is too long")
        return self._at(number * self._size, length)

    def entries(self, bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a bucket that fits on a few pages."""
        for page in self._leaves(self._bucket(bucket)):
            yield from _leaf(page)

    def last_key(self, bucket: bytes) -> bytes | None:
        page = self._bucket(bucket)
        for _depth in range(_DEEPEST):
            _number, flags, count, _more = _PAGE.unpack_from(page)
            if flags & _LEAF:
                return None if count == 0 else list(_leaf(page))[-1][0]
            if not flags & _BRANCH or count == 0:
                break
            page = self._page(_branch(page)[-1])
        raise BoltError("its tree of pages is damaged")

    def _bucket(self, name: bytes) -> bytes:
        """The first page of a bucket. A small one is kept in the value itself, after its header."""
        for page in self._leaves(self._page(self._root)):
            for key, value in _leaf(page):
                if key == name:
                    root, _sequence = _BUCKET.unpack_from(value)
                    return self._page(root) if root else value[_BUCKET.size :]
        raise BoltError(f"it has no bucket {name.decode()}")

    def _leaves(self, page: bytes, depth: int = 0) -> Iterator[bytes]:
        _number, flags, _count, _more = _PAGE.unpack_from(page)
        if flags & _LEAF:
            yield page
        elif flags & _BRANCH and depth < _DEEPEST:
            for number in _branch(page):
                yield from self._leaves(self._page(number), depth + 1)
        else:
            raise BoltError("its tree of pages is damaged")


def _branch(page: bytes) -> list[int]:
    """The pages below this one, in the order of their keys."""
    count = _PAGE.unpack_from(page)[2]
    size = _BRANCH_ENTRY.size
    return [_BRANCH_ENTRY.unpack_from(page, _PAGE.size + number * size)[2] for number in range(count)]


def _leaf(page: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; positions count from the entry itself."""
    count = _PAGE.unpack_from(page)[2]
    for number in range(count):
        at = _PAGE.size + number * _LEAF_ENTRY.size
        _flags, position, key, value = _LEAF_ENTRY.unpack_from(page, at)
        begin = at + position
        if begin + key + value > len(page):
            raise BoltError("an entry is longer than its page")
        yield page[begin : begin + key], page[begin + key : begin + key + value]
