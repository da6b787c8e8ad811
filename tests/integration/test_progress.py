# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What users see while a module runs, wherever they run it, and what happens when they interrupt it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.event_file import PATH_VARIABLE

from tests.control_plane.cluster import Cluster
from tests.control_plane.hosts import add_host
from tests.tools.ansible_test import newest_core

from .support.modules import ANSIBLE, ROOT, environment, run_module
from .support.objects import apply, config_maps
from .support.ssh_hosts import SshHost, ssh_server
from .support.waiting import wait_until

OBJECTS = 80
SLOW = {"resources": ["configmaps"], "max_rate": 10}
PROGRESS = r"\d+ of \d+ objects \(\d+ %\), [\d.]+/s(, \d+ s left)?: configmaps"
INTERPRETER = {"ansible_python_interpreter": sys.executable}
JSON_CALLBACK = '''
from ansible.plugins.callback import CallbackBase
import json


class CallbackModule(CallbackBase):
    """Everything in one JSON document at the end, as ansible.posix.json does."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "one_document"

    def __init__(self):
        super().__init__()
        self.results = {}

    def take(self, result):
        self.results[result._host.get_name()] = result._result

    v2_runner_on_ok = v2_runner_on_failed = take

    def v2_playbook_on_stats(self, stats):
        self._display.display(json.dumps(self.results))
'''


@pytest.fixture(scope="module")
def cluster(single_master: Cluster) -> Cluster:
    apply(single_master, config_maps(OBJECTS))
    return single_master


