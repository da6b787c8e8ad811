# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.storage_size import parse_sizes


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        (
            "# TYPE apiserver_storage_size_bytes gauge\n"
            'apiserver_storage_size_bytes{storage_cluster_id="etcd-0"} 2.5411584e+07\n'
            'apiserver_storage_size_bytes{storage_cluster_id="etcd-1"} 40960\n',
            {"etcd-0": 25411584, "etcd-1": 40960},
        ),
        # Until 1.27.
        (
            'apiserver_storage_db_total_size_in_bytes{endpoint="https://10.0.0.1:2379"} 1e+06\n',
            {"https://10.0.0.1:2379": 1000000},
        ),
        ('apiserver_storage_size_bytes{storage_cluster_id="etcd-0"} NaN\n', {}),
        ('apiserver_storage_size_bytes{storage_cluster_id="etcd-0"} -1\n', {}),
        ('apiserver_storage_list_total{resource="pods"} 5\n', {}),
    ],
)
def test_sizes_in_the_metrics(text: str, sizes: dict[str, int]) -> None:
    assert parse_sizes(text) == sizes
