"""README and the reference know every setting, command and option, and none that there is not."""

import re
from pathlib import Path

import pytest

import reference
from medley_producer.options.arguments import ELSEWHERE


@pytest.mark.parametrize("page", reference.pages())
def test_generated_tables_are_those_of_the_program(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == reference.pages()[page], "run `make docs`"


def test_every_command_is_in_the_readme() -> None:
    text = reference.README.read_text(encoding="utf-8")
    assert [command for command in reference.commands() if f"`medley {command}" not in text] == []


@pytest.mark.parametrize("page", [*reference.README.parent.glob("*.md"), *reference.README.parent.glob("docs/*.md")])
def test_no_page_names_an_option_or_a_setting_that_there_is_not(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    options = {option for parser in reference.commands().values() for option in parser._option_string_actions}
    theirs = {*ELSEWHERE, "--xres", "--yres"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - theirs - {"--version"} <= options
