# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs what is measured: the modules as users run them, and the small Go program beside them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.control_plane.build import NEEDED_GO, BuildError, cache_root
from tests.control_plane.certificates import Authority
from tests.control_plane.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
_SOURCE = Path(__file__).resolve().parent / "go"
_ANSIBLE = Path(sys.executable).with_name("ansible")


class BenchmarkError(Exception):
    """Something did not work that must work before its speed means anything; one sentence."""


def go_program() -> str:
    """The Go program; built, in seconds, if it was not yet."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    program = cache_root() / "benchmark" / digest.hexdigest()[:16] / "benchmark"
    go = shutil.which("go")
    if go is None:
        raise BuildError(f"Go is needed for the benchmarks; install it ({NEEDED_GO} or newer) and run again.")
    program.parent.mkdir(parents=True, exist_ok=True)
    with open(program.parent.parent / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off"}
            subprocess.run([go, "build", "-o", str(program), "."], cwd=_SOURCE, env=environment, check=True)
    return str(program)


def go(verb: str, *arguments: str) -> dict[str, Any]:
    """Runs it and returns what it prints."""
    done = subprocess.run([go_program(), verb, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"{verb} failed: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def api_flags(cluster: Cluster, server: str | None = None, *, user: str = "admin") -> list[str]:
    pair = cluster.certificate(user)
    return _flags(server or cluster.urls[0], cluster.certificate("ca").cert, pair.cert, pair.key)


def etcd_flags(cluster: Cluster) -> list[str]:
    etcd = cluster.etcd
    return _flags(etcd["endpoints"][0], etcd["ca_cert"], etcd["client_cert"], etcd["client_key"])


def _flags(server: str, ca: str | Path, cert: str | Path, key: str | Path) -> list[str]:
    return ["--server", server, "--ca", str(ca), "--cert", str(cert), "--key", str(key)]


@dataclass
class ModuleRun:
    """``wall``: the whole command, start-up included. ``peak``: MiB of the module's process. ``failed``: only where it may."""

    wall: float
    result: dict[str, Any]
    peak: float = 0.0
    failed: bool = False


def run_module(name: str, folder: Path, *, may_fail: bool = False, **params: Any) -> ModuleRun:
    """Runs a module of the collection ad hoc, as users do; its process's memory is recorded along the way."""
    command, environment = _command(name, folder, params)
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    wall = time.monotonic() - started
    found = re.search(r"localhost \| (\w+)!? (?:\| rc=\d+ )?=> (\{.*\})\s*$", done.stdout, re.DOTALL | re.MULTILINE)
    failed = found is None or found[1] not in ("SUCCESS", "CHANGED")
    if found is None or (failed and not may_fail):
        raise BenchmarkError(f"{name} failed: {(done.stdout + done.stderr)[-1500:]}")
    peak = int((folder / "peak").read_text(encoding="utf-8"))
    return ModuleRun(wall, json.loads(found[2]), peak / 1024, failed)


@contextmanager
def module_beside(name: str, folder: Path, **params: Any) -> Iterator[None]:
    """Runs a module while something else is measured, and ends it when that is done."""
    command, environment = _command(name, folder, params)
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet, stdin=quiet)
    try:
        yield
        if process.poll() is not None:
            raise BenchmarkError(f"{name} ended before what was to be measured beside it.")
    finally:
        # Ansible puts what it starts into sessions of their own, so a signal to its group would leave the module running.
        for pid in family(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def family(pid: int) -> list[int]:
    """A process and all that it started, directly or not. Any of them may end meanwhile."""
    found = [pid]
    for process in found:
        with suppress(OSError):
            for children in Path(f"/proc/{process}/task").glob("*/children"):
                with suppress(OSError):
                    found += map(int, children.read_text(encoding="utf-8").split())
    return found


def _command(name: str, folder: Path, params: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    interpreter = folder / "python"
    if not interpreter.exists():
        interpreter.write_text(_MEASURED.format(python=sys.executable, peak=folder / "peak"), encoding="utf-8")
        interpreter.chmod(0o755)
    full_name = name
    if "." not in name:
        full_name, params = f"kube_storage.upgrade.{name}", {**params, "details": True}
    command = [str(_ANSIBLE), "localhost", "-o", "-m", full_name, "-a", json.dumps(params)]
    command += ["-e", f"ansible_python_interpreter={interpreter}"]
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "K8S_AUTH_"))}
    return command, {
        **keep,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "KUBECONFIG": str(folder / "no-kubeconfig"),
        "PYTHONWARNINGS": "ignore",
    }


_MEASURED = """#!/bin/sh
# What Ansible takes for Python here: it is Python, and says afterwards how much memory that took.
exec {python} -IS -c '
import os, sys
process = os.posix_spawn("{python}", ["{python}", *sys.argv[1:]], os.environ)
status, used = os.wait4(process, 0)[1:]
with open("{peak}", "w", encoding="utf-8") as file:
    file.write(str(used.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
' "$@"
"""


@dataclass
class Stub:
    """A stub API server that answers at once, and the module parameters to reach it."""

    url: str
    params: dict[str, Any]
    ca: Path

    def stats(self, *, forget_lease: bool = True) -> dict[str, Any]:
        """What it was asked since the last time. A Lease would keep the next run away."""
        context = ssl.create_default_context(cafile=str(self.ca))
        query = "" if forget_lease else "?lease=keep"
        with urllib.request.urlopen(self.url + "/stats" + query, context=context) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


@contextmanager
def stub(folder: Path, *, resources: int, objects: int) -> Iterator[Stub]:
    """Starts a stub server for a while."""
    certificates = folder / "stub"
    certificates.mkdir(exist_ok=True)
    pair = Authority(certificates, "ca").issue("server", "kube-apiserver", addresses=["127.0.0.1"])
    arguments = ["--cert", str(pair.cert), "--key", str(pair.key)]
    arguments += ["--resources", str(resources), "--objects", str(objects)]
    process = subprocess.Popen([go_program(), "stub", *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        ca = certificates / "ca.crt"
        params = {
            "host": url,
            "ca_cert": str(ca),
            "api_key": "benchmark",
            "servers": [url],
            "state_store": {"kind": "file", "path": str(folder / "stub-state.json")},
        }
        yield Stub(url, params, ca)
    finally:
        process.terminate()
        process.wait()
        (folder / "stub-state.json").unlink(missing_ok=True)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return {"cores": os.cpu_count(), "cpu": cpu[1] if cpu else "", "python": sys.version.split()[0]}
