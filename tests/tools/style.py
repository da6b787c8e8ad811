# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds turns of phrase that we don't use, in messages, comments, names of tasks and documentation, and loop variables that
don't say what they hold: ``make lint`` runs it.

Vale would read only the comments of Python files; most of what users see is in strings and in YAML.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.tools.package import own_files

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
SUFFIXES = (".py", ".yml", ".yaml", ".rst", ".md", ".j2", ".toml", ".svg", ".sh", "Makefile", "Containerfile")

# A turn, as a regular expression in which a space may be the end of a line, and what to write instead.
BANNED = {
    r"can('|no| no)t be told(?! apart)": "is unknown; or the verb: tell, match, identify",
    r"(come|comes|came|coming) through": "succeed, fail, finish, pass",
    r"mend(s|ed|ing)?": "fix, repair; remediation",
    r"(is|are|was|were) in trouble": "has been failing for",
    r"(?<!there.)is no (program|container|cluster|version|option|change)": "is not a",
    r"once more": "again",
    r"since \d+ (s|sec|seconds|min|minutes|h|hours)": "for",
    r"anew": "again; re- (restart, rewrite)",
    r"(go|goes|going|went) on where": "resume",
    r"(tell|tells|told|telling) of": "report, list, say that",
    r"all the same": "anyway, still",
    r"(come|comes|came|coming) to (its|an|the|their) end": "finish, end",
    r"whatever the play says of errors": "even with ignore_errors",
    r"(with|but) patience": "until the wait is over",
    r"(look|looks|looked) whether": "check whether",
    r"(say|says|said|saying) (nothing )?of": "say about",
    r"(see|sees|saw|seeing) to": "make sure, handle",
    r"in spite of": "despite",
    r"(is|be) had": "is available",
    r"be it": "whether",
    r"in so many words": "explicitly",
    r"shall": "must, should, will",
    r"how (one|it) stands|stands twice": "state, status; appears twice",
    r"is (its|not its|nobody's|no) affair": "is not in scope",
    r"so many (objects|requests|resources|connections|seconds|parts|cores|files|keys|times)": "this many, a number of, at most N",
    r"(objects|requests|keys|writes|patches) a second": "per second",
    r"(is|are) served no more": "is no longer served",
    r"(speak|speaks|spoke|stand|stands) against": "block, break; unless",
    r"(come|comes|came|coming) upon": "find, meet",
    r"(give|gives|given|gave|giving) back (a|the|its) lease": "release",
    r"where (there is none|none (came|answers|is given))": "if there is none, if none does",
    r"unless told otherwise": "by default, except",
    r"nobody (can|could) (say|tell)(?! apart)": "is unknown",
    r"none: (never|there is)": "None if",
    r"for which reason": "why, so",
    r"(has|have|had|is|are|was|were) in hand": "is working on",
    r"some (kilobytes|megabytes|hundred|thousand|minutes)": "a few",
    r"the way (back|there) is": "to revert, to get there",
    r"what matters of": "the essence of, the main",
    r"less what": "minus, except, without",
    r"but for(?! a (moment|while))": "except for, without",
    r"(is|are|was|were|been) cut off": "interrupted, disconnected, lost",
    r"(is|are|was|were|be) (still )?at work (here|there|on)": "is running, is working",
    r"any more(?! than)": "anymore, no longer",
    r"(expires?|settles?) by (itself|themselves)": "on its own, automatically",
    r"(go|goes|going|went) on from (here|there)": "run again to resume",
    r"(it is|they are) as (it was|they were)": "unchanged",
    r"(the )?same again with": "it again with",
    r"between two looks": "between two checks",
    r"(?<!there.)(is|are) no (object|list|text|regular file|flag|etcd|Pods)": "is not a",
    r"for ever": "forever",
    r"(come|comes|came|coming) true": "be met, become true",
    r"held against": "compared with",
    r"otherwise than": "differently from",
    r"takes? (it |them )?up again": "retry, resume, readmit",
    r"(go|goes|going|went) on to work": "keep working",
    r"at other versions than": "at versions other than",
    r"(said|says|say) nothing of|claims? nothing of|proves? nothing of": "… nothing about",
    r"(makes?|make) .{1,20} alike": "make … the same",
    r"exclude each other": "are mutually exclusive",
    r"what is left": "what remains",
    r"(is|are) of no (use|known)": "is useless, belongs to no, has no",
    r"for good(?! reason)": "permanently",
    r"(told|tells?|telling) apart": "distinguish",
    r"(this|that|the) very (same )?(run|object|version|edit|release|process|CRD)": "this, the same, exactly the",
    r"(look|looks) into": "read",
    r"labell?ed so|labelled": "labeled as such",
    r"may be meant": "did you mean X?",
    r"without a word": "abruptly; without a message",
    r"goes? all the way": "finish",
    r"(release|version)s? to arrive at": "last, final, target",
    r"(is|are|was|were) not served for a moment": "was briefly not served",
    r"behaviour|colours?|data centre|licence": "American spelling",
}
# Loop variables that say nothing, in Python. ``one, other`` are for two of a kind, which no loop gives.
VAGUE = frozenset({"one", "each"})
_VAGUE_ADVICE = "a loop variable says what it holds: server, key, row, path, …"

