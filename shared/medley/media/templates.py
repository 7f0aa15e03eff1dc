"""Templates of pages, and how numbers and dates are written in them."""

import math
from datetime import UTC, datetime
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from medley.media import curve
from medley.telling import shown

if TYPE_CHECKING:
    from jinja2 import Environment


def templates(folder: Traversable) -> "Environment":
    """The templates of a folder, which escape what they are given."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Names come from other people's files; type, as what is already escaped is of a subclass.
        finalize=lambda value: shown(value) if type(value) is str else value,
    )
    environment.filters |= {"loss": spoken_loss, "time": spoken_time, "date": _date, "curve": curve.loss_curve}
    environment.globals |= {"page_numbers": page_numbers, "box": curve}
    return environment


def page_numbers(number: int, pages: int, around: int = 2) -> list[int]:
    """The pages that page ``number`` links to: the first, those around it, the last; 0 stands for a gap."""
    near = {1, pages, *range(max(1, number - around), min(pages, number + around) + 1)}
    numbers: list[int] = []
    for n in sorted(near):
        if numbers and n - numbers[-1] == 2:
            numbers.append(n - 1)  # a gap takes as much room as the one page that it leaves out
        elif numbers and n - numbers[-1] > 2:
            numbers.append(0)
        numbers.append(n)
    return numbers


def spoken_loss(loss: float | None) -> str:
    """A loss for people, ``1,234,567``; "" where there is none."""
    if loss is None or not math.isfinite(loss):
        return ""
    return f"{loss:,.0f}" if 1000 <= abs(loss) < 1e15 else f"{loss:.4g}"


def spoken_time(seconds: float | None) -> str:
    """A time for people, ``1 min 12 s``; "" where there is none."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def _date(at: datetime) -> str:
    at = at.astimezone(UTC)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"
