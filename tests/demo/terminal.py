# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a program wrote to a terminal, as an animated SVG without a script.

The picture moves where SVG animations run, and shows the end of the recording everywhere else: each row is drawn as it was in the end,
and animations only hide it before its time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

ROW_HEIGHT, FONT_SIZE, COLUMN_WIDTH, MARGIN = 19, 14, 8.43, 14
BACKGROUND, FOREGROUND = "#16181d", "#d7dae0"
# Eight colors and their bright variants, each at a contrast of 4.5 or more on the background.
COLORS = ["#8b909c", "#ff7b85", "#8fd18a", "#e5c07b", "#7cb7ff", "#d7a1ec", "#6cc7d1", "#d7dae0"]
_PARTS = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b[=>]|\x1b\][^\x07]*\x07|([\r\n\b\x07])|([^\x1b\r\n\b\x07]+)")

_LICENSE = (
    "Copyright (c) 2026, kube_storage.upgrade contributors\n"
    "GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)\n"
    # In two parts, as this file has one license only, too.
    "SPDX-"
    "License-Identifier: GPL-3.0-or-later"
)

Cell = tuple[str, str]  # a character and its color


@dataclass
class Screen:
    """A terminal with endless scrollback: what all the rows hold, and which ones changed since they were last taken."""

    columns: int
    rows: list[list[Cell]] = field(default_factory=lambda: [[]])
    changed: set[int] = field(default_factory=set)
    _row: int = 0
    _column: int = 0
    _color: str = FOREGROUND

    def write(self, text: str) -> None:
        for numbers, command, control, plain in _PARTS.findall(text):
            if plain:
                for character in plain:
                    self._put(character)
            elif control == "\n":
                self._go(self._row + 1, self._column)
            elif control == "\r":
                self._column = 0
            elif control == "\b":
                self._column = max(0, self._column - 1)
            elif command:
                self._command(command, [int(number) for number in numbers.split(";") if number.isdigit()])

    def _put(self, character: str) -> None:
        if self._column >= self.columns:
            self._go(self._row + 1, 0)
        row = self.rows[self._row]
        row.extend([(" ", FOREGROUND)] * (self._column + 1 - len(row)))
        row[self._column] = (character, self._color)
        self.changed.add(self._row)
        self._column += 1

    def _go(self, row: int, column: int) -> None:
        while row >= len(self.rows):
            self.rows.append([])
        self._row, self._column = max(0, row), column

    def _command(self, command: str, numbers: Sequence[int]) -> None:
        count = numbers[0] if numbers else 1
        if command == "m":
            self._paint(numbers or [0])
        elif command == "K":
            row = self.rows[self._row]
            del row[0 if numbers[:1] == [2] else self._column :]
            self.changed.add(self._row)
        elif command == "A":
            self._go(self._row - count, self._column)
        elif command == "B":
            self._go(self._row + count, self._column)
        elif command == "C":
            self._column += count
        elif command == "D":
            self._column = max(0, self._column - count)
        elif command == "G":
            self._column = count - 1

    def _paint(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if number in (0, 39):
                self._color = FOREGROUND
            elif 30 <= number <= 37 or 90 <= number <= 97:
                self._color = COLORS[number % 10]


@dataclass(frozen=True)
class RowVersion:
    """What one row showed from a moment on; ``end`` is None if it still does at the end of the recording."""

    row: int
    cells: tuple[Cell, ...]
    start: float
    end: float | None


def paced(chunks: Iterable[tuple[float, str]], longest_pause: float, seconds: float) -> list[tuple[float, str]]:
    """The same with long pauses cut short, and then sped up to last at most this long."""
    found: list[tuple[float, str]] = []
    now = previous = 0.0
    for moment, text in chunks:
        now += min(moment - previous, longest_pause)
        previous = moment
        found.append((now, text))
    factor = min(1.0, seconds / now) if now else 1.0
    return [(moment * factor, text) for moment, text in found]


def play(chunks: Iterable[tuple[float, str]], columns: int) -> tuple[list[RowVersion], list[tuple[float, int]]]:
    """What each row showed when, and how many rows there were from which moment on."""
    screen = Screen(columns)
    open_rows: dict[int, tuple[tuple[Cell, ...], float]] = {}
    closed: list[RowVersion] = []
    heights = [(0.0, 1)]
    for moment, text in chunks:
        screen.write(text)
        for row in screen.changed:
            cells = tuple(screen.rows[row])
            before = open_rows.get(row)
            if before is not None and before[0] == cells:
                continue
            if before is not None and before[0] and moment - before[1] >= 0.05:
                closed.append(RowVersion(row, before[0], before[1], moment))
            open_rows[row] = (cells, moment)
        screen.changed.clear()
        if len(screen.rows) != heights[-1][1]:
            heights.append((moment, len(screen.rows)))
    kept = [RowVersion(row, cells, start, None) for row, (cells, start) in open_rows.items() if cells]
    return closed + kept, heights


def svg(chunks: Sequence[tuple[float, str]], *, columns: int, rows: int, title: str) -> str:
    """The picture: a window of this size, which scrolls as a terminal does."""
    versions, heights = play(chunks, columns)
    total = max((moment for moment, _text in chunks), default=0.0) + 1
    width = columns * COLUMN_WIDTH + 2 * MARGIN
    height = rows * ROW_HEIGHT + 2 * MARGIN
    drawn = [_row_text(version) for version in sorted(versions, key=lambda version: (version.row, version.start))]
    offsets = [(moment, max(0, count - rows) * ROW_HEIGHT) for moment, count in heights]
    moves = [
        (moment, offset)
        for number, (moment, offset) in enumerate(offsets)
        if not number or offset != offsets[number - 1][1]
    ]
    values = ";".join(f"0 {-offset}" for _moment, offset in moves)
    times = ";".join(f"{moment / total:.5f}" for moment, _offset in moves)
    scroll = (
        f'<animateTransform attributeName="transform" type="translate" calcMode="discrete" values="{values}" '
        f'keyTimes="{times}" dur="{total:.2f}s"/>'
    )
    return (
        f"<!--\n{_LICENSE}\n-->\n"
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img" aria-label="{escape(title)}">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>text{{font:{FONT_SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}}</style>\n"
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>\n'
        f'<svg x="{MARGIN}" y="{MARGIN}" width="{width - 2 * MARGIN:.0f}" height="{rows * ROW_HEIGHT}">\n'
        f'<g transform="translate(0 {-moves[-1][1]})">{scroll}\n' + "\n".join(drawn) + "\n</g>\n</svg>\n</svg>\n"
    )


def _row_text(version: RowVersion) -> str:
    y = version.row * ROW_HEIGHT + FONT_SIZE
    if version.end is None:
        state = f'<set attributeName="visibility" to="hidden" begin="0s" dur="{version.start:.2f}s"/>' if version.start else ""  # fmt: skip
        opening = "<g>"
    else:
        state = f'<set attributeName="visibility" to="visible" begin="{version.start:.2f}s" dur="{version.end - version.start:.2f}s"/>'
        opening = '<g visibility="hidden">'
    texts = []
    for column, text, color in _runs(version.cells):
        fill = color if color != FOREGROUND else FOREGROUND
        length = len(text) * COLUMN_WIDTH
        texts.append(
            f'<text x="{column * COLUMN_WIDTH:.1f}" y="{y}" fill="{fill}" textLength="{length:.1f}">{escape(text)}</text>'
        )
    return f"{opening}{state}{''.join(texts)}</g>"


def _runs(cells: Sequence[Cell]) -> Iterable[tuple[int, str, str]]:
    """Neighbors of one color, without spaces at either end: column, text, color."""
    start = 0
    while start < len(cells):
        end = start
        while end < len(cells) and cells[end][1] == cells[start][1]:
            end += 1
        text = "".join(character for character, _color in cells[start:end])
        if text.strip():
            yield start + len(text) - len(text.lstrip()), text.strip(), cells[start][1]
        start = end
