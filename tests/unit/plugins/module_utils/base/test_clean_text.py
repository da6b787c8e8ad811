# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import (
    clean_line,
    clean_text,
    cleaned,
    without_credentials,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.event_file import PATH_VARIABLE, open_report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.run_module import _as_asked
from hypothesis import given
from hypothesis import strategies as st

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("all is well\n\tand stays", "all is well\n\tand stays"),
        ("\x1b[2J\x1b]0;title\x07gone", "gone"),
        ("hidden\rshown", "hidden shown"),
        ("\x9b31mred", "red"),
        ("\x1b[3", " [3"),
        ("\u202egpj.exe", "gpj.exe"),
        ("a\udcff\u200bb", "ab"),
        ("Änderung – \u201eok\u201c 日本", "Änderung – \u201eok\u201c 日本"),
        ("via http://me:s3cret@proxy:3128/x", "via http://me:***@proxy:3128/x"),
        ("http://me:p@ss@proxy", "http://me:***@proxy"),
        ("http://:s3cret@proxy and https://a:b@c", "http://:***@proxy and https://a:***@c"),
        ("https://10.0.0.1:6443 by me@example.com", "https://10.0.0.1:6443 by me@example.com"),
        ("http://me:p/a?s#s@proxy:3128", "http://me:***@proxy:3128"),
        ("http://me:1234@proxy", "http://me:***@proxy"),
        ("http://me:12/34#@proxy", "http://me:12/34#@proxy"),  # As a port and a path would look.
        ('["http://a:s/3@b:1","https://c:d@e"]', '["http://a:***@b:1","https://c:***@e"]'),
        (
            "https://10.0.0.1:6443/a@b, https://[fd00::1]:6443/a@b",
            "https://10.0.0.1:6443/a@b, https://[fd00::1]:6443/a@b",
        ),
        ("https://10.0.0.1:6443,me@x", "https://10.0.0.1:6443,me@x"),
    ],
)
def test_what_is_printed(text: str, clean: str) -> None:
    assert clean_text(text) == clean


def test_one_line() -> None:
    assert clean_line("a\nb\tc\x1b") == "a b c "


def test_everything_in_a_result() -> None:
    result = {
        "msg": "\x1b[1m",
        "failures": [{"name": "a\x1b"}],
        ("x\x1b"): 1,
        "seconds": 1.5,
        "none": None,
        "t": ("\x07",),
    }
    assert cleaned(result) == {
        "msg": "",
        "failures": [{"name": "a "}],
        "x ": 1,
        "seconds": 1.5,
        "none": None,
        "t": [" "],
    }


@given(
    scheme=st.sampled_from(["http://", "https://", "socks5://", "", "http:/"]),
    user=st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), max_size=8),
    tail=st.text("/?#@:[]%1", max_size=6),
)
def test_no_option_that_holds_a_url_shows_a_password(scheme: str, user: str, tail: str) -> None:
    """Issue 13, number 14: ``invocation`` at -vvv, however malformed the URL is."""
    url = f"{scheme}{user}:{SECRET}{tail}@10.0.0.1:2379"
    params = {
        "proxy": url,
        "host": url,
        "servers": [url, "https://10.0.0.2"],
        "etcd": {"endpoints": [url], "overrides": [{"endpoints": [url]}], "prefix": "a@b"},
        "resources": ["a@b"],
        "workers": 3,
    }
    shown = without_credentials(cleaned(params))
    assert SECRET not in str(shown) and "10.0.0.1:2379" in shown["proxy"]
    assert shown["servers"][1] == "https://10.0.0.2" and shown["etcd"]["prefix"] == "a@b"
    assert (shown["resources"], shown["workers"]) == (["a@b"], 3)


@given(
    user=st.text(st.characters(categories=["L", "N"]), max_size=8),
    before=st.text("/?#@:%x", max_size=4),
    after=st.text("/?#@:%x", max_size=4),
    words=st.sampled_from(["{}", "'{}' is no URL.", 'proxy "{}", then', "[{}, https://10.0.0.1:6443]", "{}\nnext"]),
)
def test_no_text_shows_a_password_in_a_url(user: str, before: str, after: str, words: str) -> None:
    text = words.format(f"http://{user}:{before}{SECRET}{after}@proxy:3128")
    assert SECRET not in clean_text(text) and SECRET not in clean_line(text)


def test_nothing_leaves_a_module_raw() -> None:
    class Module:
        _diff = False
        params: ClassVar[dict[str, Any]] = {"proxy": "http://me:s3cret@proxy:3128", "validate_certs": None}
        warned: ClassVar[list[str]] = []

        def warn(self, text: str) -> None:
            self.warned.append(text)

    result = {
        "msg": 'denied: "\x1b[2J"',
        "warnings": ["\x1b[31mred"],
        "failures": [{"message": "\x1b]0;x\x07"}],
        "diff": {},
    }
    assert _as_asked(Module(), result) == {
        "msg": 'denied: ""',
        "failures": [{"message": ""}],
        "invocation": {"module_args": {"proxy": "http://***@proxy:3128", "validate_certs": None}},
    }
    assert Module.warned == ["red"]


def test_nothing_raw_gets_into_the_file_of_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events"
    monkeypatch.setenv(PATH_VARIABLE, str(path))
    with open_report() as report:
        report(Event("notice", "said \x1b[2J", {"reasons": ["\x07"]}))
        event = json.loads(path.read_text())
    assert event == {"kind": "notice", "message": "said ", "fields": {"reasons": [" "]}}
