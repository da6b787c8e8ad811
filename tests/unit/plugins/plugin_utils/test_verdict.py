# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 15, numbers 6, 7 and 8: the last words of the role."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.cli.playbook import PlaybookCLI
from ansible_collections.kube_storage.upgrade.plugins.filter import upgrade_verdict as upgrade_verdict_filter
from ansible_collections.kube_storage.upgrade.plugins.filter.upgrade_verdict import upgrade_verdict
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._verdict import (
    failure_text,
    stopped_lines,
    stored_diff,
)

THREE = ["master-1", "master-2", "master-3"]
COMMAND: dict[str, Any] = {"msg": "non-zero return code", "rc": 100}


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"msg": "The operator is stuck."}, "The operator is stuck."),
        ({}, "see the task before."),
        (
            {**COMMAND, "stderr": "W: wait\nE: Version 1.38.0-1.1 for kubeadm was not found\n", "stdout": "Reading"},
            "non-zero return code 100: E: Version 1.38.0-1.1 for kubeadm was not found.",
        ),
        ({**COMMAND, "stderr": "E: one\nE: two\n"}, "non-zero return code 100: E: one E: two."),
        ({**COMMAND, "stderr": "", "stdout": "first\nno space left\n\n"}, "non-zero return code 100: no space left."),
        (COMMAND, "non-zero return code"),
        (
            {"msg": "MODULE FAILURE: see stderr", "rc": 1, "stderr": "Killed"},
            "MODULE FAILURE: see stderr: Killed.",
        ),
        ({"msg": "apt said: E: gone", "rc": 100, "stderr": "E: gone"}, "apt said: E: gone"),
        (
            {"msg": "kubeadm failed.\nkubeadm upgrade\nits output", "rc": 1, "stderr": "x"},
            "kubeadm failed.\nkubeadm upgrade\nits output",
        ),
        (
            {
                "msg": "One or more items failed",
                "results": [{"msg": "ok"}, {**COMMAND, "failed": True, "stderr": "no"}],
            },
            "non-zero return code 100: no.",
        ),
    ],
)
def test_the_end_of_stderr_is_in_the_sentence(result: dict[str, Any], text: str) -> None:
    assert failure_text(result) == text


def test_long_output_is_cut() -> None:
    assert len(failure_text({**COMMAND, "stderr": "x" * 5000})) < 400


