# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: failure_text
short_description: Say why a task failed, with the end of what its command said
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Turns the result of a failed task into its message. If the message only says that a command failed, the end of the command's stderr is added, or
    that of its stdout. Of a loop, the first failed item counts.
options:
  _input:
    description: The result, such as C(ansible_failed_result).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say why the step failed
  ansible.builtin.debug:
    msg: "{{ ansible_failed_result | kube_storage.upgrade.failure_text }}"
"""

RETURN = r"""
_value:
  description: The message. Its first line is the sentence that matters.
  type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _verdict


def failure_text(result: Mapping[str, Any]) -> str:
    return _verdict.failure_text(result)


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"failure_text": failure_text}
