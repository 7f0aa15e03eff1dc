"""What every message and record is made of: frozen, validated when built, and one JSON text for one value."""

import json
from collections.abc import Callable
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, PositiveInt, StringConstraints, ValidationError
from pydantic_core import from_json

from medley.errors import UsageError

T = TypeVar("T")

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in hexadecimal."""

JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""The first 128 bits of the digest of everything that bears on a job's pixels and files."""

BatchName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A batch's name: it is part of storage keys, so it has no slash and does not begin with a dot."""

InputName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}\.[a-z0-9]{2,5}$")]
"""An input picture in storage: its digest, a dot, and the extension of the format that its bytes have."""

Size = tuple[PositiveInt, PositiveInt]
"""Width and height, px."""


class Record(BaseModel):
    """The base of all messages and records; unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def json_bytes(self) -> bytes:
        """The canonical JSON: sorted keys, no spaces, UTF-8, nothing for a field that is None."""
        return canonical_json(self.model_dump(mode="json", exclude_none=True))

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read what :meth:`json_bytes` wrote.

        Raises:
            UsageError: this is not such a record; the message names the first field that is wrong.
        """
        return read_as(cls.model_validate, data, cls.__name__)


def read_as(validate: Callable[[Any], T], data: bytes | str, name: str) -> T:
    """Read what :meth:`Record.json_bytes` wrote, of what ``validate`` takes; ``name`` is what errors call that.

    Raises:
        UsageError: this is not such a record; the message names the first field that is wrong.
    """
    try:
        # Not model_validate_json, which copies the whole for each field that is missing.
        return validate(from_json(data))
    except ValidationError as error:
        raise UsageError(f"Not a valid {name}: {first_problem(error)}.") from error
    except ValueError as error:
        raise UsageError(f"Not a valid {name}: the whole: Invalid JSON: {error}.") from error


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """One text for one value, so that equal values have equal digests."""
    return _CANONICAL.encode(value).encode()


def first_problem(error: ValidationError) -> str:
    """The first complaint of a validation, as ``field: what is wrong``."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]).encode("unicode_escape").decode() or "the whole"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
