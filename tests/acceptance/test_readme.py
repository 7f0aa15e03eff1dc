"""The pages know every setting, command and option, and none that there is not; and their links lead somewhere."""

import re
from pathlib import Path

import pytest

import reference
from documented import PAGES, ROOT, read
from medley_producer.options.arguments import ELSEWHERE


@pytest.mark.parametrize("page", reference.pages())
def test_generated_tables_are_those_of_the_program(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == reference.pages()[page], "run `make docs`"


def test_every_command_is_in_the_readme() -> None:
    text = reference.README.read_text(encoding="utf-8")
    assert [command for command in reference.commands() if f"`medley {command}" not in text] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith(("README", "docs/"))])
def test_no_page_names_an_option_that_there_is_not(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)  # of which commands are parsed
    options = {option for parser in reference.commands().values() for option in parser._option_string_actions}
    theirs = {*ELSEWHERE, "--version"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - theirs <= options


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """The names of a page's headings in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
