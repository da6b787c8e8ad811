# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role says about a proof from etcd. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def proof_text(proof: Mapping[str, Any]) -> str:
    """Sentences for a proof in which nothing is stale; they name unknown facts with the reason."""
    unprovable, encryption_unknown = proof.get("unprovable"), proof.get("encryption_unknown")
    claim = "in an old version or encoding" if encryption_unknown else "stale"
    read = "Read from etcd" if proof.get("cross_checked") is False else "Proven from etcd"
    sentences = [f"{read}: 0 of {proof.get('objects')} objects are {claim}."]
    if unprovable:
        reasons = ", ".join(_reasons(name, why) for name, why in (proof.get("unprovable_resources") or {}).items())
        sentences.append(f"The version of {unprovable} is unknown: {reasons}.")
    if encryption_unknown:
        sentences.append(
            f"Whether {encryption_unknown} of them are encrypted as the API servers would encrypt them now is unknown; "
            "stored_versions_info says why."
        )
    if not unprovable and not encryption_unknown:
        sentences.append("Each is stored as the API servers would write it now.")
    if proof.get("cross_checked") is False:
        sentences.append("Whether other API servers are alive was not cross-checked; they may write differently.")
    return " ".join([*sentences, *(str(problem) for problem in proof.get("problems") or ())])


def _reasons(resource: str, counts: Mapping[str, int]) -> str:
    return f"{resource} ({', '.join(f'{why} {count}' for why, count in counts.items())})"
