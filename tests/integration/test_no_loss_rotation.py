# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rotation of the encryption key loses nothing, whatever kills it, gets in its way or ignores its errors (issue 11, 10 to 12, 16).

Invariant: after whatever happens, each API server reads every Secret and ConfigMap from etcd.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.control_plane.cluster import Cluster

from .support import warm_ansible, warm_python
from .support.etcd import delete, read_etcd
from .support.modules import ROOT, Result, environment

CLUSTER = ROOT / "tests" / "control_plane" / "cluster.py"
OLD_SECRET = base64.b64encode(b"old".ljust(32, b"!")).decode()
OBJECTS = 5
# Kills ansible-playbook as soon as a task has changed something, so that each run comes one change further.
KILLER = """
import os, signal
from ansible.plugins.callback import CallbackBase
class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME, CALLBACK_NEEDS_ENABLED = 2.0, "aggregate", "killer", True
    def v2_runner_on_ok(self, result, **_more):
        if result._result.get("changed"):
            with open(os.environ["KILLED_AFTER"], "w") as file:
                file.write(f"{result._host.get_name()}: {result._task.get_name().split(' : ')[-1]}")
            os.kill(os.getpid(), signal.SIGKILL)
"""
SPOIL = """
import sys
from pathlib import Path
from tests.control_plane.cluster import Cluster
from tests.integration.support.etcd import put
put(Cluster(Path(sys.argv[1])), "/registry/secrets/default/corrupt", b"k8s:enc:aescbc:v1:old:" + bytes(32))
"""


@dataclass
class Masters:
    """A cluster whose masters encrypt Secrets and ConfigMaps by two entries that share their providers, and a play over them."""

    cluster: Cluster
    folder: Path

    def file(self, master: str) -> Path:
        return self.cluster.folder / "encryption" / f"{master}.yaml"

    def copy(self, master: str, key: str = "new") -> Path:
        return Path(f"{self.file(master)}.before-{key}")

    def keys(self, master: str, entry: int = 0) -> list[str]:
        """Names of the keys in an entry of a master's file, the one that writes first."""
        providers = yaml.safe_load(self.file(master).read_text(encoding="utf-8"))["resources"][entry]["providers"]
        return [key["name"] for provider in providers for key in (provider.get("aescbc") or {}).get("keys", ())]

    def contents(self) -> dict[str, bytes]:
        return {master: self.file(master).read_bytes() for master in self.cluster.masters}

    def command(self, playbook: str, **variables: Any) -> list[str]:
        hosts = "\n".join(
            f"{name} ansible_host={master['address']} rolling_upgrade_encryption_config={self.file(name)}"
            for name, master in self.cluster.data["masters"].items()
        )
        (self.folder / "inventory.ini").write_text(
            f"[kube_control_plane]\n{hosts}\n[kube_control_plane:vars]\nansible_connection=local\n", encoding="utf-8"
        )
        commands = " && ".join(
            f"{sys.executable} {CLUSTER} {verb} {self.cluster.folder} {{{{ inventory_hostname }}}}"
            for verb in ("stop", "start")
        )
        restart = f"- name: Restart\n  ansible.builtin.shell: {commands}\n  changed_when: true\n"
        (self.folder / "restart.yml").write_text(restart, encoding="utf-8")
        given = {
            "ansible_python_interpreter": warm_python.interpreter(),
            "rolling_upgrade_gather_facts": False,
            "rolling_upgrade_encryption_key": "new",
            "rolling_upgrade_encryption_reload_tasks_file": str(self.folder / "restart.yml"),
            "rolling_upgrade_kubeconfig": str(self.cluster.kubeconfig),
            "rolling_upgrade_etcd": self.cluster.etcd,
            # A snapshot is a change of its own in each run.
            "rolling_upgrade_etcd_snapshot_path": "",
            "rolling_upgrade_wait_timeout": 90,
            **variables,
        }
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        return [program, "-i", "inventory.ini", playbook, "-e", json.dumps(given)]

    def run(
        self, *, playbook: str = "kube_storage.upgrade.rotate_encryption_key", kill: bool = False, **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        settings = {**environment(), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections")}
        if kill:
            (self.folder / "callbacks").mkdir(exist_ok=True)
            (self.folder / "callbacks" / "killer.py").write_text(KILLER, encoding="utf-8")
            settings |= {
                "ANSIBLE_CALLBACK_PLUGINS": str(self.folder / "callbacks"),
                "ANSIBLE_CALLBACKS_ENABLED": "killer",
                "KILLED_AFTER": str(self.folder / "killed"),
            }
        return warm_ansible.run(self.command(playbook, **variables), cwd=self.folder, env=settings, timeout=1200)

    def assert_all_readable(self) -> None:
        """By each API server, object by object, as a list may come from a server's memory."""
        for master in self.cluster.masters:
            own = self.cluster.folder / f"kubeconfig-{master}"
            for kind in ("secret", "configmap"):
                names = [f"o-{number}" for number in range(OBJECTS)]
                text = self.cluster.kubectl("get", kind, *names, "-o", "json", kubeconfig=own)
                values = [item["data"]["word"] for item in json.loads(text)["items"]]
                plain = [f"word{number}" for number in range(OBJECTS)]
                assert values == (
                    [base64.b64encode(word.encode()).decode() for word in plain] if kind == "secret" else plain
                )

    def under(self, resource: str) -> set[bytes]:
        """By which keys the objects are encrypted in etcd."""
        return {
            stored.value.split(b":", 5)[4]
            for key, stored in read_etcd(self.cluster, f"/registry/{resource}/default/").items()
            if "/o-" in key
        }


def make(folder: Path, masters: int, *flags: str) -> Masters:
    cluster = Cluster.up(folder / "cluster", masters=masters, owner_pid=os.getpid())
    providers = [{"aescbc": {"keys": [{"name": "old", "secret": OLD_SECRET}]}}, {"identity": {}}]
    config = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": [resource], "providers": providers} for resource in ("secrets", "configmaps")],
    }
    text = yaml.safe_dump(config)
    assert "&id001" in text and "*id001" in text
    (folder / "old.yaml").write_text(text, encoding="utf-8")
    found = Masters(cluster, folder)
    cluster.set_flags(flags)
    for master in cluster.masters:
        cluster.encrypt(master, folder / "old.yaml")
    for number in range(OBJECTS):
        for kind in (["secret", "generic"], ["configmap"]):
            cluster.kubectl("create", *kind, f"o-{number}", f"--from-literal=word=word{number}")
    found.assert_all_readable()
    assert found.under("secrets") == found.under("configmaps") == {b"old"}
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masters]:
    found = make(tmp_path_factory.mktemp("two"), 2)
    yield found
    found.cluster.down()


