"""The commands of the documentation: what its ``sh`` blocks hold, line by line, and which of it calls medley."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "deploy/README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ASSIGNED = re.compile(r"\w+=")


@dataclass(frozen=True)
class Command:
    """A line of a block, with those that go on from it, and without what it says beside it."""

    page: str
    text: str


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[str]:
    """The ``sh`` blocks of a page."""
    return [block for language, block in _BLOCK.findall(read(page)) if language == "sh"]


def commands(page: str) -> list[Command]:
    """The commands of a page, in order."""
    lines = "".join(blocks(page)).replace("\\\n", " ").splitlines()
    texts = (re.sub(r"\s+#\s.*$", "", line).strip() for line in lines)
    return [Command(page, re.sub(r"\s{2,}", " ", text)) for text in texts if text]


def crontab_lines(page: str) -> list[str]:
    """What the crontabs of a page have run."""
    plain = "".join(block for language, block in _BLOCK.findall(read(page)) if not language)
    return re.findall(r"^(?:[\d*/,-]+\s+){5}(.+)$", plain, re.MULTILINE)


def spans(page: str) -> list[str]:
    """What stands between backticks in the text of a page, blocks apart."""
    return re.findall(r"`([^`\n]+)`", _BLOCK.sub("", read(page)))


def calls(text: str) -> Iterator[list[str]]:
    """The arguments of each call of medley in a command: by its name, as ``farm``, or in a container."""
    for words in _simple_commands(text):
        program = words[0] if words else ""
        if program in ("medley", "farm") or program.endswith("/bin/medley"):
            yield words[1:]
        elif words[:3] == ["docker", "compose", "run"]:
            yield words[words.index("dashboard") + 1 :]
        elif "--" in words and words[words.index("--") + 1] == "medley":
            yield words[words.index("--") + 2 :]


def _simple_commands(text: str) -> Iterator[list[str]]:
    """A line's commands, without variables that are set for them and without where their output goes."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    tokens = list(lexer)
    if "()" in tokens:  # a function is defined
        return
    words: list[str] = []
    redirected = False
    for token in [*tokens, ";"]:
        if token in ("&&", "||", ";", "|"):
            yield words
            words = []
        elif redirected or token in (">", ">>"):
            redirected = not redirected
        elif words or not _ASSIGNED.match(token):
            words.append(token)
