# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No value of an object survives in a server's message."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.redaction import printable, redact
from hypothesis import example, given, settings
from hypothesis import strategies as st

SECRET = "hunter2-is-the-password"


def go_string(text: str) -> str:
    """As Go's %q prints it."""
    escaped = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\v": "\\v"}
    return (
        '"' + "".join(escaped.get(char, char if char.isprintable() else f"\\u{ord(char):04x}") for char in text) + '"'
    )


def go_json(text: str) -> str:
    """As Go's encoding/json writes it, in an object."""
    return json.dumps({"user": "me", "password": text}, separators=(",", ":"), ensure_ascii=False)


# Each form of a field error that carries a value (pkg/util/validation/field/errors.go), and those of kube-openapi.
VALUE_FORMS = [
    "data.x: Invalid value: {}: must be something else",
    "data.x: Invalid value: {}",
    'spec.a: Unsupported value: {}: supported values: "A", "B"',
    "spec.a: Duplicate value: {}",
    "spec.a[3]: Not found: {}",
    "spec.a: Too many: {}: must have at most 3 items",
    "spec.a: Too long: {}: must have at most 63 bytes",
    'spec.a: Invalid value: "integer": spec.a in body must be of type string: {}',
    "spec.a in body must be of type date-time: {}",
]
TEXT_FORMS = [
    'data[{}]: Invalid value: "a": a valid config key must consist of alphanumeric characters',
    "metadata.annotations[{}]: Required value",
    'spec: Invalid value: "object": {}',
    "a: Forbidden: updates may not change fields other than these\n  core.PodSpec{{Env: {}}}",
    "a: Invalid value: main.Thing{{Password:{}}}: is not allowed",
]
OTHER_FORMS = [
    'failed calling webhook "x": failed to call webhook: an error on the server ({}) has prevented the request from succeeding',
    "time: invalid duration {}",
    'time: unknown unit "x" in duration {}',
    "the URL of it: parse {}: invalid port",
    "error converting YAML to JSON: yaml: unmarshal errors: line 1: cannot unmarshal !!str {} into int",
    "spec.a in body must be of type date-time, because: {}",
    'admission webhook "x.example.com" denied the request: {}',
    "ValidatingAdmissionPolicy 'x' with binding 'y' denied request: {}",
    "conversion webhook for a.example.com/v1, Kind=A failed: {}",
    'parsing time {} as "2006-01-02": cannot parse',
    "strconv.ParseInt: parsing {}: invalid syntax",
    "json: cannot unmarshal string {} into Go struct field A.b of type int",
]


@pytest.mark.parametrize("encode", [go_string, go_json])
@pytest.mark.parametrize("form", VALUE_FORMS)
@settings(max_examples=40, deadline=None)
@given(before=st.text(max_size=12), after=st.text(max_size=12))
@example(before='": Invalid value: ', after='", b: Required value: ')
@example(before="{", after="}")
@example(before="\n", after="\x1b[31m")
def test_a_value_never_survives(form: str, encode: Callable[[str], str], before: str, after: str) -> None:
    value = encode(before + SECRET + after)
    message = f'Widget "a" is invalid: {form.format(value)}'
    for text in (
        message,
        f'Widget "a" is invalid: [{form.format(value)}, b: Required value, c: Invalid value: {value}: no]',
    ):
        told = redact(text)
        assert SECRET not in told, told
        assert told.startswith('Widget "a" is invalid: ')


@pytest.mark.parametrize("form", TEXT_FORMS)
@settings(max_examples=40, deadline=None)
@given(before=st.text(max_size=12), after=st.text(max_size=12))
@example(before="a]", after="[b")
@example(before="0].", after="")
@example(before="", after="\n")
@example(before="a: Required value: ", after=": Not found: ")
def test_a_map_key_or_a_text_never_survives(form: str, before: str, after: str) -> None:
    assert SECRET not in redact(f'Widget "a" is invalid: {form.format(before + SECRET + after)}')


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_what_others_say_is_left_out(form: str) -> None:
    told = redact(form.format(go_string(SECRET)))
    assert SECRET not in told and len(told) > 20