def output(done: subprocess.CompletedProcess[str]) -> str:
    """All that was printed, without line breaks in sentences."""
    return " ".join((done.stdout + done.stderr).split())


def test_what_can_not_work_touches_nothing(two: Masters, module: Callable[..., Result]) -> None:
    """Issue 11, 11 b and 12: another etcd, another run in progress, a master that is down."""
    before = two.contents()

    etcd = {**two.cluster.etcd, "prefix": "/elsewhere"}
    done = two.run(rolling_upgrade_etcd=etcd)
    assert done.returncode != 0 and two.contents() == before, output(done)

    done = two.run(rolling_upgrade_hosts="master-2", rolling_upgrade_masters=two.cluster.masters)
    assert done.returncode != 0 and two.contents() == before, output(done)
    assert "Nothing is proven: this run left out" in output(done), output(done)

    other = {"who": "somebody", "host": "elsewhere"}
    assert module(two.cluster, "upgrade_lease", holder="another", about=other, purpose="the upgrade to 1.38")["held"]
    done = two.run()
    assert done.returncode != 0 and two.contents() == before
    assert "Another roll is active: somebody on elsewhere" in output(done), output(done)
    assert module(two.cluster, "upgrade_lease", holder="another", state="released")["held"] is False

    two.cluster.kill("master-2")
    done = two.run()
    assert done.returncode != 0 and two.contents() == before
    assert "The rotation can't begin" in output(done), output(done)
    two.cluster.start("master-2")
    two.cluster.await_listed()
    two.assert_all_readable()


def test_killed_after_each_step_and_run_again(two: Masters) -> None:
    """Issue 11, 11 a, d, e and f, and its proof: at every change one kill -9, and at no time an unreadable object."""
    masters = two.cluster.masters
    original = two.contents()
    for master in masters:
        two.file(master).chmod(0o644)
        os.chown(two.file(master), 0, 4242)
    killed: list[str] = []
    for _run in range(40):
        done = two.run(kill=True)
        two.cluster = Cluster(two.cluster.folder)
        two.assert_all_readable()
        if done.returncode == 0:
            break
        assert done.returncode == -9, output(done)
        killed.append((two.folder / "killed").read_text(encoding="utf-8"))
        for master in masters:
            assert two.keys(master, 1) == ["old"], "the entry of ConfigMaps was changed"
            state = two.file(master).stat()
            if two.file(master).read_bytes() != original[master]:
                assert (stat.S_IMODE(state.st_mode), state.st_gid) == (0o640, 4242)
        dropped = [master for master in masters if two.keys(master) == ["new"]]
        if dropped:
            assert two.under("secrets") == {b"new"}
        if not any("Remove the copy" in task for task in killed):
            for master in masters:
                if two.file(master).read_bytes() != original[master]:
                    assert two.copy(master).read_bytes() == original[master]
                    assert stat.S_IMODE(two.copy(master).stat().st_mode) == 0o600
    steps = [
        f"{master}: {task}" for master in masters for task in ("Write the file, or check that it is there", "Restart")
    ]
    removals = [task for task in killed if "Remove the copy" in task]  # one or two, as both run at the same time
    assert removals and sorted(set(killed) - set(removals)) == sorted(
        {*steps, "master-1: Rewrite what etcd holds under another key"}
    )
    assert sorted(task for task in killed if task in steps) == sorted(3 * steps)
    assert "Proven from etcd: all 5 objects of secrets are under aescbc new" in output(done), output(done)
    assert [two.keys(master) for master in masters] == [["new"], ["new"]]
    assert two.under("secrets") == {b"new"} and two.under("configmaps") == {b"old"}
    assert not any(two.copy(master).exists() for master in masters)
    assert sorted(path.name for path in two.file("master-1").parent.iterdir()) == [
        f"{master}.yaml" for master in masters
    ]


