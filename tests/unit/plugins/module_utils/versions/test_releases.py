# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the data of releases says."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import minor_of
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import RELEASES


def test_releases() -> None:
    assert [minor_of(text) for text in ("v1.37.2", "1.37", "1.38.0-rc.1")] == ["1.37", "1.37", "1.38"]
    assert RELEASES.safe_up_to("autoscaling/v2beta2", "HorizontalPodAutoscaler") == "1.35"
    assert RELEASES.safe_up_to("autoscaling/v9", "HorizontalPodAutoscaler") is None
    assert RELEASES.first_that_cannot("autoscaling/v2beta2", "HorizontalPodAutoscaler", "1.34", "1.37") == "1.36"
    assert RELEASES.first_that_cannot("autoscaling/v2beta2", "HorizontalPodAutoscaler", "1.34", "1.35") is None
    # 1.35 is on the way, though the target itself can read it.
    assert RELEASES.first_that_cannot("new.k8s.io/v1beta1", "Thing", "1.34", "1.37") == "1.35"
    assert RELEASES.between("1.37", "1.37") == ("1.37",)
    assert RELEASES.between("1.37", "1.39") == ("1.37",)
    assert RELEASES.between("1.37", "1.35") == ("1.35",)
    assert [RELEASES.storage_version("things.new.k8s.io", minor) for minor in ("1.33", "1.34", "1.35", "1.37")] == [
        None,
        "new.k8s.io/v1beta1",
        None,
        "new.k8s.io/v1",
    ]
    assert RELEASES.storage_version("things.new.k8s.io", "1.36", emulated=True) == "new.k8s.io/v1beta1"
