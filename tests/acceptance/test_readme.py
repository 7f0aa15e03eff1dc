"""README knows every setting and every command, and none that there is not."""

import argparse
import re
from pathlib import Path

from medley.settings import Settings
from medley_producer.arguments import make_parser

README = Path(__file__).parents[2] / "README.md"


def test_every_setting_has_a_row_of_the_table() -> None:
    rows = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"MEDLEY_[A-Z0-9_]+", row.split("|")[1])}
    assert named == {f"MEDLEY_{name.upper()}" for name in Settings.model_fields}


def test_every_command_is_there() -> None:
    (commands,) = [action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    named = set(re.findall(r"\bmedley ([a-z]+)\b", README.read_text(encoding="utf-8")))
    assert set(commands.choices) <= named
