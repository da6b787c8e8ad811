# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What upgrade_check says about etcd's space."""

from __future__ import annotations

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import Amount, Fit, Outlook
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stale import Evaluation, Expected, amount_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.space import evaluate_space


@pytest.mark.parametrize(
    ("fit", "blockers", "concerns", "unknown"),
    [(Fit.FITS, 0, 0, 0), (Fit.PACED, 0, 1, 0), (Fit.NEVER, 1, 0, 0), (Fit.UNKNOWN, 0, 0, 1)],
)
def test_what_is_told(fit: Fit, blockers: int, concerns: int, unknown: int) -> None:
    found = evaluate_space(Outlook(fit, "The figures.", "The remedy."))
    assert (len(found.blockers), len(found.warnings), len(found.unknown)) == (blockers, concerns, unknown)
    for finding in found.found:
        assert (finding.id, finding.what, finding.remediation) == ("etcd_space/etcd", "The figures.", "The remedy.")
    assert found.unknown in ([], ["The figures. The remedy."])


MIGRATOR = "kube_storage_version_migrator"


@pytest.mark.parametrize(
    ("fit", "engine", "scanned", "blocks"),
    [
        (Fit.PACED, MIGRATOR, True, True),
        # Without a scan, the migration only gives a notice.
        (Fit.PACED, MIGRATOR, False, False),
        (Fit.PACED, "direct", True, False),
        (Fit.PACED, "auto", True, False),
        (Fit.NEVER, MIGRATOR, True, True),
    ],
)
def test_a_controller_cannot_wait_for_compaction(fit: Fit, engine: str, scanned: bool, blocks: bool) -> None:
    """The migration refuses it, which must not be news after the upgrade."""
    (finding,) = evaluate_space(Outlook(fit, "The figures.", "The remedy."), engine, scanned=scanned).found
    assert finding.blocks is blocks
    cannot_wait = fit is Fit.PACED and engine == MIGRATOR
    assert (f"with engine: {MIGRATOR} the controller can't be made to wait" in finding.why) is cannot_wait
    assert finding.remediation.startswith("Use engine: direct" if cannot_wait else "The remedy.")


def test_what_is_to_be_rewritten() -> None:
    """What is stale by its size, what may be stale as the most; of a resource that the upgrade changes everything."""
    old, current, hidden = (
        Variant("shop.example.com/v1alpha1", "json"),
        Variant("shop.example.com/v1", "json"),
        Variant(None, None, "aescbc", "v1", "key1"),
    )
    widgets, gadgets = "widgets.shop.example.com", "gadgets.shop.example.com"
    stored = Stored(
        resources={
            name: {
                old: Tally("Widget", objects=1, bytes=100),
                current: Tally("Widget", objects=1, bytes=20),
                hidden: Tally(None, objects=1, bytes=3),
            }
            for name in (widgets, gadgets)
        }
    )
    expected = Expected(version="shop.example.com/v1", encoding="json")
    evaluation = Evaluation(stored, dict.fromkeys(stored.resources, expected))
    assert amount_of(evaluation, [widgets], 500) == Amount(100, 103, 500)
    assert amount_of(evaluation, [widgets, gadgets, "pods"], None, {gadgets}) == Amount(223, 226, None)
