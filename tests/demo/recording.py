#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the demo in a terminal and writes what it showed to docs/docsite/images/demo.svg, for the README; nothing if it failed."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import struct
import sys
import termios
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.demo import terminal  # noqa: E402

PICTURE = ROOT / "docs" / "docsite" / "images" / "demo.svg"
COLUMNS, ROWS = 120, 32
LONGEST_PAUSE, SECONDS = 1.5, 60.0


def main() -> int:
    status, chunks = record([sys.executable, str(ROOT / "tests" / "demo" / "run.py")])
    if status != 0:
        print("The demo failed, so the recording is left as it was.", file=sys.stderr)
        return 1
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    title = "Recording of make demo: three masters are upgraded under load, stored objects are rewritten, and the result is proven"
    told = terminal.paced(without_paths(chunks), LONGEST_PAUSE, SECONDS)
    PICTURE.write_text(terminal.svg(told, columns=COLUMNS, rows=ROWS, title=title), encoding="utf-8")
    print(f"Written to {PICTURE.relative_to(ROOT)}.")
    return 0


def record(command: list[str]) -> tuple[int, list[tuple[float, str]]]:
    """The exit status, and what the program wrote to a terminal, with the seconds since its start. Shows it, too."""
    pid, terminal_end = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), ANSIBLE_FORCE_COLOR="true")
        os.execv(command[0], command)
    fcntl.ioctl(terminal_end, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    started = time.monotonic()
    chunks: list[tuple[float, str]] = []
    while True:
        try:
            data = os.read(terminal_end, 65536)
        except OSError:  # Linux' way to say that the other end of a terminal is closed
            break
        if not data:
            break
        text = decoder.decode(data)
        chunks.append((time.monotonic() - started, text))
        print(text, end="", flush=True)
    _pid, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), chunks


def without_paths(chunks: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """The same with paths relative to the checkout: where it is on this machine is nobody's business."""
    return [(moment, text.replace(f"{ROOT}/", "").replace(str(Path.home()), "~")) for moment, text in chunks]


if __name__ == "__main__":
    sys.exit(main())
