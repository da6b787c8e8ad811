# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The adapter that serves a cluster's connections."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Client, TransportSettings


def open_client(settings: TransportSettings) -> Client:
    """The adapter for these settings."""
    if settings.proxy:
        from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.urllib3_client import Urllib3Client

        return Urllib3Client(settings)
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.sockets import SocketClient

    return SocketClient(settings)
