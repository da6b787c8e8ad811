# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When an etcd is not the API servers' own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.identity import (
    Known,
    StoredValue,
    difference,
    revision_difference,
)

UID = "0d6a3c1e-7d0b-4a64-9c5e-0a4f5b1f7b11"
KNOWN = Known("kube-system", UID, "12", 400, 405)
HELD = StoredValue(b"k8s\0 ... " + UID.encode() + b" ...", 12, 402)
NOTHING = StoredValue(None, 0, 402)


@pytest.mark.parametrize("revision", [400, 402, 405])
def test_its_own(revision: int) -> None:
    assert difference(KNOWN, replace(HELD, revision=revision)) is None


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (NOTHING, "holds nothing there"),
        (replace(HELD, value=b""), "another uid"),
        (replace(HELD, value=HELD.value.replace(b"0d6a", b"0d6b") if HELD.value else None), "another uid"),
        (replace(HELD, mod_revision=11), "as of revision 11, while the API server has it as of 12"),
        (replace(HELD, revision=399), "is at revision 399, while the API server's is at 400 to 405"),
        (replace(HELD, revision=406), "a copy or a backup"),
    ],
)
def test_not_its_own(held: StoredValue, says: str) -> None:
    why = difference(KNOWN, held)
    assert why is not None and says in why and UID not in why


def test_encryption_hides_the_uid_but_not_the_revisions() -> None:
    hidden = replace(HELD, value=b"k8s:enc:aescbc:v1:key1:...")
    assert hidden.encrypted and not HELD.encrypted and not NOTHING.encrypted
    assert difference(KNOWN, hidden) is None
    assert difference(KNOWN, replace(hidden, mod_revision=13)) is not None
    assert difference(KNOWN, replace(hidden, revision=406)) is not None


def test_if_nothing_is_kept_only_the_revision_is_compared() -> None:
    assert revision_difference(KNOWN, NOTHING) is None
    why = revision_difference(replace(KNOWN, earliest=405), NOTHING)
    assert why is not None and "is at 405, so" in why