_TURNS = re.compile(rf"\b(?:{'|'.join(BANNED)})\b".replace(" ", " +"), re.IGNORECASE)
# What lies between two words of one sentence in a source file: the quotes of adjacent strings, the signs of comments.
_SEAMS = re.compile(r"""(?<=[ ,;:.])["']\s*\n\s*[rfb]*["']|\n(?![ \t]*\n)[ \t]*(?:\#|//|\.\.)?[ \t]*""")

_TEST_NAMES = re.compile(r"\bdef test_\w+")


def instead_of(found: str) -> str:
    """What to write instead of a turn that was found."""
    plain = re.sub(r"\s+", " ", found)
    return next(advice for turn, advice in BANNED.items() if re.fullmatch(turn, plain, re.IGNORECASE))


def findings(text: str) -> Iterator[tuple[int, str]]:
    """The line and the words of each banned turn, also where a sentence goes over the end of a line or a string."""
    flat = _SEAMS.sub(lambda seam: " " * len(seam[0]), text)
    flat = _TEST_NAMES.sub(lambda name: name[0].replace("_", " "), flat)
    for match in _TURNS.finditer(flat):
        yield text.count("\n", 0, match.start()) + 1, re.sub(r"\s+", " ", match[0])


def vague_loop_variables(text: str) -> Iterator[tuple[int, str]]:
    """The line and the name of each loop variable of a Python file, in a statement or a comprehension, that says nothing."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            for name in ast.walk(node.target):
                if isinstance(name, ast.Name) and name.id in VAGUE:
                    yield name.lineno, name.id


def _problems(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, words and advice."""
    text = path.read_text(encoding="utf-8")
    for line, found in findings(text):
        yield line, found, instead_of(found)
    if path.suffix == ".py":
        for line, name in vague_loop_variables(text):
            yield line, f"for {name} in", _VAGUE_ADVICE


def files(root: Path) -> list[Path]:
    """Every file of ours that holds prose, this one left out: it has to quote the turns."""
    paths = [root / name for name in own_files(root) if name.endswith(SUFFIXES)]
    return [path for path in paths if path.is_file() and path != HERE]


def main() -> int:
    names = [Path(name) for name in sys.argv[1:]] or files(ROOT)
    count = 0
    for path in names:
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        for line, found, advice in _problems(path):
            count += 1
            print(f"{shown}:{line}: '{found}' → {advice}")
    if count:
        print(f"{count} turns of phrase or names to rewrite. tests/tools/style.py has the lists.")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
