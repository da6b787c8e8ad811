# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: encryption_key_rotation
short_description: Work out every step of an encryption key rotation for every master
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - From the EncryptionConfigurations of all masters, works out what each one's file is with the new key readable, with the
    new key writing, and with the new key only. A master that is further already is left as it is.
  - The role's entry point C(rotate_encryption_key) uses it. The result holds secrets, so take it with C(no_log=true).
options:
  _input:
    description: By master, the content of its EncryptionConfiguration in base64, as M(ansible.builtin.slurp) returns it.
    type: dict
    required: true
  key:
    description: Name of the new key.
    type: str
    required: true
  resources:
    description: The entries that write any of these resources are the ones that change.
    type: list
    elements: str
    required: true
  served:
    description: Names of all resources that the API servers store.
    type: list
    elements: str
    required: true
  provider:
    description: V(aescbc), V(aesgcm) or V(secretbox). By default the one that writes now, and V(secretbox) where none does.
    type: str
  secret:
    description: The new key in base64. By default the one that some master has under that name already, else a new random one.
    type: str
"""

EXAMPLES = r"""
- name: Work out every step
  ansible.builtin.set_fact:
    plan: "{{ files | kube_storage.upgrade.encryption_key_rotation(key='key2', resources=['secrets'], served=hashes.resources | list) }}"
  no_log: true
"""

RETURN = r"""
_value:
  description:
    - V(problem) is a sentence where there can be no rotation, else null, and then the rest is there.
    - V(key), V(provider), V(resources) (all that is to be rewritten), V(all_known) (whether nothing else can be under these
      entries), V(old) (provider and name of each key that goes), and V(masters) with V(done) (how many of the three steps are
      done) and V(texts) (the file at each step, with secrets) for each master.
  type: dict
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption_rotation import (
    RotationProblem,
    Wish,
    plan_rotation,
)


def encryption_key_rotation(
    files: Mapping[str, str],
    key: str,
    resources: Sequence[str],
    served: Sequence[str],
    provider: str | None = None,
    secret: str | None = None,
) -> dict[str, Any]:
    # A problem is returned, as an error of a task with no_log could not be read.
    try:
        wish = Wish(str(key), tuple(resources), provider or None, secret or None)
        found = plan_rotation({name: _parse(name, text) for name, text in files.items()}, wish, served)
    except RotationProblem as problem:
        return {"problem": str(problem)}
    return {
        "problem": None,
        "key": wish.key,
        "provider": found.provider,
        "resources": list(found.resources),
        "all_known": found.all_known,
        "old": [list(one) for one in found.old],
        "masters": {
            name: {
                "done": steps.done,
                "texts": [yaml.safe_dump(one, sort_keys=False) for one in steps.documents],
            }
            for name, steps in found.masters.items()
        },
    }


def _parse(master: str, text: str) -> Any:
    try:
        return yaml.safe_load(base64.b64decode(text))
    except (yaml.YAMLError, ValueError, TypeError):
        # Without the cause: a parser's message may quote a key.
        raise RotationProblem(f"The encryption configuration of {master} can't be parsed.") from None


class FilterModule:
    """Filters of the role's entry point rotate_encryption_key."""

    def filters(self) -> dict[str, Any]:
        return {"encryption_key_rotation": encryption_key_rotation}
