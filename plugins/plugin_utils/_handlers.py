# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a play may have handlers, so that a master that needs no upgrade may still have one to run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def may_have_handlers(play: Any, own: str) -> bool:
    """True also if that is unknown, because the play includes something else than the role ``own`` dynamically."""
    others = [role for role in _roles(play.roles) if role.get_name() != own]
    if play.handlers or any(role._handler_blocks for role in others):
        return True
    blocks = [*play.pre_tasks, *play.tasks, *play.post_tasks]
    blocks += [block for role in others for block in role.get_task_blocks()]
    return any(_is_opaque(task, own) for task in _tasks(blocks, own))


def _roles(roles: Iterable[Any]) -> Iterator[Any]:
    """With their dependencies."""
    for role in roles:
        yield role
        yield from _roles(role.get_direct_dependencies())


def _tasks(nodes: Iterable[Any], own: str) -> Iterator[Any]:
    """All tasks in these blocks, except those of the role itself."""
    for node in nodes:
        role = getattr(node, "_role", None)
        if role is not None and role.get_name() == own:
            continue
        parts = [getattr(node, name, None) for name in ("block", "rescue", "always")]
        if any(part is not None for part in parts):
            yield from _tasks((task for part in parts for task in part or ()), own)
        else:
            yield node


def _is_opaque(task: Any, own: str) -> bool:
    name = str(getattr(task, "action", "")).rsplit(".", 1)[-1]
    if name == "include_role":
        return str(getattr(task, "_role_name", "")).rsplit(".", 1)[-1] != own.rsplit(".", 1)[-1]
    return name == "include_tasks"
