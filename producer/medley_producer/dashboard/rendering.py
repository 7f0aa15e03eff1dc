"""The dashboard's templates."""

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, get_args

from medley.media.templates import templates
from medley_producer.dashboard.views import BatchState, JobState

if TYPE_CHECKING:
    from jinja2 import Environment


def render(name: str, **values: Any) -> str:
    """A page, by its template's name."""
    return _environment().get_template(f"{name}.html.j2").render(**values)


@cache
def _environment() -> "Environment":
    environment = templates(resources.files("medley_producer.dashboard") / "templates")
    environment.filters |= {"bytes": _bytes, "number": "{:,}".format}
    environment.globals |= {"batch_states": get_args(BatchState), "job_states": get_args(JobState)}
    return environment


def _bytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**30:.1f} GiB"
