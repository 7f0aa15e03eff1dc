"""The tables of the documentation that follow from the program: run this file to write them (``make docs``)."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from medley.settings import Settings
from medley_producer.options.arguments import make_parser

ROOT = Path(__file__).parents[1]
README, REFERENCE = ROOT / "README.md", ROOT / "docs" / "reference.md"

_BEGIN, _END = "<!-- made by `make docs` -->\n", "<!-- until here -->\n"


def pages() -> dict[Path, str]:
    """Each file that has generated tables, as it should be."""
    return {README: _with_settings(README.read_text(encoding="utf-8")), REFERENCE: _reference()}


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by its name, such as ``run`` or ``vgg info``."""
    return dict(_commands_of(make_parser(), ""))


def _commands_of(parser: argparse.ArgumentParser, above: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                below = list(_commands_of(command, f"{above}{name} "))
                yield from below or [(f"{above}{name}", command)]


def _with_settings(text: str) -> str:
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return before + _BEGIN + "\n".join(_settings()) + "\n" + _END + after


def _settings() -> Iterator[str]:
    yield from ("| setting | default | what it is |", "|---|---|---|")
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        yield _row(f"`MEDLEY_{name.upper()}`", default, field.description or "")


def _reference() -> str:
    lines = [
        "# Every command and option",
        "",
        "What `medley COMMAND -h` says, as tables. `make docs` writes this page from the program, and a test compares.",
    ]
    for name, parser in commands().items():
        lines += ["", f"## medley {name}", "", parser.description or "", "", "| option | what it does |", "|---|---|"]
        lines += [_row(_spelled(action), action.help or "") for action in parser._actions]
    return "\n".join([*lines, ""])


def _spelled(action: argparse.Action) -> str:
    """An option and what follows it, as one types it."""
    metavar = " ".join(action.metavar) if isinstance(action.metavar, tuple) else action.metavar
    value = str(metavar or "|".join(map(str, action.choices or ()))) if action.nargs != 0 else ""
    shape = {"?": "[{}]", "*": "{} ...", "+": "{} ..."}.get(str(action.nargs), "{}")
    words = [*action.option_strings[-1:], *([shape.format(value)] if value else [])]
    return " ".join(f"`{text}`" for text in (*action.option_strings[:-1], " ".join(words)))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
