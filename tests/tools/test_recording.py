# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recording of the demo: a terminal as an SVG that is complete without its animation."""

from __future__ import annotations

import sys
import xml.etree.ElementTree
from pathlib import Path

from tests.demo import recording, terminal

SVG = "{http://www.w3.org/2000/svg}"


def shown(picture: str) -> list[str]:
    """The rows that are visible where no animation runs."""
    root = xml.etree.ElementTree.fromstring(picture)
    rows = root.findall(f".//{SVG}g/{SVG}g")
    return ["".join(text.text or "" for text in row.iter(f"{SVG}text")) for row in rows if "visibility" not in row.attrib]  # fmt: skip


def test_the_picture_shows_the_end_and_hides_what_was_redrawn() -> None:
    chunks = [
        (0.0, "start\r\n"),
        (1.0, "10 of 20"),
        (2.0, "\r\x1b[2K20 of 20"),
        (3.0, "\r\x1b[2K\x1b[32mdone <3>\x1b[0m\r\n"),
    ]
    picture = terminal.svg(chunks, columns=40, rows=2, title="A & B")
    assert shown(picture) == ["start", "done <3>"]
    assert 'fill="#8fd18a"' in picture and "A &amp; B" in picture
    assert "10 of 20" in picture and 'to="visible" begin="1.00s" dur="1.00s"' in picture
    assert "translate(0 -19)" in picture, "three rows in a window of two"


def test_a_long_line_wraps_and_a_pause_is_cut_short() -> None:
    versions, heights = terminal.play([(0.0, "abcdef")], 4)
    assert ["".join(character for character, _ in version.cells) for version in versions] == ["abcd", "ef"]
    assert heights[-1] == (0.0, 2)
    assert terminal.paced([(0.0, "a"), (60.0, "b"), (61.0, "c")], 2, 100) == [(0.0, "a"), (2.0, "b"), (3.0, "c")]
    assert terminal.paced([(1.0, "a"), (4.0, "b")], 9, 2) == [(0.5, "a"), (2.0, "b")]


def test_a_program_is_recorded_as_in_a_terminal() -> None:
    program = "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size().columns); sys.exit(3)"
    status, chunks = recording.record([sys.executable, "-c", program])
    assert status == 3
    assert "True" in "".join(text for _moment, text in chunks)
    assert recording.without_paths([(0.0, f"see {recording.ROOT}/build/x")]) == [(0.0, "see build/x")]


def test_the_recording_in_the_readme_is_of_a_run_that_succeeded() -> None:
    picture = Path(recording.PICTURE).read_text(encoding="utf-8")
    rows = " ".join(shown(picture))
    assert "What is true" in rows and "[yes]" in rows and "[NO ]" not in rows
    assert str(recording.ROOT) not in picture and "/home/" not in picture
