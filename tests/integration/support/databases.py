# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The databases in which kine keeps everything, each with what its table holds as the database itself reads it.

Servers listen at a Unix socket in a folder of their own, and end with ``stop``.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.control_plane.processes import wait_for

from .etcd import Stored

# Every key with its newest row as of a revision, which is a row's number.
_ROWS = """
    SELECT name, id, {value}, deleted FROM kine AS kept
    WHERE id = (SELECT MAX(id) FROM kine WHERE name = kept.name AND id <= {revision})
"""
_NEWEST = 2**62


class Database(Protocol):
    """``endpoint``: kine's option of that name."""

    @property
    def endpoint(self) -> str: ...

    def rows(self, revision: int | None = None) -> dict[str, Stored]:
        """Every key with its row as of a revision (None: the newest)."""

    def stop(self) -> None: ...


class SQLite:
    """A file, as k3s has it by default."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "state.db"
        self.endpoint = f"sqlite://{self._file}?_journal_mode=WAL&_busy_timeout=30000&_txlock=immediate&cache=shared"

    def rows(self, revision: int | None = None) -> dict[str, Stored]:
        query = _ROWS.format(value="hex(value)", revision=_NEWEST if revision is None else revision)
        with contextlib.closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as connection:
            return _stored(connection.execute(query).fetchall())

    def stop(self) -> None:
        pass


class PostgreSQL:
    """It refuses to run as root, and so has a folder that its own user may enter."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not found:
            pytest.skip("PostgreSQL is not installed; tests/tools/system_packages.sh databases installs it")
        self._folder = Path(tempfile.mkdtemp(prefix="kine-postgresql-"))
        shutil.chown(self._folder, "postgres", "postgres")
        data = self._folder / "data"
        how = ["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        _run([str(found[-1].with_name("initdb")), f"--pgdata={data}", *how], user="postgres")
        settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50"]
        command = [str(found[-1]), "-D", str(data), "-k", str(self._folder), *settings]
        self._server = _Server(command, self._folder, user="postgres")
        self.endpoint = f"postgres://postgres@/kine?host={self._folder}"
        self._server.await_answer(lambda: self._query("SELECT 1", "postgres"))

    def rows(self, revision: int | None = None) -> dict[str, Stored]:
        query = _ROWS.format(value="encode(value, 'hex')", revision=_NEWEST if revision is None else revision)
        return _stored(line.split("|") for line in self._query(query, "kine").splitlines())

    def _query(self, query: str, database: str) -> str:
        client = ["psql", f"--host={self._folder}", "--username=postgres", f"--dbname={database}"]
        return _run([*client, "--no-psqlrc", "--tuples-only", "--no-align", f"--command={query}"])

    def stop(self) -> None:
        self._server.stop()


class MariaDB:
    """Also for MySQL, which kine talks to in the same way."""

    def __init__(self) -> None:
        server = shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if server is None:
            pytest.skip("MariaDB is not installed; tests/tools/system_packages.sh databases installs it")
        self._folder = Path(tempfile.mkdtemp(prefix="kine-mariadb-"))
        self._socket = self._folder / "sql.sock"
        data = f"--datadir={self._folder / 'data'}"
        how = ["--user=root", "--auth-root-authentication-method=normal", "--skip-test-db"]
        _run(["mariadb-install-db", "--no-defaults", data, *how])
        settings = ["--skip-networking", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0", "--user=root"]
        command = [server, "--no-defaults", data, f"--socket={self._socket}", *settings]
        self._server = _Server(command, self._folder)
        self.endpoint = f"mysql://root@unix({self._socket})/kine"
        self._server.await_answer(lambda: self._query("SELECT 1", "mysql"))

    def rows(self, revision: int | None = None) -> dict[str, Stored]:
        query = _ROWS.format(value="HEX(value)", revision=_NEWEST if revision is None else revision)
        return _stored(line.split("\t") for line in self._query(query, "kine").splitlines())

    def _query(self, query: str, database: str) -> str:
        client = ["mariadb", "--no-defaults", f"--socket={self._socket}", "--user=root"]
        return _run([*client, "--skip-column-names", "--batch", f"--execute={query}", database])

    def stop(self) -> None:
        self._server.stop()


class _Server:
    """A database's process, whose folder goes with it."""

    def __init__(self, command: Sequence[str], folder: Path, user: str | None = None) -> None:
        self._folder = folder
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, user=user, group=user
            )

    def await_answer(self, ask: Callable[[], object]) -> None:
        def answers() -> bool:
            assert self._process.poll() is None, self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            try:
                ask()
            except subprocess.CalledProcessError:
                return False
            return True

        assert wait_for(answers, 60.0), self._log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _run(command: Sequence[str], user: str | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", user=user, group=user)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


def _stored(rows: Iterable[Sequence[object]]) -> dict[str, Stored]:
    return {
        str(name): Stored(int(str(number)), bytes.fromhex(str(value or "").replace("NULL", "")))
        for name, number, value, deleted in rows
        if str(deleted) == "0"
    }


# Parameters of a fixture: SQLite is tested each time.
DATABASES = ("SQLite", *(pytest.param(name, marks=pytest.mark.long) for name in ("PostgreSQL", "MariaDB")))


def new_database(name: str, folder: Path) -> Database:
    """``folder`` is for the file of SQLite."""
    servers: dict[str, Callable[[], Database]] = {"PostgreSQL": PostgreSQL, "MariaDB": MariaDB}
    return servers[name]() if name in servers else SQLite(folder)