def environments_with(mark: str) -> list[dict[str, str]]:
    """Of all Python programs whose environment holds a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            text = path.read_bytes().decode(errors="replace")
            if mark in text and "python" in os.readlink(path.with_name("exe")):
                found.append(dict(item.split("=", 1) for item in text.split("\0") if "=" in item))
    return found


def adhoc(cluster: Cluster, module: str, *more: str, ansible: Path = ANSIBLE, **params: Any) -> list[str]:
    params = {"kubeconfig": str(cluster.kubeconfig), **params}
    command = [str(ansible), "localhost", "-m", f"kube_storage.upgrade.{module}", "-a", json.dumps(params)]
    return [*command, "-e", json.dumps(INTERPRETER), *more]


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**environment(), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def play(cluster: Cluster, folder: Path, hosts: dict[str, dict[str, Any]], task: dict[str, Any]) -> list[str]:
    """The command for a playbook with one task that migrates slowly, on some hosts."""
    for number, variables in enumerate(hosts.values()):
        variables.setdefault("lease", f"progress-{number}")
    params = {
        **SLOW,
        "kubeconfig": str(cluster.kubeconfig),
        "state_store": {"kind": "file", "path": f"{folder}/{{{{ inventory_hostname }}}}", "name": "{{ lease }}"},
    }
    tasks = [{"name": "Migrate", "kube_storage.upgrade.storage_migrate": params, **task}]
    playbook = [
        {"hosts": "all", "gather_facts": False, "environment": {"RUN_OF_THIS_TEST": str(folder)}, "tasks": tasks}
    ]
    (folder / "play.yml").write_text(json.dumps(playbook), encoding="utf-8")
    inventory = {"all": {"vars": INTERPRETER, "hosts": hosts}}
    (folder / "inventory.yml").write_text(json.dumps(inventory), encoding="utf-8")
    playbook_program = str(ANSIBLE.with_name("ansible-playbook"))
    return [playbook_program, "-i", str(folder / "inventory.yml"), str(folder / "play.yml")]


def test_a_log_gets_lines_on_standard_error_and_standard_output_stays_whole(cluster: Cluster) -> None:
    done = run(adhoc(cluster, "storage_migrate", **SLOW))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^localhost: {PROGRESS}$", done.stderr, re.MULTILINE), done.stderr
    assert "\r" not in done.stderr and "\x1b" not in done.stderr
    head, result = done.stdout.split(" => ", 1)
    assert head.startswith("localhost | ") and json.loads(result)["totals"]["unchanged"] >= OBJECTS


def test_two_hosts_at_once_one_with_become_and_a_callback_that_writes_json(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "one_document.py").write_text(JSON_CALLBACK, encoding="utf-8")
    local = {"ansible_connection": "local"}
    become = {"ansible_become": True, "ansible_become_method": "su", "ansible_become_user": "root"}
    command = play(cluster, tmp_path, {"plain": {**local}, "becoming": {**local, **become}}, {})
    done = run(
        command,
        ANSIBLE_CALLBACK_PLUGINS=str(tmp_path / "callbacks"),
        ANSIBLE_STDOUT_CALLBACK="one_document",
        ANSIBLE_BECOME_ALLOW_SAME_USER="true",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)
    assert {name: result["unchanged"] >= OBJECTS for name, result in results.items()} == {
        "plain": True,
        "becoming": True,
    }
    for host in results:
        assert re.search(rf"^{host}: {PROGRESS}$", done.stderr, re.MULTILINE), done.stderr


def test_with_the_users_async(cluster: Cluster, tmp_path: Path) -> None:
    hosts = {"only": {"ansible_connection": "local"}}
    done = run(play(cluster, tmp_path, hosts, {"async": 120, "poll": 2}))
    assert done.returncode == 0 and "ASYNC OK on only" in done.stdout, done.stdout + done.stderr
    assert re.search(rf"^only: {PROGRESS}$", done.stderr, re.MULTILINE), done.stderr


def test_check_mode_and_diff_mode(cluster: Cluster, tmp_path: Path) -> None:
    store = {"kind": "file", "path": str(tmp_path / "state")}
    done = run(adhoc(cluster, "storage_migrate", "--check", "--diff", state_store=store, resources=["configmaps"]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^-configmaps: not on record$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^\+configmaps: v1 \(\d+ to visit\)$", done.stdout, re.MULTILINE), done.stdout
    recorded = run(adhoc(cluster, "storage_version_hashes", "--diff", state_store=store, state="recorded"))
    assert re.search(r"^\+configmaps: v1$", recorded.stdout, re.MULTILINE), recorded.stdout
    assert "diff" not in run_module(cluster, "storage_version_hashes", state="recorded", check=True).data


def test_a_wait_names_the_server_and_its_version_once(cluster: Cluster) -> None:
    done = run(
        adhoc(cluster, "storage_version_hashes", state="converged", expected_version="1.38", wait_timeout=8),
    )
    assert done.returncode != 0
    lines = re.findall(r"^localhost: Waiting .*$", done.stderr, re.MULTILINE)
    assert len(lines) == 1 and re.search(r"https://[\d.:]+ is at v1\.37\.\d+, not at 1\.38", lines[0]), done.stderr


def test_a_scan_of_etcd(cluster: Cluster) -> None:
    done = run(adhoc(cluster, "stored_versions_info", etcd=cluster.etcd, max_rate=30, progress=True))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^localhost: \d+ of \d+ keys read from etcd \(\d+ %\), ", done.stderr, re.MULTILINE), done.stderr


def test_quiet_by_option_by_variable_and_with_ansible_itself(cluster: Cluster) -> None:
    wait = {"state": "converged", "expected_version": "1.38", "wait_timeout": 8}
    running = [
        subprocess.Popen(command, cwd=ROOT, env={**environment(), **variables}, stderr=subprocess.PIPE, text=True)
        for command, variables in (
            (adhoc(cluster, "storage_version_hashes", progress=False, **wait), {}),
            (adhoc(cluster, "storage_version_hashes", **wait), {"KUBE_STORAGE_UPGRADE_PROGRESS": "false"}),
            (adhoc(cluster, "storage_version_hashes", "-o", **wait), {}),
        )
    ]
    for process in running:
        assert "Waiting" not in process.communicate(timeout=120)[1]


def test_a_terminal_gets_a_line_that_is_redrawn_and_gone_at_the_end(cluster: Cluster) -> None:
    leader, follower = pty.openpty()
    command = adhoc(cluster, "storage_migrate", **SLOW)
    variables = {name: value for name, value in environment().items() if name != "CI"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**variables, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=follower,
    ) as process:
        os.close(follower)
        drawn = b""
        with suppress(OSError):  # the terminal ends with the program
            while data := os.read(leader, 4096):
                drawn += data
        assert process.stdout is not None
        assert b"SUCCESS" in process.stdout.read()
    os.close(leader)
    assert re.search(rb"\r\x1b\[2Klocalhost: \[[#-]{20}\] \d+ of \d+ objects", drawn), drawn
    assert drawn.count(b"localhost: [") > 1 and drawn.endswith(b"\r\x1b[2K"), drawn


@pytest.mark.parametrize("programs", filter(None, [newest_core()]), ids=["newest core"])
def test_with_the_newest_core(cluster: Cluster, programs: Path) -> None:
    done = run(adhoc(cluster, "storage_migrate", ansible=programs / "ansible", **SLOW))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^localhost: {PROGRESS}$", done.stderr, re.MULTILINE), done.stderr


# Over ssh


@pytest.fixture(scope="module")
def ssh_host(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    address = add_host(cluster.network, "target", 200)  # it is removed with the cluster
    with ssh_server(cluster.network, "target", address, tmp_path_factory.mktemp("ssh")) as host:
        yield host


def test_over_ssh(cluster: Cluster, ssh_host: SshHost, tmp_path: Path) -> None:
    done = run(play(cluster, tmp_path, {"far": ssh_host.variables}, {}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^far: {PROGRESS}$", done.stderr, re.MULTILINE), done.stderr


@pytest.mark.parametrize("pipelining", ["false", "true"])
def test_interrupted_over_ssh_the_module_ends_too_and_the_next_run_resumes(
    cluster: Cluster, ssh_host: SshHost, tmp_path: Path, pipelining: str
) -> None:
    command = play(cluster, tmp_path, {"far": ssh_host.variables}, {"register": "found"})
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**environment(), "ANSIBLE_PIPELINING": pipelining},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if re.match(rf"far: {PROGRESS}", line):
            break
    (module,) = environments_with(f"RUN_OF_THIS_TEST={tmp_path}")
    progress_file = Path(module[PATH_VARIABLE])
    assert progress_file.exists() and progress_file.stat().st_mode & 0o777 == 0o600
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)  # not until its output ends, which a persistent ssh holds open
    assert process.returncode != 0
    wait_until(lambda: not environments_with(f"RUN_OF_THIS_TEST={tmp_path}"))
    assert not progress_file.exists()
    lease = json.loads(cluster.kubectl("get", "lease", "progress-0", "-n", "kube-system", "-o", "json"))
    assert not lease["spec"].get("holderIdentity"), "the run that was interrupted released its Lease"
    state = json.loads((tmp_path / "far").read_text(encoding="utf-8"))
    assert state["resources"]["configmaps"]["progress"], state
