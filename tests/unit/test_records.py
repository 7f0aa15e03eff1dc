"""Records are frozen, refuse what they do not know, and have one JSON text for one value."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from medley.errors import UsageError
from medley.records.base import BatchName, Digest, InputName, JobId, Record, canonical_json
from medley.records.pictures import Picture, Style

DIGEST = "0123456789abcdef" * 4


class Note(Record):
    z: float = 0.0
    a: str = ""
    maybe: int | None = None
    inner: tuple["Note", ...] = ()


def test_canonical_json_is_this_text() -> None:
    note = Note(z=0.1, a="Cézanne 雪舟", inner=(Note(maybe=3),))
    text = '{"a":"Cézanne 雪舟","inner":[{"a":"","inner":[],"maybe":3,"z":0.0}],"z":0.1}'
    assert note.json_bytes() == text.encode()
    assert Note.from_json(text) == note


def test_the_order_of_what_was_given_does_not_show() -> None:
    assert canonical_json({"b": 1, "a": {"d": 2, "c": 3}}) == canonical_json({"a": {"c": 3, "d": 2}, "b": 1})
    assert Note(z=1, a="x").json_bytes() == Note(a="x", z=1.0).json_bytes()


# Surrogates alone are no text: a dataset's names are made valid before they come here.
@settings(derandomize=True, deadline=None)
@given(
    name=st.text(st.characters(exclude_categories=["Cs"])),
    label=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    weight=st.floats(0, allow_infinity=False),
)
def test_what_is_written_is_read(name: str, label: str | None, weight: float) -> None:
    style = Style(sha256=DIGEST, ext="jpg", name=name, label=label, weight=weight)
    data = style.json_bytes()
    assert Style.from_json(data) == style
    assert Style.from_json(data).json_bytes() == data
    assert b"\n" not in data  # a manifest has a line each


def test_a_record_does_not_change() -> None:
    picture = Picture(sha256=DIGEST, ext="jpg", name="a.jpg")
    with pytest.raises(ValidationError, match="frozen"):
        picture.name = "b.jpg"  # type: ignore[misc]  # mypy knows it too
    assert hash(picture) == hash(Picture(sha256=DIGEST, ext="jpg", name="a.jpg"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"z": 1, "colour": "red"}', "colour: Extra inputs are not permitted"),
        ('{"z": NaN}', "z: Input should be a finite number"),
        ('{"z": 1e999}', "z: Input should be a finite number"),
        ('{"inner": [{"z": -Infinity}]}', r"inner\.0\.z: Input should be a finite number"),
        ('{"z": "much"}', "z: Input should be a valid number"),
        ("[]", "the whole: "),
        ("", "the whole: Invalid JSON"),
        ('{"z": 1', "the whole: Invalid JSON"),
    ],
)
def test_what_is_no_such_record_is_refused_by_field(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"Not a valid Note: {said}"):
        Note.from_json(text)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(number: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Note(z=number)
    with pytest.raises(ValueError, match="JSON"):
        canonical_json([number])


@pytest.mark.parametrize("name", ["a", "2026-01-31", "Night.v2_final-3", "0" * 100])
def test_names_of_batches(name: str) -> None:
    assert TypeAdapter(BatchName).validate_python(name) == name


HOSTILE = ("", "../../etc", "..", ".x", "-x", "_x", "a/b", "a\\b", "a b", "a\n", "a\0", "é", "a" * 101)


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        *((BatchName, name) for name in HOSTILE),
        *(
            (Digest, text)
            for text in ("", DIGEST[:-1], DIGEST + "0", DIGEST.upper(), f"{DIGEST}\n", f"../{DIGEST[3:]}")
        ),
        *((JobId, text) for text in ("", DIGEST, DIGEST[:31], "g" * 32)),
        *((InputName, text) for text in (DIGEST, f"{DIGEST}.", f"{DIGEST}.JPG", f"{DIGEST}.jpg/..", f"x{DIGEST}.jpg")),
    ],
)
def test_what_could_leave_its_place_in_storage_is_refused(kind: Any, bad: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(bad)
