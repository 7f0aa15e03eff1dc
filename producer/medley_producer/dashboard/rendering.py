"""The dashboard's templates."""

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from medley.media.templates import templates

if TYPE_CHECKING:
    from jinja2 import Environment


def render(name: str, **values: Any) -> str:
    """A page, by its template's name."""
    return _environment().get_template(f"{name}.html.j2").render(**values)


@cache
def _environment() -> "Environment":
    environment = templates(_source)
    environment.filters |= {"bytes": _bytes, "number": "{:,}".format}
    return environment


def _source(name: str) -> str:
    return resources.files("medley_producer.dashboard").joinpath("templates", name).read_text("utf-8")


def _bytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**30:.1f} GiB"