def test_a_kms_plugin_is_not_replaced_unasked(two: Masters) -> None:
    """Issue 11, 16: [kms, identity] is refused before anything is touched."""
    before = two.contents()
    kms = {"kms": {"apiVersion": "v2", "name": "plugin", "endpoint": "unix:///nowhere"}}
    for master in two.cluster.masters:
        config = yaml.safe_load(before[master])
        config["resources"][0]["providers"] = [kms, {"identity": {}}]
        two.file(master).write_text(yaml.safe_dump(config), encoding="utf-8")
    changed = two.contents()
    done = two.run()
    assert done.returncode != 0 and two.contents() == changed
    assert "rotated in the KMS itself" in output(done) and "rolling_upgrade_encryption_provider" in output(done)
    for master in two.cluster.masters:
        two.file(master).write_bytes(before[master])


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Masters]:
    """One master that reloads its file on its own; the file is on a disk of 64 KB."""
    (tmp_path / "cluster").mkdir()
    found = make(tmp_path, 1, "encryption-provider-config-automatic-reload=true")
    place = found.cluster.folder / "encryption"
    content = found.file("master-1").read_bytes()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=True)
    try:
        found.file("master-1").write_bytes(content)
        yield found
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)
        found.cluster.down()


def test_full_disks_and_ignored_errors_if_the_file_is_watched(watched: Masters) -> None:
    """Issue 11, 10 and 11 f: nothing is lost on a full disk, and no key is dropped where ignore_errors ignores a proof that failed."""
    manifest = watched.folder / "kube-apiserver.yaml"
    manifest.write_text(
        f"    - --encryption-provider-config={watched.file('master-1')}\n    - --encryption-provider-config-automatic-reload=true\n"
    )
    variables: dict[str, Any] = {
        "rolling_upgrade_encryption_reload_tasks_file": "",
        "rolling_upgrade_encryption_manifest": str(manifest),
        "rolling_upgrade_encryption_config": "",
    }
    before = watched.contents()
    filler = watched.file("master-1").with_name("filler")
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(512))
    done = watched.run(**variables)
    assert done.returncode != 0 and watched.contents() == before
    assert "file system is full; it is unchanged" in output(done), output(done)
    assert sorted(path.name for path in filler.parent.iterdir()) == ["filler", "master-1.yaml"]
    filler.unlink()
    watched.assert_all_readable()

    # When the new key writes and all was found readable, an object comes up that needs the old one and can't be rewritten. It comes by
    # a handler, which runs before the proof.
    (watched.folder / "spoil.py").write_text(SPOIL, encoding="utf-8")
    role = {"name": "kube_storage.upgrade.rolling_upgrade", "tasks_from": "rotate_encryption_key"}
    spoil = f"PYTHONPATH={ROOT} {sys.executable} {watched.folder}/spoil.py {watched.cluster.folder}"
    play = {
        "hosts": "kube_control_plane", "gather_facts": False, "ignore_errors": True,
        "tasks": [
            # What an earlier play may have left.
            {"ansible.builtin.set_fact": {"rolling_upgrade_encryption_proven": True, "rolling_upgrade_encryption_done": 3}},
            {"ansible.builtin.set_fact": {"rolling_upgrade_encryption_proof": {"dropped": [["aescbc", "old"]]}}},
            {
                "block": [{"ansible.builtin.import_role": role, "ignore_errors": True}],
                "rescue": [{"ansible.builtin.debug": {"msg": "Rescued with the proof {{ rolling_upgrade_encryption_proof }}"}}],
            },
        ],
        "handlers": [{"name": "Spoil", "ansible.builtin.command": f"env {spoil}"}],
    }  # fmt: skip
    (watched.folder / "ignoring.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    (watched.folder / "spoil.yml").write_text(
        "- ansible.builtin.command: 'true'\n  notify: Spoil\n  when: rolling_upgrade_encryption_stage | int == 2\n",
        encoding="utf-8",
    )
    done = watched.run(
        playbook="ignoring.yml",
        **{**variables, "rolling_upgrade_encryption_reload_tasks_file": str(watched.folder / "spoil.yml")},
    )
    assert watched.keys("master-1") == ["new", "old"], output(done)
    assert "Proven from etcd" not in output(done) and "Rescued with the proof {}" in output(done), output(done)
    watched.cluster.kubectl("get", "secret", "o-1")
    delete(watched.cluster, "/registry/secrets/default/corrupt")
    watched.assert_all_readable()

    done = watched.run(**variables)
    assert done.returncode == 0, output(done)
    assert watched.keys("master-1") == ["new"] and watched.under("secrets") == {b"new"}
    watched.assert_all_readable()
