#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: encryption_config_file
short_description: Replace an EncryptionConfiguration, but only if nobody else has changed it
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Writes a new EncryptionConfiguration on a master, but only if the current file is, byte for byte, the one that the new one was made from. So a key
    that somebody else added meanwhile is never lost.
  - The new file is complete on disk before it replaces the old one. If writing fails, for instance because the disk is full, the old file
    stays unchanged.
  - Owner, group, SELinux context, access list and mode stay the same, except that permissions for others are removed.
  - The entry point C(rotate_encryption_key) of the role P(kube_storage.upgrade.rolling_upgrade#role) uses it.
extends_documentation_fragment:
  - kube_storage.upgrade.attributes
attributes:
  diff_mode:
    support: none
    description: A difference would show keys.
  action_group:
    support: none
options:
  path:
    description: The file, which must exist. If it is a link, its target is replaced.
    type: path
    required: true
  content:
    description: The whole new file in base64. It is never shown.
    type: str
    required: true
  replaces:
    description: SHA-256, in hexadecimal, of the file that O(content) was made from.
    type: str
    required: true
  copy_to:
    description: Where to keep a copy of the old file, with mode V(0600). By default none is kept.
    type: path
  renew_copy:
    description: Whether to replace a copy that already exists.
    type: bool
    default: false
seealso:
  - module: kube_storage.upgrade.encryption_config_info
"""

EXAMPLES = r"""
- name: Get the checksum of the current file
  ansible.builtin.stat:
    path: /etc/kubernetes/enc/config.yaml
    checksum_algorithm: sha256
  register: present

- name: Replace it
  kube_storage.upgrade.encryption_config_file:
    path: /etc/kubernetes/enc/config.yaml
    content: "{{ lookup('ansible.builtin.file', 'config.yaml') | b64encode }}"
    replaces: "{{ present.stat.checksum }}"
    copy_to: /etc/kubernetes/enc/config.yaml.before
"""

RETURN = r"""
sha256:
  description: SHA-256 of the file as it is now; in check mode that of the old file.
  returned: success
  type: str
mode:
  description: Its mode.
  returned: success
  type: str
  sample: "0640"
mtime:
  description: When it was last changed, in seconds since 1970.
  returned: success
  type: float
backup_file:
  description: Path of the copy of the old file, null if there is none.
  returned: success
  type: str
error:
  description:
    - The kind of failure, null if there was none.
    - One of V(bad_input), V(file) and V(file_changed) (the file doesn't match O(replaces)). In each case the file is unchanged.
  returned: always
  type: str
"""

import base64

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    BadInputError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.config_file import replace_file


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "required": True, "no_log": True},
            "replaces": {"type": "str", "required": True},
            "copy_to": {"type": "path"},
            "renew_copy": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = replace_file(
            module.params["path"],
            _decode(module.params["content"]),
            module.params["replaces"],
            copy_to=module.params["copy_to"],
            renew_copy=module.params["renew_copy"],
            check_mode=module.check_mode,
        )
    except StorageUpgradeError as error:
        module.fail_json(msg=error.message, error=error.name)
    module.exit_json(**result, error=None)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise BadInputError("content is not base64.") from None


if __name__ == "__main__":
    main()
