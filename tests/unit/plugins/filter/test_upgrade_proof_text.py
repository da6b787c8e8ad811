# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.filter.upgrade_proof_text import upgrade_proof_text

PROOF = {
    "objects": 190,
    "stale": 0,
    "unprovable": 0,
    "encryption_unknown": 0,
    "unprovable_resources": {},
    "problems": [],
}


def test_everything_is_proven() -> None:
    assert upgrade_proof_text(PROOF) == (
        "Proven from etcd: 0 of 190 objects are stale. Each is stored as the API servers would write it now."
    )


def test_unknown_encryption_is_named() -> None:
    text = upgrade_proof_text({**PROOF, "encryption_unknown": 187})
    assert text.startswith("Proven from etcd: 0 of 190 objects are in an old version or encoding. Whether 187 of them")
    assert "Each is stored" not in text


def test_unknown_versions_are_named_with_their_reasons() -> None:
    why = {"secrets": {"encrypted": 2, "corrupt": 1}, "pods": {"empty": 1}}
    text = upgrade_proof_text(
        {**PROOF, "unprovable": 4, "unprovable_resources": why, "problems": ["One member is behind."]}
    )
    assert (
        "The version of 4 is unknown: secrets (encrypted 2, corrupt 1), pods (empty 1). One member is behind." in text
    )
    assert "Each is stored" not in text


def test_what_was_not_cross_checked_is_not_called_proven() -> None:
    text = upgrade_proof_text({**PROOF, "cross_checked": False})
    assert "Proven" not in text and text.startswith("Read from etcd: 0 of 190 objects are stale.")
    assert text.endswith("was not cross-checked; they may write differently.")
    assert upgrade_proof_text({**PROOF, "cross_checked": True}) == upgrade_proof_text(PROOF)


def test_keys_of_no_served_resource_are_not_proven() -> None:
    text = upgrade_proof_text({**PROOF, "unknown": 40, "unknown_prefixes": ["example.com/widgets"]})
    assert "40 more keys belong to no resource that the API servers serve (under example.com/widgets)" in text
    assert "1 more key belongs to no resource" in upgrade_proof_text({**PROOF, "unknown": 1})
