"""What a check of the doctor ends with, and how a person is shown it."""

from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.text import Text

from medley.errors import MedleyError

State = Literal["green", "yellow", "red"]

_MARKS: dict[State, str] = {"green": "✓", "yellow": "!", "red": "✗"}

_NAME_WIDTH = 17
"""The longest name of a finding."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Green is as it should be. Yellow works, with a risk or without a part. Red does not work, or loses work.
    ``remedy``, the command or the sentence that mends it, is there unless the state is green.
    """

    name: str
    state: State
    found: str
    remedy: str | None = None


def refusal(name: str, error: MedleyError, doing: str = "") -> Finding:
    """The red finding that an error's sentence stands for: what is wrong is found, what is to be done mends it.

    ``doing`` comes before what is found.
    """
    found, remedy = _halves(" ".join(str(error).split()))
    return Finding(name, "red", f"{doing}{found}", remedy or "Mend that, and ask again.")


def _halves(text: str) -> tuple[str, str]:
    """A message's first sentence and the rest; what is quoted in parentheses may hold sentences of its own."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth <= 0 and text.startswith(". ", index):
            return text[:index], text[index + 2 :]
    return text.removesuffix("."), ""


def print_finding(console: Console, finding: Finding) -> None:
    """Print a finding: with a coloured mark on a terminal that has it, and with the state's name elsewhere."""
    fancy = console.is_terminal and not console.options.ascii_only
    mark = _MARKS[finding.state] if fancy else f"{finding.state:<6}"
    line = Text.assemble((mark, f"bold {finding.state}"), f" {finding.name:<{_NAME_WIDTH}} {finding.found}")
    if finding.remedy:
        line.append(f"\n{'':{len(mark)}} {'':{_NAME_WIDTH}} -> {finding.remedy}", style=finding.state)
    console.print(line, soft_wrap=True)
