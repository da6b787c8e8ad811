# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage versions before and after, one line per resource, as Ansible's diff mode shows them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    decode_hash,
)

UNKNOWN = "not on record"


def versions_text(hashes: Sequence[str], resource: ServedResource, other_groups: tuple[str, ...]) -> str | None:
    """Storage versions for hashes on record, such as ``apps/v1beta1, apps/v1``; None if there is none."""
    decoded = [
        decode_hash(hashed, resource.group, resource.kind, resource.versions, other_groups) or hashed
        for hashed in hashes
    ]
    return ", ".join(decoded) or None


def versions_on_record(
    resources: Mapping[str, ServedResource],
    persisted: Mapping[str, Sequence[str]] | None,
    other_groups: tuple[str, ...],
) -> dict[str, str | None]:
    """By resource, the versions in which its objects are stored according to the record."""
    return {
        name: versions_text((persisted or {}).get(name, ()), resource, other_groups)
        for name, resource in resources.items()
    }


def diff_of(
    before_header: str, after_header: str, rows: Iterable[tuple[str, str | None, str | None]]
) -> dict[str, str]:
    """Ansible's diff of (name, before, after), without rows that are equal."""
    differing = [(name, before or UNKNOWN, after or UNKNOWN) for name, before, after in sorted(rows) if before != after]
    return {
        "before_header": before_header,
        "after_header": after_header,
        "before": "".join(f"{name}: {before}\n" for name, before, _after in differing),
        "after": "".join(f"{name}: {after}\n" for name, _before, after in differing),
    }
