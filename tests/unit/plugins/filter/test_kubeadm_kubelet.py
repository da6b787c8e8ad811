# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the driver kubeadm touches a kubelet, above all in a run after one that was interrupted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.filter.kubeadm_kubelet import kubeadm_kubelet
from ansible_collections.kube_storage.upgrade.plugins.filter.kubeadm_unfinished import kubeadm_unfinished

OLD, NEW = "v1.36.5", "v1.37.2"
STEP_ONE: dict[str, Any] = {"version": NEW, "emulate": "1.36"}
STEP_TWO: dict[str, Any] = {"version": NEW}
BACK: dict[str, Any] = {"version": OLD, "rollback": True}


def noted(version: str, keeps: bool) -> str:
    return json.dumps({"verb": "node", "was_cordoned": False, "version": version, "keeps_kubelet": keeps})


def decided(step: dict[str, Any], note: str = "", **known: str) -> dict[str, bool]:
    unfinished = kubeadm_unfinished(note, step["version"], True)
    return kubeadm_kubelet(unfinished, **{**step, "running": OLD, "installed": "", "server": NEW, **known})


@pytest.mark.parametrize(
    ("step", "known", "stays"),
    [
        (STEP_ONE, {"server": OLD}, True),
        (STEP_TWO, {}, False),
        (STEP_TWO, {"running": NEW, "installed": f"Kubernetes {NEW}"}, True),
        (STEP_TWO, {"running": NEW, "server": OLD}, False),
        (BACK, {}, True),
        (BACK, {"running": NEW}, False),
        # One back from step two, whose kubelets are newer than what it emulates.
        (STEP_ONE, {"running": NEW}, True),
    ],
)
def test_without_a_note(step: dict[str, Any], known: dict[str, str], stays: bool) -> None:
    assert decided(step, **known) == {"stays": stays, "begun": False}


@pytest.mark.parametrize("running", [OLD, NEW])
@pytest.mark.parametrize("interrupted", [OLD, NEW])
def test_step_one_after_an_interrupted_kubelet_leaves_it_and_uncordons(interrupted: str, running: str) -> None:
    """It went to the new release, under an API server that emulates the older one: after a rollback, and after a second step."""
    assert decided(STEP_ONE, noted(interrupted, False), running=running) == {"stays": True, "begun": True}


@pytest.mark.parametrize(("step", "running"), [(STEP_TWO, NEW), (BACK, OLD)])
def test_one_that_may_have_been_begun_is_finished(step: dict[str, Any], running: str) -> None:
    for interrupted in (OLD, NEW):
        assert decided(step, noted(interrupted, False), running=running) == {"stays": False, "begun": True}


def test_one_that_was_to_stay_is_left_alone_on_the_way_back() -> None:
    assert decided(BACK, noted(NEW, True)) == {"stays": True, "begun": False}


@pytest.mark.parametrize(("step", "running", "other"), [(STEP_TWO, NEW, OLD), (BACK, OLD, NEW)])
def test_what_is_installed_but_not_started_yet_counts(step: dict[str, Any], running: str, other: str) -> None:
    """Step one leaves it so after an interruption between the package and the restart, and removes the note."""
    assert not decided(step, running=running, installed=f"Kubernetes {other}")["stays"]
    assert decided(step, running=running, installed="sh: kubelet: not found")["stays"], "unknown"
