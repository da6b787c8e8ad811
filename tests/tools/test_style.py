# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools import style

# Split, so that this file passes its own check.
COME, THROUGH, TOLD = "did not come", "through", "be told"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"one\nmaster-1 {COME} {THROUGH}.", 2),
        (f"It CAN'T {TOLD} which.", 1),
        (f'raise Error(\n    "It can\'t "\n    f"{TOLD} which {{name}} is."\n)', 2),
        (f"# The master {COME}\n# {THROUGH} its upgrade.", 1),
        (f"msg: >-\n  The master {COME}\n  {THROUGH} its upgrade.", 2),
    ],
)
def test_a_banned_turn_is_found_at_its_line(text: str, line: int) -> None:
    assert [number for number, _found in style.findings(text)] == [line]


@pytest.mark.parametrize("text", ["There is no cluster here.", "amended", "It is known which.", "come\n\nthrough"])
def test_plain_english_passes(text: str) -> None:
    assert not list(style.findings(text))


def test_the_check_fails_on_a_planted_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = tmp_path / "planted.yml"
    planted.write_text(f"- name: Report that it {COME} {THROUGH}\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["style.py", str(planted)])
    assert style.main() == 1
    assert f"planted.yml:1: 'come {THROUGH}' → succeed" in capsys.readouterr().out


def test_every_turn_says_what_to_write_instead() -> None:
    assert style.instead_of(f"came\n  {THROUGH}") == style.BANNED[r"(come|comes|came|coming) through"]


@pytest.mark.parametrize(
    "code",
    [
        "for one in servers:\n    pass",
        "found = [\n    one.name for one in servers]",
        "names = {key for key, each in found.items()}",
        "async def f():\n    async for one in servers:\n        pass",
    ],
)
def test_a_loop_variable_that_says_nothing_is_found(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(code, encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["style.py", str(planted)])
    assert style.main() == 1
    line = 1 + code[: code.index("for ")].count("\n")
    assert f"planted.py:{line}: 'for " in capsys.readouterr().out


@pytest.mark.parametrize(
    "code", ["for server in one:\n    each = server", "# for one in a comment", "one, other = 1, 2"]
)
def test_other_names_pass(code: str) -> None:
    assert not list(style.vague_loop_variables(code))
