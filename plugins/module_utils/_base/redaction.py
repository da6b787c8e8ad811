# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server's message without the object's data, and without control sequences for a terminal. Pure.

The forms of field errors are those of k8s.io/apimachinery, pkg/util/validation/field/errors.go, and of
k8s.io/kube-openapi, pkg/validation/errors. What can't be parsed is hidden to the end of the message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import clean_text

HIDDEN = "(hidden)"
_LIMIT = 300
# What follows these is the value itself, as a Go string, as JSON, or as Go prints it.
_WITH_VALUE = ("Invalid value", "Unsupported value", "Duplicate value", "Not found", "Too many", "Too few")
_WITHOUT_VALUE = ("Too long", "Too short", "Required value", "Forbidden", "Internal error")
_MARKER = re.compile(rf"(?:{'|'.join((*_WITH_VALUE, *_WITHOUT_VALUE))})(?=: |$|[\],])|must be of type [\w-]+(?=: )")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|NaN|[+-]Inf|<nil>|<value omitted>")
# A CRD's own rules name the type instead of the value, and their messages may be computed from the object.
_TYPES = ("object", "array", "string", "integer", "number", "boolean")
_SCHEMA_MESSAGE = re.compile(r": (?:<nil>|[\w.\[\]-]+ in body|Invalid value)")
_SUPPORTED = re.compile(r': supported values: "')
# A key of a map in a field's path, such as data[key]; the index of a list has digits only.
_MAP_KEY = re.compile(r"(?<=[\w\])])\[(?!\d+\](?:[.\[:]|$))")
_INDEX = re.compile(r"(?<=[\w\])])\[\d")
_BALANCED = re.compile(r"\[[^\[\]]*\]")
# Admission messages are written by whoever runs the webhook or policy, and conversion webhooks have their own errors.
_ADMISSION = re.compile(r"(denied (?:the )?request): .+", re.DOTALL)
_CONVERSION = re.compile(r'(conversion webhook for .+? failed): (?!Post ").+', re.DOTALL)
# Decoders quote what they could not read (encoding/json, strconv, time, net/url, yaml), and clients what a webhook's server said.
_QUOTES = (
    (re.compile(r'\b(pars(?:e|ing) (?:time )?)"(?:[^"\\]|\\.)*".*', re.DOTALL), rf"\1{HIDDEN}"),
    (re.compile(r'\b(time: (?:invalid|unknown|missing) [a-z ]*)".*', re.DOTALL), rf"\1{HIDDEN}"),
    (re.compile(r"(cannot unmarshal [\w!]+) .*(?= into )", re.DOTALL), rf"\1 {HIDDEN}"),
    (re.compile(r"(must be of type [\w-]+, because): .+", re.DOTALL), rf"\1: {HIDDEN}"),
    (re.compile(r"(an error on the server) \(.*\)", re.DOTALL), rf"\1 {HIDDEN}"),
)
# A field error's detail, the next field error, or the end of a list of them.
_AFTER_VALUE = re.compile(r": |, |[\]}]|$")
# Shorter values are replaced elsewhere in a message only if they are separate words.
_SHORT = 4


def redact(message: str) -> str:
    """The message in one line, of bounded length, with ``(hidden)`` for what may be the object's data."""
    first, *more = message.strip().split("\n")
    text = _ADMISSION.sub(r"\1 (its message is hidden)", first)
    text = _CONVERSION.sub(rf"\1: {HIDDEN}", text)
    for pattern, replacement in _QUOTES:
        text = pattern.sub(replacement, text)
    told = printable("".join(_without_values(text, is_cut=bool(more))))
    return told + ("…" if more and not told.endswith("…") else "")


def printable(text: str) -> str:
    """Any text in one line, of bounded length, without control sequences and characters that can't be seen."""
    line = " ".join(clean_text(text).split())
    return line if len(line) <= _LIMIT else line[: _LIMIT - 1] + "…"


def _without_values(text: str, *, is_cut: bool) -> Iterator[str]:
    """The parts of a message: before, between and after its field errors. ``is_cut``: the message continues on another line."""
    values: list[str] = []
    at, before = 0, ""
    while (marker := _MARKER.search(text, at)) is not None:
        between = _between(text[at : marker.start()], before, values, is_last=False)
        yield between
        if between.endswith(f"[{HIDDEN}"):  # the marker itself is part of a key
            return
        before, at = marker[0], marker.end()
        yield before
        if text[at : at + 2] != ": ":
            continue
        end = _end_of_value(text, at + 2)
        if end is not None:
            values += _strings(text[at + 2 : end])
            yield f": {HIDDEN}"
            named_type = text[at + 3 : end - 1] in _TYPES and not before.startswith("must")
            at = end
            if named_type and text[at:] and not _SCHEMA_MESSAGE.match(text, at):
                yield f": {HIDDEN}"
                return
        elif before in _WITH_VALUE or before.startswith("must be of type"):
            yield f": {HIDDEN}"
            return
    yield _between(text[at:], before, values, is_last=not is_cut)


def _between(text: str, marker: str, values: list[str], *, is_last: bool) -> str:
    """The text before, between or after field errors; ``marker`` is the one before it, or "" if there is none."""
    if not marker and is_last:
        return text
    if not is_last or marker:
        text = _without_map_keys(text, is_last=is_last)
    if marker and not (marker == "Unsupported value" and _SUPPORTED.match(text)):
        text = _STRING.sub(HIDDEN, text)
    for value in sorted(values, key=len, reverse=True):
        pattern = re.escape(value)
        text = re.sub(pattern if len(value) >= _SHORT else rf"(?<!\w){pattern}(?!\w)", lambda _found: HIDDEN, text)
    return text


def _without_map_keys(text: str, *, is_last: bool) -> str:
    """Keys may contain anything, even brackets, so everything from the first bracket to the last is hidden."""
    opens, closes = _MAP_KEY.search(text), text.rfind("]")
    if opens is not None:
        tail = text[closes:] if closes >= opens.end() else ""
        return f"{text[: opens.end()]}{HIDDEN}{tail}"
    # A bracket that nothing opened is the end of a list of errors, or that of a key with brackets or a marker in it.
    unopened = _BALANCED.sub("", text[:-1] if is_last else text)
    if "]" not in unopened:
        return text
    index = _INDEX.search(text)
    return f"{text[: index.end() - 1] if index else ''}{HIDDEN}{text[closes:]}"


def _end_of_value(text: str, at: int) -> int | None:
    """The end of the value that begins here; None if no value begins here, or if its end can't be found."""
    found = _STRING.match(text, at) or _PLAIN.match(text, at)
    if found is not None:
        end = found.end()
    elif text[at : at + 1] in ("{", "["):
        try:
            _value, end = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
    else:
        return None
    return end if _AFTER_VALUE.match(text, end) else None


def _strings(value: str) -> list[str]:
    """Each text in a value, as it would appear elsewhere."""
    try:
        decoded = json.loads(value)
    except (ValueError, RecursionError):
        decoded = value.strip('"')
    found: list[str] = []
    waiting: list[Any] = [decoded]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            found += [part, value[1:-1]] if part is decoded else [part]
        elif isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            waiting += part
    return [text for text in dict.fromkeys(found) if text.strip() and text not in _TYPES]
