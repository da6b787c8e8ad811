# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which parts of a kubeconfig are secret. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

_SECRET_NAME = re.compile(r"secret|token|pass|pwd|key|cred|auth|jwt|bearer|(^|[-_])(pin|pat|pw)($|[-_])", re.IGNORECASE)
# Short flags of passwords and of user:password, as curl and others have them.
_SECRET_FLAGS = ("p", "u")
_FLAG = re.compile(r"--?([^=\s]+)(=?)")
# Fields whose value is no secret, anywhere in a kubeconfig. What isn't here counts as one.
_PUBLIC = frozenset(
    "apiVersion kind current-context name cluster user namespace server tls-server-name certificate-authority "
    "certificate-authority-data client-certificate client-certificate-data client-key tokenFile username as as-uid as-groups "
    "command installHint interactiveMode".split()
)


def public_texts(kubeconfig: Any) -> set[str]:
    """The texts that may be shown: a path as a whole, or those of a kubeconfig's content that aren't secret."""
    if isinstance(kubeconfig, str):
        return set() if "\n" in kubeconfig or "{" in kubeconfig else {kubeconfig}
    public: set[str] = set()
    secret: set[str] = set()
    for text, is_public in _texts(kubeconfig, False):
        (public if is_public else secret).add(text)
    return public - secret


def texts_named(params: Any, names: Collection[str]) -> set[str]:
    """The values of options with these names, at any depth."""
    found: set[str] = set()
    for name, value in params.items() if isinstance(params, Mapping) else ():
        found |= {str(value)} if name in names and value else set()
        found |= texts_named(value, names)
    for value in params if isinstance(params, (list, tuple)) else ():
        found |= texts_named(value, names)
    return found


def is_secret_argument(before: str, argument: str) -> bool:
    """Whether an argument of a command looks like a secret, or may contain one, as a script does; ``before``: the one before it."""
    if any(character.isspace() for character in argument):
        return True
    own, previous = _FLAG.match(argument), _FLAG.match(before)
    if own is not None:
        return bool(own[2] and _is_secret_flag(own[1]))
    return previous is not None and not previous[2] and _is_secret_flag(previous[1])


def _is_secret_flag(name: str) -> bool:
    return name in _SECRET_FLAGS or _SECRET_NAME.search(name) is not None


def _texts(value: Any, is_public: bool) -> Iterator[tuple[str, bool]]:
    """Each text, and whether its field is public."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name == "args" and isinstance(item, list):
                arguments = [str(argument) for argument in item]
                for before, argument in zip(["", *arguments], arguments):
                    yield argument, not is_secret_argument(before, argument)
            elif name == "env" and isinstance(item, list):
                for variable in filter(lambda entry: isinstance(entry, Mapping), item):
                    own = str(variable.get("name") or "")
                    yield own, True
                    yield str(variable.get("value") or ""), _SECRET_NAME.search(own) is None
            else:
                yield from _texts(item, name in _PUBLIC)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item, is_public)
    elif value is not None and not isinstance(value, bool):
        text = str(value)
        yield text, is_public and "@" not in text.partition("://")[2]
