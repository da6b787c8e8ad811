# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a play may have handlers: what can't be seen before it runs counts as one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._handlers import may_have_handlers

OWN = "kube_storage.upgrade.rolling_upgrade"


def task(action: str = "ansible.builtin.command", **more: Any) -> Any:
    return SimpleNamespace(action=action, **more)


def block(*tasks: Any, **more: Any) -> Any:
    return SimpleNamespace(**{"block": list(tasks), "rescue": [], "always": [], **more})


def role(name: str = OWN, tasks: Any = (), handlers: Any = (), dependencies: Any = ()) -> Any:
    return SimpleNamespace(
        get_name=lambda: name,
        get_task_blocks=lambda: list(tasks),
        get_direct_dependencies=lambda: list(dependencies),
        _handler_blocks=list(handlers),
    )


def play(**more: Any) -> Any:
    return SimpleNamespace(**{"roles": [], "handlers": [], "pre_tasks": [], "tasks": [], "post_tasks": [], **more})


INCLUDES = block(task("ansible.builtin.include_tasks"))


@pytest.mark.parametrize(
    "seen",
    [
        play(),
        play(roles=[role(tasks=[INCLUDES])]),
        play(tasks=[block(task(), block(INCLUDES, _role=role()))]),
        play(tasks=[block(task("ansible.builtin.include_role", _role_name=OWN))]),
        play(roles=[role("other", tasks=[block(task())]), role()]),
    ],
)
def test_it_has_none(seen: Any) -> None:
    assert may_have_handlers(seen, OWN) is False


@pytest.mark.parametrize(
    "seen",
    [
        play(handlers=[block(task())]),
        play(roles=[role("other", handlers=[block(task())]), role()]),
        play(roles=[role("other", dependencies=[role("third", handlers=[block(task())])])]),
        play(roles=[role("other", tasks=[INCLUDES])]),
        play(pre_tasks=[INCLUDES]),
        play(post_tasks=[block(always=[task("include_tasks")])]),
        play(tasks=[block(rescue=[block(task("ansible.builtin.include_role", _role_name="other"))])]),
        play(tasks=[block(task("ansible.builtin.include_role", _role_name="{{ which }}"))]),
    ],
)
def test_it_may_have_some(seen: Any) -> None:
    assert may_have_handlers(seen, OWN) is True
