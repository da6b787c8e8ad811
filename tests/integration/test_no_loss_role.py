# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role takes no second master down: whatever is ignored, whoever else runs, whatever an earlier play left, and after a kill."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support import warm_ansible, warm_python
from .support.etcd import etcd_request
from .support.modules import ROOT, environment, run_module
from .support.plays import CLUSTER, PLAYBOOKS, cluster_variables, write_inventory
from .support.readiness import sampled
from .support.waiting import wait_until

LEASE = ("leases", "kube-storage-upgrade-roll", "-n", "kube-system")
MARKERS = Path("/run/kube-storage-upgrade-steps")


@dataclass
class Rolls:
    """Plays over the masters of one cluster, from files in a folder of their own."""

    cluster: Cluster
    folder: Path
    started: list[warm_ansible.Started] = field(default_factory=list)

    def start(
        self,
        play: Path,
        driver: str,
        *flags: str,
        name: str = "play",
        settings: dict[str, str] | None = None,
        **given: Any,
    ) -> warm_ansible.Started:
        """ansible-playbook in the background; what it says goes to files, which a worker that outlives it may keep open."""
        inventory = write_inventory(self.folder, self.cluster)
        (self.folder / f"{name}-driver.yml").write_text(driver, encoding="utf-8")
        variables = {
            "ansible_python_interpreter": warm_python.interpreter(),
            "rolling_upgrade_version": "1.37",
            "rolling_upgrade_tasks_file": str(self.folder / f"{name}-driver.yml"),
            "rolling_upgrade_kubeconfig": str(self.cluster.kubeconfig),
            "rolling_upgrade_stable_for": 1,
            "rolling_upgrade_wait_timeout": 60,
            **given,
        }
        variables = {key: value for key, value in variables.items() if value is not None}
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", inventory, *flags, str(play)]
        with open(self.output(name), "w", encoding="utf-8") as output:
            env = {
                **environment(),
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
                **(settings or {}),
            }
            process = warm_ansible.start(
                [*command, "-e", json.dumps(variables)], cwd=self.folder, env=env, output=output, errors=output
            )
        self.started.append(process)
        return process

    def run(self, play: Path, driver: str, *flags: str, name: str = "play", **given: Any) -> tuple[int, str]:
        code = self.start(play, driver, *flags, name=name, **given).wait(timeout=900)
        return code, self.said(name)

    def output(self, name: str = "play") -> Path:
        return self.folder / f"{name}.out"

    def said(self, name: str = "play") -> str:
        return self.output(name).read_text(encoding="utf-8")

    def touched(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.touched"))

    def forget(self) -> None:
        for path in self.folder.glob("*.touched"):
            path.unlink()

    def touch(self) -> str:
        """A driver's first task: it leaves a trace."""
        return f"- ansible.builtin.command: touch {self.folder}/{{{{ inventory_hostname }}}}.touched\n"

    def markers(self) -> list[str]:
        """The steps that runs of this test left on record on the masters, which are all this host."""
        runs = [process.pid for process in self.started]
        found = [json.loads(path.read_text(encoding="utf-8")) for path in MARKERS.glob("*.json")]
        return [record["master"] for record in found if record["about"]["process"]["pid"] in runs]

    def holder(self) -> str:
        lease = json.loads(self.cluster.kubectl("get", *LEASE, "-o", "json"))
        return str(lease["spec"].get("holderIdentity") or "")


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three at 1.36, which only the last test of the file upgrades."""
    cluster = Cluster.up(tmp_path_factory.mktemp("masters") / "cluster", version="1.36", owner_pid=os.getpid())
    yield cluster
    cluster.down()


@pytest.fixture
def rolls(masters: Cluster, tmp_path: Path) -> Iterator[Rolls]:
    found = Rolls(masters, tmp_path)
    yield found
    for process in found.started:
        if process.poll() is None:
            process.kill()
            process.wait()


ROLL = PLAYBOOKS / "roll.yml"
IGNORED = PLAYBOOKS / "errors_ignored"


@pytest.mark.parametrize("where", ["play", "import_role", "include_role", "apply", "roles", "block"])
def test_a_check_that_failed_is_not_ignored(rolls: Rolls, where: str) -> None:
    """Number 10. There is one API server too few, wherever errors are ignored."""
    code, said = rolls.run(IGNORED / f"{where}.yml", rolls.touch(), rolling_upgrade_expected_servers=4)
    assert rolls.touched() == [], said
    assert code != 0 and "The upgrade can't begin" in said
    assert "Rewrite stored objects in the new storage versions" not in said
    assert rolls.holder() == ""


@pytest.mark.parametrize(
    ("play", "serial"),
    [("play", 1), ("play", "100%"), ("rescued", 1)],
    ids=["serial", "batch", "rescued"],
)
def test_a_driver_that_breaks_its_master_breaks_no_other(rolls: Rolls, play: str, serial: int | str) -> None:
    """Number 10. The driver kills the API server and succeeds; it is not waited for until it is back, as errors are ignored or rescued."""
    cluster = rolls.cluster
    kill = f"- ansible.builtin.command: {sys.executable} {CLUSTER} kill {cluster.folder} {{{{ inventory_hostname }}}}\n"
    try:
        with sampled(cluster) as seen:
            code, said = rolls.run(
                IGNORED / f"{play}.yml", rolls.touch() + kill, play_serial=serial, rolling_upgrade_wait_timeout=3
            )
        assert rolls.touched() == ["master-1"], said
        assert seen.worst == ("master-1",) and seen.samples > 10
        assert "The upgrade of master-1 (" in said and ") to 1.37 failed: " in said
        assert "Proven" not in said and "Rewrite stored objects in the new storage versions" not in said
        if play == "rescued":
            assert code == 0 and "master-2 was not touched" in said and "master-3 was not touched" in said
        else:
            assert code != 0
        assert rolls.holder() == "" and rolls.markers() == []
    finally:
        if not cluster.is_ready("master-1"):
            cluster.start("master-1")
            cluster.await_listed()


LOST = "- ansible.builtin.ping: {}\n  vars: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 9}\n"


def test_the_report_of_a_master_that_is_lost_while_it_is_alone_in_its_batch(rolls: Rolls) -> None:
    """Issue 15, number 1: with serial 1 no other host can report that the run has ended; the report said "running" forever."""
    report = rolls.folder / "report.html"
    code, said = rolls.run(ROLL, rolls.touch() + LOST, play_serial=1, rolling_upgrade_report_path=str(report))
    assert code != 0 and rolls.touched() == ["master-1"] and "UNREACHABLE!" in said, said

    def told() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
        return found

    wait_until(lambda: "Interrupted" in report.read_text(encoding="utf-8"), 60)
    assert told()["status"] == "cut off" and [step["state"] for step in told()["steps"]] == ["cut off"]
    (failure,) = told()["runs"][-1]["failures"]
    assert failure["host"] == "master-1" and "ended abruptly in the step on master-1" in failure["message"]


def test_a_master_that_is_lost_in_its_turn_stops_the_roll(rolls: Rolls) -> None:
    """Issue 15, number 1: the report said "running" forever, and the last words were those of another master. The play has another order."""
    report = {"rolling_upgrade_report_path": str(rolls.folder / "report.html")}
    with sampled(rolls.cluster) as seen:
        code, said = rolls.run(PLAYBOOKS / "roll.yml", rolls.touch() + LOST, play_order="reverse_inventory", **report)
    assert code != 0 and rolls.touched() == ["master-1"], said
    assert seen.worst == () and "UNREACHABLE!" in said
    assert "The upgrade of master-1 (https://" in said and "can't reach the host anymore" in said
    assert said.count("fatal: ") == 2 and "master-2 was not touched" not in said, said
    told = json.loads((rolls.folder / "report.json").read_text(encoding="utf-8"))
    assert [run["status"] for run in told["runs"]] == ["failed"]
    assert [(step["master"], step["state"]) for step in told["steps"]] == [("master-1", "failed")]
    assert rolls.holder() == "" and rolls.markers() == ["master-1"]
    # The next run sees that nothing of it is running, and goes on; its driver fails with two lines on stderr.
    rolls.forget()
    broken = "- ansible.builtin.shell: echo reading; echo W wait >&2; echo 'E no such package' >&2; exit 100\n"
    code, said = rolls.run(PLAYBOOKS / "roll.yml", rolls.touch() + broken, **report)
    assert code != 0 and rolls.touched() == ["master-1"] and rolls.markers() == [], said
    assert "The step on master-1 was interrupted. All its processes have ended" in said
    why = "failed: non-zero return code 100: E no such package. Now: https://"
    assert "STOPPED: The upgrade of master-1" in said and why in " ".join(said.split()), said
    told = json.loads((rolls.folder / "report.json").read_text(encoding="utf-8"))
    assert why in told["runs"][-1]["failures"][0]["message"]


def test_check_mode_is_a_plan(rolls: Rolls) -> None:
    """Issue 15, number 8: on a healthy cluster it ended red, as nothing had been upgraded."""
    report = rolls.folder / "report.html"
    code, said = rolls.run(
        ROLL,
        "- ansible.builtin.command: touch /never\n",
        "--check",
        "--diff",
        rolling_upgrade_report_path=str(report),
        rolling_upgrade_etcd=rolls.cluster.etcd,
    )
    assert code == 0, said
    last = said[said.index("TASK [kube_storage.upgrade.rolling_upgrade : Show how the run ended") :]
    words = " ".join(last.split())
    assert (
        "CHECKED, NOTHING WAS CHANGED: would upgrade master-1, master-2, master-3 from 1.36 to 1.37, one at a time; then "
        in words
    ), said
    assert "-mutatingadmissionpolicies.admissionregistration.k8s.io: v1beta1" in last, said
    assert "TASK [" not in last[5:] and not report.exists() and rolls.holder() == ""
    assert f"{rolls.folder}/report-check-mode.html" in said
    told = json.loads((rolls.folder / "report-check-mode.json").read_text(encoding="utf-8"))
    assert told["check_mode"] is True and told["check"]["target_version"] == "1.37"
    page = (rolls.folder / "report-check-mode.html").read_text(encoding="utf-8")
    assert "Check mode: nothing was changed." in page


def test_etcd_that_is_not_healthy_is_refused_before_the_first_master(rolls: Rolls) -> None:
    """Issue 15, number 5: one of its members is down. It was added and never started, so that the others have their majority."""
    added = etcd_request(
        rolls.cluster, "/v3/cluster/member/add", {"peerURLs": ["https://127.0.0.1:9"], "isLearner": True}
    )
    try:
        code, said = rolls.run(ROLL, rolls.touch(), rolling_upgrade_etcd=rolls.cluster.etcd)
        assert code != 0 and rolls.touched() == [], said
        words = " ".join(said.split())
        assert "STOPPED: No master was touched, because something blocks the upgrade to 1.37: etcd_member_down" in words
        assert rolls.holder() == ""
    finally:
        etcd_request(rolls.cluster, "/v3/cluster/member/remove", {"ID": added["member"]["ID"]})


def test_handlers_run_in_the_turn_of_their_master(rolls: Rolls) -> None:
    """Tasks before the role, and the driver, notify handlers on every master. They would restart all API servers at the end of the play.

    At 1.36 all is done. On the way to 1.37, the handler of master-1 leaves it as it is.
    """
    about = {"handler_notes": str(rolls.folder / "notes"), **cluster_variables(rolls.cluster, rolls.folder)}
    with sampled(rolls.cluster) as seen:
        code, said = rolls.run(PLAYBOOKS / "handlers.yml", rolls.touch(), rolling_upgrade_version="1.36", **about)
    assert code == 0, said
    assert seen.worst in [(name,) for name in rolls.cluster.masters] and seen.samples > 10
    notes = (rolls.folder / "notes").read_text(encoding="utf-8").splitlines()
    assert notes == [f"{name} restart {word}" for name in rolls.cluster.masters for word in ("begins", "ends")]
    assert rolls.touched() == []

    (rolls.folder / "notes").unlink()
    driver = rolls.touch() + "  notify: Finish the upgrade\n"
    given = {"rolling_upgrade_wait_timeout": 2, **about}
    code, said = rolls.run(PLAYBOOKS / "handlers.yml", driver, **given)
    assert code != 0 and rolls.touched() == ["master-1"], said
    notes = (rolls.folder / "notes").read_text(encoding="utf-8").splitlines()
    assert notes == ["master-1 restart begins", "master-1 restart ends", "master-1 finishes"]
    assert "The upgrade of master-1 (" in said and rolls.holder() == "" and rolls.markers() == []

    rolls.forget()
    (rolls.folder / "notes").unlink()
    code, said = rolls.run(PLAYBOOKS / "handlers.yml", driver, settings={"ANSIBLE_FORCE_HANDLERS": "1"}, **given)
    assert code != 0 and rolls.touched() == [], said
    assert "No master was touched. This play has handlers and force_handlers" in said and rolls.holder() == ""


def test_masters_behind_one_address_are_refused(rolls: Rolls) -> None:
    """Whether they are ready would be unknown, and the second would count as upgraded with the first."""
    address = f"https://{rolls.cluster.data['masters']['master-1']['address']}:6443"
    code, said = rolls.run(ROLL, rolls.touch(), rolling_upgrade_version="1.36", rolling_upgrade_server=address)
    assert code != 0 and f"{address} is the API server of master-2 and of another master" in said, said
    code, said = rolls.run(ROLL, rolls.touch(), rolling_upgrade_sampling={"connections": 4})
    assert code != 0 and rolls.touched() == [] and "behind one address (rolling_upgrade_sampling)" in said, said


def test_the_role_on_one_master_only_is_no_success(rolls: Rolls) -> None:
    """With run_once the other masters never run it."""
    code, said = rolls.run(PLAYBOOKS / "run_once.yml", rolls.touch(), rolling_upgrade_version="1.36")
    assert code != 0 and rolls.touched() == [], said
    assert "master-2, master-3: the role did not run there" in said and "run_once" in said, said


def test_what_an_earlier_play_found_is_not_permission_for_the_next(rolls: Rolls) -> None:
    """Number 18. Three plays in one run: all is done at 1.36; the check for 1.37 fails on master-1; its driver fails on master-1.

    In addition, the facts of all hosts are on disk from a run in which all went well.
    """
    cache = rolls.folder / "cache"
    cache.mkdir()
    facts = {"rolling_upgrade_may_begin": True, "rolling_upgrade_done": True, "rolling_upgrade_pending": True}
    for name in rolls.cluster.masters:
        (cache / name).write_text(json.dumps(facts), encoding="utf-8")
        (cache / f"s1_{name}").write_text(json.dumps(facts), encoding="utf-8")

    driver = rolls.touch() + "- ansible.builtin.fail: {msg: the driver failed}\n"
    settings = {"ANSIBLE_CACHE_PLUGIN": "jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(cache)}
    code, said = rolls.run(IGNORED / "three_plays.yml", driver, settings=settings, rolling_upgrade_version=None)
    first, second, third = said.split("PLAY [")[1:]
    assert code == 0, said
    assert "Rewrite stored objects in the new storage versions" in first and "was rescued" not in first, first
    assert "The upgrade can't begin" in second and "the driver failed" not in second, second
    assert "was rescued with the proof {}" in second, second
    assert rolls.touched() == ["master-1"] and "The upgrade of master-1 (" in third and "the driver failed" in third, (
        third
    )
    assert "Rewrite stored objects in the new storage versions" not in second + third


def test_a_second_roll_learns_who_holds_the_lease_and_spoils_nothing(rolls: Rolls) -> None:
    """Number 12. The first is at master-1; the second, and a migration alone, are refused; its report stays the first one's."""
    go, report = rolls.folder / "go", rolls.folder / "report.html"
    driver = rolls.touch() + (
        f"- ansible.builtin.shell: while [ ! -e {go} ]; do sleep 0.2; done\n- ansible.builtin.fail: {{msg: enough}}\n"
    )
    first = rolls.start(ROLL, driver, name="first", rolling_upgrade_report_path=str(report))
    try:
        wait_until(lambda: rolls.touched() == ["master-1"] or first.poll() is not None, 300)
        before = report.with_suffix(".json").read_text(encoding="utf-8")
        rolls.forget()
        code, said = rolls.run(ROLL, rolls.touch(), name="second", rolling_upgrade_report_path=str(report))
        assert code != 0 and rolls.touched() == [], said
        assert "Another roll is active: " in said and "the upgrade to 1.37, now at master-1" in said
        assert "Wait until it ends and run again" in said and "rolling_upgrade_take_over" in said
        alone = PLAYBOOKS / "migrate_on_localhost.yml"
        code, said = rolls.run(
            alone, "", name="third", rolling_upgrade_masters=["localhost"], rolling_upgrade_expected_servers=3
        )
        assert code != 0 and "Another roll is active: " in said and "PLAY RECAP" in said
        assert report.with_suffix(".json").read_text(encoding="utf-8") == before
    finally:
        go.touch()
        assert first.wait(timeout=300) == 2
    assert "enough" in rolls.said("first") and rolls.holder() == ""
    told = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    assert [run["status"] for run in told["runs"]] == ["failed"] and len(told["steps"]) == 1


def test_a_run_that_was_killed_is_waited_for(rolls: Rolls) -> None:
    """Number 19. A driver's task still prepares on master-1 when ansible-playbook is killed, and restarts master-1 when the next run
    would be at master-2. Three runs: refused by the Lease's record; refused by the marker on the master; and one that waits.
    """
    cluster, go, begun = rolls.cluster, rolls.folder / "go", rolls.folder / "begun"
    program = f"{sys.executable} {CLUSTER}"
    orphan = (
        f"touch {begun}; while [ ! -e {go} ]; do sleep 0.1; done; {program} kill {cluster.folder} master-1; sleep 4; "
        f"{program} start {cluster.folder} master-1; touch {rolls.folder}/orphan-ended"
    )
    report = {"rolling_upgrade_report_path": str(rolls.folder / "report.html")}
    first = rolls.start(ROLL, f"- ansible.builtin.shell: '{orphan}'\n", name="first", **report)
    upgrade = rolls.touch() + (
        f"- ansible.builtin.shell: test -e {rolls.folder}/orphan-ended || touch {rolls.folder}/too-early\n"
        f"- ansible.builtin.command: {program} upgrade {cluster.folder} {{{{ inventory_hostname }}}} --version 1.37\n"
    )
    try:
        wait_until(lambda: begun.exists() or first.poll() is not None, 300)
        assert rolls.markers() == ["master-1"], rolls.said("first")
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        code, said = rolls.run(ROLL, upgrade, name="second", rolling_upgrade_wait_timeout=1)
        assert code != 0 and rolls.touched() == [], said
        assert (
            "No master was touched. The step on master-1, begun at 2" in said
            and "was interrupted, and its tasks are still running there" in said
        )
        assert "rolling_upgrade_cut_off_ended" in said
        # An admin in a hurry.
        cluster.kubectl("delete", *LEASE)
        code, said = rolls.run(ROLL, upgrade, name="third", rolling_upgrade_wait_timeout=1)
        assert code != 0 and rolls.touched() == [] and "its tasks are still running there" in said, said
        with sampled(cluster) as seen:
            last = rolls.start(ROLL, upgrade, name="last", **report)
            wait_until(lambda: "waiting for" in rolls.said("last") or rolls.touched() or last.poll() is not None, 300)
            go.touch()
            assert last.wait(timeout=900) == 0, rolls.said("last")
        assert "waiting for" in rolls.said("last") and rolls.touched() == cluster.masters
        assert not (rolls.folder / "too-early").exists()
        assert len(seen.worst) == 1 and seen.samples > 20
        assert "The step on master-1 was interrupted. All its processes have ended" in rolls.said("last")
        assert rolls.holder() == "" and rolls.markers() == []
        told = json.loads((rolls.folder / "report.json").read_text(encoding="utf-8"))
        assert [run["status"] for run in told["runs"]] == ["cut off", "succeeded"]
        assert told["steps"][0]["state"] == "cut off" and told["proof"]["one_at_a_time"] is None
        page = (rolls.folder / "report.html").read_text(encoding="utf-8")
        assert "At no time were two masters" not in page and "Done and proven" not in page
    finally:
        go.touch()
        wait_until(lambda: (rolls.folder / "orphan-ended").exists() or not begun.exists())


def test_one_roll_at_a_time_by_its_lease(masters: Cluster) -> None:
    """Number 12. Two runs, the first of which still lives; then it has ended; then one that ran elsewhere."""
    here = run_module(masters, "upgrade_lease", purpose="the upgrade to 1.37", doing="master-1", step="master-1")
    step = here["open_step"]
    assert here["held"] is True and step["master"] == "master-1"
    # That run of Ansible is over, as this controller can see, so its Lease is taken over; its step stays on record.
    refused = run_module(masters, "upgrade_lease", step="master-1")
    assert refused.failed and refused.data["error"] == "cut_off" and refused.data["open_step"]["id"] == step["id"]
    assert refused.data["open_step"]["on_controller"] == "ended"
    next_one = run_module(masters, "upgrade_lease", ended=[step["id"]])
    assert next_one["held"] is True and next_one["open_step"] is None
    elsewhere = {"holder": "bob@elsewhere/1", "about": {"who": "bob", "host": "elsewhere"}}
    taken = run_module(masters, "upgrade_lease", **elsewhere, take_over=next_one["holder"], doing="master-1")
    assert taken["held"] is True
    checked = run_module(masters, "upgrade_lease", check=True)
    refused = run_module(masters, "upgrade_lease")
    for told in (checked, refused):
        assert told.failed and told.data["error"] == "already_running" and told.data["other"]["who"] == "bob"
        assert "Another roll is active: bob on elsewhere since 2" in told.message and "now at master-1" in told.message
    assert run_module(masters, "upgrade_lease", **elsewhere, state="released")["changed"] is True
    assert run_module(masters, "upgrade_lease", state="released")["changed"] is False
    looked = run_module(masters, "upgrade_lease", state="queried")
    assert (looked["held"], looked["other"], looked["changed"]) == (False, None, False)
    lost = run_module(masters, "upgrade_lease", acquire=False)
    assert lost.failed and "no longer holds the Lease" in lost.message
    lease = json.loads(masters.kubectl("get", *LEASE, "-o", "json"))
    assert lease["spec"]["holderIdentity"] == ""
