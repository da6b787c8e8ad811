# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""EncryptionConfigurations as YAML, read and written so that an API server's parser and ours always agree.

API servers parse with sigs.k8s.io/yaml (YAML 1.1 by goyaml, without dates and base-60 numbers), so anything that the two
could understand differently is refused when read and quoted when written.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_PLAIN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
_WORDS_WITH_A_MEANING = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_PLAIN_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)")


class AmbiguousYamlError(yaml.YAMLError):
    """A mapping with a key twice, or a number that parsers read differently."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names = [key.value for key, _value in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if len(set(names)) != len(names):
            raise AmbiguousYamlError
        return super().construct_mapping(node, deep=deep)


def _number(loader: _Loader, node: Any) -> int:
    if not _PLAIN_NUMBER.fullmatch(node.value):
        raise AmbiguousYamlError
    return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _number)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, value: str) -> Any:
    plain = _PLAIN_TEXT.fullmatch(value) and value.lower() not in _WORDS_WITH_A_MEANING
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def load(content: bytes) -> Any:
    """The content of a file; raises yaml.YAMLError or ValueError, whose messages may quote a key."""
    return yaml.load(content, Loader=_Loader)  # noqa: S506 (a SafeLoader)


def dump(document: Any) -> str:
    """As YAML without aliases, with every text quoted that isn't a plain word. Raises ValueError if it can't be read back."""
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False)
    if load(text.encode()) != document:
        raise ValueError("the configuration can't be written as YAML")
    return text
