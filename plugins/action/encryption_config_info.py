# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._kubeconfig import KubeconfigAction


class ActionModule(KubeconfigAction):
    """Runs module encryption_config_info with the kubeconfig that the task means."""
