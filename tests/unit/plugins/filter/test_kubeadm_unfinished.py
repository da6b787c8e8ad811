# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.filter.kubeadm_unfinished import kubeadm_unfinished

NOTE: dict[str, Any] = {"verb": "apply", "was_cordoned": False, "version": "1.37", "keeps_kubelet": True}


def test_without_a_note() -> None:
    assert kubeadm_unfinished("", "1.37", True) == {}


@pytest.mark.parametrize("version", ["1.37", "v1.37.2", 1.37])
def test_an_upgrade_to_the_same_minor_release_is_resumed(version: Any) -> None:
    assert kubeadm_unfinished(json.dumps(NOTE), version, True) == NOTE


@pytest.mark.parametrize("version", ["1.38", "v1.36.5"])
def test_a_note_about_another_release_chooses_nothing(version: str) -> None:
    """It made a later upgrade run kubeadm upgrade apply on a master that should only follow."""
    found = kubeadm_unfinished(json.dumps(NOTE), version, True)
    assert "verb" not in found and found["was_cordoned"] is False, "drained by the run that was interrupted"


@pytest.mark.parametrize("keeps", [True, False])
def test_a_note_about_another_release_says_whether_the_kubelet_was_to_stay(keeps: bool) -> None:
    """So a rollback leaves the kubelet alone if the run that it takes back did, and a step one after a rollback does, too."""
    found = kubeadm_unfinished(json.dumps({**NOTE, "keeps_kubelet": keeps}), "1.36", True)
    assert found == {"version": "1.37", "was_cordoned": False, "keeps_kubelet": keeps}


def test_a_node_that_somebody_uncordoned_meanwhile_does_not_stay_cordoned() -> None:
    note = json.dumps({**NOTE, "was_cordoned": True})
    assert kubeadm_unfinished(note, "1.37", True)["was_cordoned"] is True
    assert kubeadm_unfinished(note, "1.37", "False")["was_cordoned"] is False


@pytest.mark.parametrize("note", ["{", "[]", "true"])
def test_a_note_that_is_damaged_stops_the_driver(note: str) -> None:
    with pytest.raises(ValueError, match="is damaged; delete /etc/note.json, and"):
        kubeadm_unfinished(note, "1.37", False, "/etc/note.json")
