"""Progress: a bar and the time that is left where work is counted, and nothing where nobody watches."""

import io
import re

from rich.console import Console

from medley_producer.commands.progress import telling


def test_counted_work_has_a_bar_and_an_end() -> None:
    shown = screen_after(*(("judging", done, 40) for done in range(1, 11)))
    assert re.search(r"judging 10 of 40 .*━.*\d:\d\d:\d\d", shown)


def test_other_work_begins_anew() -> None:
    assert re.search(r"scanning \[1/2\] 3,000 ", screen_after(("judging", 1, 40), ("scanning [1/2]", 3_000, 0)))


def test_two_works_of_as_many_parts_have_each_their_own_time() -> None:
    """The first looks done at half of the bar; the second has its own rate, which one step does not tell."""
    first = [("clustering", done, 40) for done in range(1, 21)]
    assert "-:--:--" in screen_after(*first, ("looking for the coarseness", 1, 40)).split("coarseness")[-1]


def screen_after(*steps: tuple[str, int, int]) -> str:
    """What a terminal is sent."""
    screen = io.StringIO()
    with telling(Console(file=screen, force_terminal=True, width=80)) as told:
        for step in steps:
            told(*step)
    return screen.getvalue()


def test_nothing_is_told_without_a_terminal() -> None:
    screen = io.StringIO()
    with telling(Console(file=screen)) as told:
        told("judging", 1, 2)
    assert not screen.getvalue()
