# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: encryption_key_rotation
short_description: Plan every step of an encryption key rotation for every master
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - From the EncryptionConfigurations of all masters, computes each master's file for three stages. First the new key is readable, then it
    writes, then it is the only one. A master that is already further along is left unchanged.
  - Only the providers of the rotated entries change, even if other entries share them through a YAML anchor.
  - The role's entry point C(rotate_encryption_key) uses it. The result contains secrets, so use C(no_log=true).
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
    description: The entries that write any of these resources change.
    type: list
    elements: str
    required: true
  served:
    description: Names of all resources that the API servers store.
    type: list
    elements: str
    required: true
  provider:
    description:
      - V(aescbc), V(aesgcm) or V(secretbox). By default the one that writes now, or V(secretbox) if none does.
      - It is required if a KMS plugin writes, as the new key is then a secret in a file.
    type: str
  secret:
    description: The new key in base64. By default the one that a master already has under that name, otherwise a new random one.
    type: str
  run:
    description: Something unique to this run. It is returned with the plan, so that another run's plan can't be mistaken for this one's.
    type: str
    default: ""
  several_etcds:
    description: Whether some resources are in another etcd, so that revisions can't be compared. It is returned with the plan.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Plan every step
  ansible.builtin.set_fact:
    plan: "{{ files | kube_storage.upgrade.encryption_key_rotation(key='key2', resources=['secrets'], served=hashes.resources | list) }}"
  no_log: true
"""

RETURN = r"""
_value:
  description:
    - V(problem) says in a sentence why there can be no rotation. It is null if there can be one, and only then the other keys exist.
    - V(id) and V(run), V(key), V(provider), V(resources) (what will be under the new key), V(affected) (these, and resources that only read with
      the keys of these entries, because another entry that names them writes), V(all_known) (whether these entries cover no other
      resources), V(old) (provider and name of each key to drop), V(patterns) (everything that the files name), V(lost) (for each pattern of these
      entries the keys with which its resources can't be read anymore at the end), V(kept) (other keys than the new one with which V(resources) can
      still be read then, because other entries name them, too), V(keys) (all keys, as for the option C(encryption_keys) of the modules),
      V(order) (the masters, those that are behind first).
    - V(masters) has for each master V(done) (how many of the three steps are done), V(reads) (the keys with which the current file can read), and
      V(steps). Each step has V(content) (the whole file in base64, with secrets), its V(sha256), and V(replaces), the SHA-256 of
      the file that it was made from.
  type: dict
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.rotation_keys import (
    RotationProblem,
    Wish,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.rotation_plan import (
    Steps,
    plan_rotation,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._encryption_yaml import dump, load


def encryption_key_rotation(
    files: Mapping[str, str],
    key: str,
    resources: Sequence[str],
    served: Sequence[str],
    provider: str | None = None,
    secret: str | None = None,
    run: str = "",
    several_etcds: bool = False,
) -> dict[str, Any]:
    # Return a problem instead of raising it: nobody could read the error of a task with no_log.
    try:
        wish = Wish(str(key), tuple(resources), provider or None, secret or None)
        present = {name: _content(name, text) for name, text in files.items()}
        found = plan_rotation({name: _parse(name, content) for name, content in present.items()}, wish, served)
        masters = {name: _master(name, steps, present[name]) for name, steps in found.masters.items()}
    except RotationProblem as problem:
        return {"problem": str(problem), "run": run}
    made_from = "".join(f"{name}={_sha256(content)}\n" for name, content in sorted(present.items()))
    return {
        "problem": None,
        "run": run,
        "id": _sha256(f"{run}\n{wish.key}\n{made_from}".encode()),
        "key": wish.key,
        "provider": found.provider,
        "resources": list(found.resources),
        "affected": list(found.affected),
        "all_known": found.all_known,
        "old": [list(key) for key in found.old],
        "patterns": list(found.patterns),
        "lost": {pattern: [list(key) for key in keys] for pattern, keys in found.lost.items()},
        "kept": [list(key) for key in found.kept],
        "keys": [f"{kind}:{name}" for kind, name in found.keys],
        "several_etcds": several_etcds,
        "order": sorted(masters, key=lambda name: masters[name]["done"]),
        "masters": masters,
    }


def _content(master: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, TypeError):
        raise RotationProblem(f"The encryption configuration of {master} could not be read.") from None


def _parse(master: str, content: bytes) -> Any:
    try:
        return load(content)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        # Without the cause: a parser's message may quote a key.
        raise RotationProblem(f"The encryption configuration of {master} can't be parsed.") from None


def _master(name: str, way: Steps, present: bytes) -> dict[str, Any]:
    """The file before and after each step; a step that is done leaves it unchanged, byte for byte."""
    steps, before = [], present
    for number, document in enumerate(way.documents):
        try:
            after = present if number < way.done else dump(document).encode()
        except (ValueError, yaml.YAMLError):
            raise RotationProblem(f"The encryption configuration of {name} can't be written as YAML.") from None
        steps.append(
            {
                "content": base64.b64encode(after).decode(),
                "sha256": _sha256(after),
                "replaces": _sha256(before),
            }
        )
        before = after
    return {
        "done": way.done,
        "reads": {resource: [list(key) for key in keys] for resource, keys in way.reads.items()},
        "steps": steps,
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class FilterModule:
    """Filters of the role's entry point rotate_encryption_key."""

    def filters(self) -> dict[str, Any]:
        return {"encryption_key_rotation": encryption_key_rotation}