def test_why_it_stopped_and_what_to_do() -> None:
    lines = stopped_lines("The upgrade failed.\noutput", "/r.html", ["ansible-playbook", "-i", "my hosts", "up.yml"])
    assert lines == [
        "",
        "STOPPED: The upgrade failed.",
        "output",
        "Report: /r.html",
        "Next: fix this, then run:",
        "    ansible-playbook -i 'my hosts' up.yml",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["-e", "token=s3cret"],
        ["-etoken=s3cret"],
        ["--extra-vars=token=s3cret"],
        ["-Kbe", "token=s3cret"],
        ["--extra", "token=s3cret"],
        ["-e", "@vars.yml", "--extra-var=token=s3cret"],
    ],
)
def test_values_on_the_command_line_are_not_repeated(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible's own parser says what is a variable."""
    failed = [{"failed": True, "msg": "It failed."}]

    def said(*words: str) -> str:
        command = ["ansible-playbook", "up.yml", *words]
        monkeypatch.setattr("sys.argv", command)
        cli = PlaybookCLI(command)
        cli.init_parser()
        given = cli.parser.parse_args(command[1:]).extra_vars
        monkeypatch.setattr(upgrade_verdict_filter.context, "CLIARGS", {"extra_vars": tuple(given)})
        return upgrade_verdict(THREE, outcomes=failed)[-1]

    assert said(*words) == "Next: fix this, then run the same command again."
    assert said("-e", "@vars.yml", "--extra=@more.yml") == "    ansible-playbook up.yml -e @vars.yml --extra=@more.yml"
    assert said("-Kb", "--check") == "    ansible-playbook up.yml -Kb --check"


def test_only_who_has_something_to_say_speaks() -> None:
    assert upgrade_verdict(THREE) == []
    assert upgrade_verdict(THREE, outcomes=[{}, {"failed": False, "msg": "fine"}]) == []
    failed = upgrade_verdict(THREE, outcomes=[{"failed": True, "msg": "No master was touched."}, {}])
    assert failed[1] == "STOPPED: No master was touched."
    assert (
        upgrade_verdict(THREE, outcomes=[{"failed": True, "msg": "x"}], stopped="The roll.")[1] == "STOPPED: The roll."
    )


def test_done() -> None:
    proof = {"source": "etcd", "proven": True, "objects": 77, "unprovable": 0}
    facts = {"version": "1.37", "proof": proof, "migration": {"totals": {"rewritten": 1}}, "report": "/r.html"}
    assert upgrade_verdict(THREE, verified=True, facts=facts) == [
        "",
        "DONE AND PROVEN: master-1, master-2, master-3 are at 1.37. 1 object rewritten. Proven from etcd: 0 of 77 objects are stale. "
        "Each is stored as the API servers would write it now.",
        "Report: /r.html",
    ]
    without = upgrade_verdict(THREE[:1], verified=True, facts={"version": "1.37", "proof": {"source": "api_servers"}})
    assert (
        without[1].startswith("DONE: master-1 is at 1.37. Etcd was not read") and "rolling_upgrade_etcd" in without[2]
    )


def test_before_trimming_it_is_not_done_yet() -> None:
    """It said DONE, and that nothing else remains to be done, while status.storedVersions of CRDs still listed old versions."""
    facts = {"version": "1.37", "stops_before": "trim"}
    proven = upgrade_verdict(THREE[:1], verified=True, facts={**facts, "proof": {"source": "etcd", "proven": True}})
    assert proven[1].startswith("DONE AND PROVEN EXCEPT FOR TRIMMING: master-1 is at 1.37.")
    again = "run again without rolling_upgrade_stop_before, which trims status.storedVersions of CRDs."
    assert proven[-1] == f"Next: {again}"
    unread = upgrade_verdict(THREE[:1], verified=True, facts={**facts, "proof": {"source": "api_servers"}})
    assert unread[1].startswith("DONE EXCEPT FOR TRIMMING: ") and "nothing else remains" not in unread[-1]
    assert unread[-1] == f"Next: set rolling_upgrade_etcd and run again for the proof; {again}"


def test_a_release_that_is_emulated_is_named() -> None:
    """several_releases migrates in the first of two steps what an earlier run left undone."""
    facts = {"version": "1.37", "emulate": "1.36", "proof": {"source": "etcd", "proven": True}}
    assert "master-1 is at 1.37, emulating 1.36." in upgrade_verdict(THREE[:1], verified=True, facts=facts)[1]


CHECKED: dict[str, Any] = {
    "current_version": "1.36",
    "target_version": "1.37",
    "upgrade_pending": True,
    "stored": [
        {"resource": "policies.x", "version": "x/v1alpha1", "objects": 10},
        {"resource": "policies.x", "version": "x/v1", "objects": 30},
    ],
    "plan": {
        "changes": [
            {"resource": "policies.x", "from": "x/v1", "to": "x/v2", "objects": 40},
            {"resource": "bindings.x", "from": "x/v1", "to": "x/v2", "objects": 37},
        ],
        "changed": {"objects": 77, "seconds": 0.4},
        "all": {"objects": 400, "seconds": None},
        "trims": ["widgets.shop.example.com"],
    },
}


def test_check_mode_is_a_plan() -> None:
    def plan(**facts: Any) -> str:
        lines = upgrade_verdict(THREE, planned=True, facts={"checked": CHECKED, "select": "changed", **facts})
        return " ".join(lines).strip()

    rewriting = "then rewrite 77 objects of 2 resources (about 1 s), trim 1 CRD."
    assert plan() == (
        f"CHECKED, NOTHING WAS CHANGED: would upgrade master-1, master-2, master-3 from 1.36 to 1.37, one at a time; {rewriting}"
    )
    assert "; then rewrite 77 objects of 2 resources (about 1 s), visiting 400 objects to make sure, trim" in plan(
        select="all"
    )
    assert "would upgrade master-3 from 1.36 to 1.37; then" in plan(done=THREE[:2])
    assert plan(done=THREE[:2]).endswith("master-1, master-2 are at 1.37 already.")
    assert plan(done=THREE) == f"CHECKED, NOTHING WAS CHANGED: would {rewriting.removeprefix('then ')}"
    assert "would have the platform upgrade its masters from 1.36 to 1.37; then" in plan(by_platform=True)


def test_the_plan_ends_where_the_run_does() -> None:
    """It listed a migration and CRDs to trim, which a run with rolling_upgrade_emulate or rolling_upgrade_stop_before leaves out."""

    def plan(**facts: Any) -> str:
        return " ".join(upgrade_verdict(THREE[:1], planned=True, facts={"checked": CHECKED, **facts})).strip()

    told = "CHECKED, NOTHING WAS CHANGED: would upgrade master-1 from 1.36 to 1.37"
    second = "the second step, in which nothing is emulated anymore."
    assert plan(emulate="1.36", stops_before="finalize") == f"{told}, emulating 1.36. This run ends before {second}"
    assert plan(stops_before="migrate") == f"{told}. This run ends before the migration."
    nothing = "CHECKED: nothing remains to be done in this run. This run ends before the migration."
    assert plan(stops_before="migrate", done=THREE[:1]) == nothing
    trim = plan(stops_before="trim")
    assert "rewrite 77 objects" in trim and "trim 1 CRD" not in trim
    assert trim.endswith("This run ends before status.storedVersions of CRDs are trimmed.")
    assert plan(emulate="1.36", done=THREE[:1]).endswith("would rewrite what is not stored as 1.36 stores it.")
    assert "would roll back master-1 from" in plan(rollback="true") and "would upgrade" in plan(rollback=False)


def test_the_diff_has_the_versions_as_they_are() -> None:
    assert stored_diff(CHECKED) == {
        "before": ["policies.x: v1alpha1 (10 objects), v1 (30 objects)", "bindings.x: v1"],
        "after": ["policies.x: v2 (40 objects)", "bindings.x: v2 (37 objects)"],
    }
    assert stored_diff({}) == {"before": [], "after": []}