# What field errors carry besides strings and JSON: Go's own notation for maps, slices and structs, and names of types.
GO_VALUES = [
    'map[string]string{{"user":"me", "password":{0}}}',
    "map[password:{1}]",
    "core.SecretVolumeSource{{SecretName:{0}, Items:[]core.KeyToPath(nil)}}",
    "&core.Foo{{Bar:{1}}}",
    "[]string{{{0}}}",
]
GO_FORMS = [form for form in VALUE_FORMS if "Too long" not in form]  # That carries no value but a text.


@pytest.mark.parametrize("form", GO_FORMS)
@pytest.mark.parametrize("value", GO_VALUES)
@settings(max_examples=15, deadline=None)
@given(before=st.text(st.sampled_from('a1 ":,[]{}()\n\\=.'), max_size=8), after=st.text(max_size=8))
@example(before=": ", after=": no")
@example(before='", b: Required value, c: Not found: "', after="")
def test_what_go_prints_never_survives(form: str, value: str, before: str, after: str) -> None:
    text = before + SECRET + after
    told = redact(f'Widget "a" is invalid: [{form.format(value.format(go_string(text), text))}, b: Required value]')
    assert SECRET not in told, told


@settings(max_examples=300, deadline=None)
@given(
    errors=st.lists(
        st.tuples(st.sampled_from(VALUE_FORMS), st.sampled_from([go_string, go_json]), st.text(max_size=10)),
        min_size=1,
        max_size=4,
    )
)
def test_lists_of_field_errors_keep_no_value(errors: list[tuple[str, Callable[[str], str], str]]) -> None:
    texts = [form.format(encode(text + SECRET)) for form, encode, text in errors]
    assert SECRET not in redact(f'Widget "a" is invalid: [{", ".join(texts)}]')


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            'Secret "a" is invalid: data[x]: Invalid value: "hunter2": must be lower case',
            'Secret "a" is invalid: data[(hidden)]: Invalid value: (hidden): must be lower case',
        ),
        (
            'a: Invalid value: {"password":"hunter2"}: is immutable',
            "a: Invalid value: (hidden): is immutable",
        ),
        (
            'spec.ports[0].name: Duplicate value: "web", spec.x: Too long: may not be more than 63 bytes',
            "spec.ports[0].name: Duplicate value: (hidden), spec.x: Too long: may not be more than 63 bytes",
        ),
        (
            'spec.a: Unsupported value: "hunter2": supported values: "A", "B"',
            'spec.a: Unsupported value: (hidden): supported values: "A", "B"',
        ),
        (
            "a: Invalid value: 17: hunter2 must be equal to 17",
            "a: Invalid value: (hidden): hunter2 must be equal to 17",
        ),
        (
            'a: Invalid value: "hunter2": name hunter2 is taken by "other"',
            "a: Invalid value: (hidden): name (hidden) is taken by (hidden)",
        ),
        ('secrets "a" not found', 'secrets "a" not found'),
        (
            'admission webhook "x" denied the request: hunter2',
            'admission webhook "x" denied the request (its message is hidden)',
        ),
        (
            'failed calling webhook "x": Post "https://x.y.svc:443/?timeout=2s": connection refused',
            'failed calling webhook "x": Post "https://x.y.svc:443/?timeout=2s": connection refused',
        ),
    ],
)
def test_what_remains_says_what_is_wrong(message: str, told: str) -> None:
    assert redact(message) == told


@settings(deadline=None)
@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    for told in (redact(text), printable(text)):
        assert len(told) <= 301
        assert all(letter.isprintable() for letter in told), told


def test_terminal_sequences_are_removed() -> None:
    assert printable("a\x1b[31mred\x1b[0m\x1b]0;title\x07b\x9b2Jc\u202ed\rnext") == "aredbcd next"
    assert len(printable("a" * 1000)) == 300
