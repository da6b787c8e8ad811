# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes foreign text safe to print: used wherever text leaves a module or reaches a person. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

# Control sequences of terminals (ECMA-48): of an operating system command, of one character, of several.
_ESCAPES = re.compile(r"\x1b(?:\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_]|\[[0-?]*[ -/]*[@-~])|\x9b[0-?]*[ -/]*[@-~]")
# RFC 3986, section 3.2.1; up to the last "@", as people forget to quote that, "/", "?" and "#" in passwords. What looks
# like a port is not part of it.
_URL_PASSWORD = re.compile(r"(://[^\s/?#:@\[]*):(?!\d+(?:[^\w@.:~!$&*+=%-]|$))(?:(?!://)\S)*@")
# Options that hold URLs. Even where one is malformed, everything before the "@" may be credentials.
_URL_OPTIONS = ("proxy", "host", "servers", "endpoints")
_CREDENTIALS = re.compile(r"^((?:\w+://)?).*@", re.DOTALL)
_ONE_LINE = str.maketrans("\n\t", "  ")


def clean_text(text: str) -> str:
    """Without control sequences, invisible characters and passwords in URLs. Line ends and tabs stay."""
    if not text.isprintable():
        text = "".join(_visible(letter) for letter in _ESCAPES.sub("", text))
    return _URL_PASSWORD.sub(r"\1:***@", text)


def clean_line(text: str) -> str:
    """As clean_text, in one line."""
    return clean_text(text).translate(_ONE_LINE)


def _visible(letter: str) -> str:
    if letter in "\n\t":
        return letter
    category = unicodedata.category(letter)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    return "" if category in ("Cf", "Cs", "Co", "Cn") else letter


def cleaned(value: Any) -> Any:
    """Plain data with every text cleaned, including the keys of mappings."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {cleaned(key): cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(item) for item in value]
    return value


def without_credentials(params: Any, *, is_url: bool = False) -> Any:
    """A module's parameters, with nothing in front of the host in those that hold URLs."""
    if isinstance(params, Mapping):
        return {name: without_credentials(value, is_url=name in _URL_OPTIONS) for name, value in params.items()}
    if isinstance(params, (list, tuple)):
        return [without_credentials(value, is_url=is_url) for value in params]
    return _CREDENTIALS.sub(r"\1***@", params) if is_url and isinstance(params, str) else params
