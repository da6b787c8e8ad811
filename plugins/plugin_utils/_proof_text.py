# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role says about a proof from etcd. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import some_of


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
    if proof.get("unknown"):
        sentences.append(_unknown_keys(int(proof["unknown"]), proof.get("unknown_prefixes") or ()))
    if proof.get("cross_checked") is False:
        sentences.append("Whether other API servers are alive was not cross-checked; they may write differently.")
    return " ".join([*sentences, *(str(problem) for problem in proof.get("problems") or ())])


def _unknown_keys(number: int, prefixes: Sequence[str]) -> str:
    keys = "1 more key belongs" if number == 1 else f"{number} more keys belong"
    under = f" (under {some_of(prefixes)})" if prefixes else ""
    return (
        f"{keys} to no resource that the API servers serve{under}, so what is stored there is not proven. Serve the resource again and "
        "migrate it, or delete what remains of it."
    )


def _reasons(resource: str, counts: Mapping[str, int]) -> str:
    return f"{resource} ({', '.join(f'{why} {count}' for why, count in counts.items())})"
