"""The search for how coarse the grids may be."""

from typing import Any, cast

import numpy as np
import pytest

from medley.errors import UsageError
from medley_workers.compressing.feedback import COARSEST, FINEST, Candidate, Grids, of_bytes, of_error


class Ideal:
    """Grids whose bytes halve, and whose error doubles, with each octave of coarseness."""

    bytes_at_finest = 100_000

    def __init__(self) -> None:
        self.judge = self
        self.looks = 0

    def at(self, coarseness: float) -> Candidate:
        self.looks += 1
        return Candidate(coarseness, {"all": np.zeros(int(self.bytes_at_finest * FINEST / coarseness), np.uint8)})

    def decoded(self, candidate: Candidate) -> "Decoded":
        return Decoded(candidate.coarseness)

    def worst_gram(self, network: Any) -> float:
        return float(network._weights.coarseness) / 100


class Decoded:
    """Weights that know how coarse they are."""

    layers = ()

    def __init__(self, coarseness: float) -> None:
        self.coarseness = coarseness


@pytest.fixture
def grids() -> Grids:
    return cast("Grids", Ideal())


def quiet(*_: object) -> None:
    """Progress is not looked at."""


@pytest.mark.parametrize("most", [5_000, 20_000, 77_777, 103_999])
def test_the_finest_that_fits_is_found(grids: Grids, most: int) -> None:
    found = of_bytes(grids, most, quiet)
    assert 0.99 * most < found.bytes <= most


def test_finer_than_the_finest_is_not_asked_for(grids: Grids) -> None:
    assert of_bytes(grids, 10_000_000, quiet).coarseness == FINEST


def test_what_cannot_be_so_small_says_how_small_it_can_be(grids: Grids) -> None:
    least = grids.at(COARSEST).bytes
    with pytest.raises(UsageError, match=f"cannot be had in 100 bytes: ask for {least:,} or more"):
        of_bytes(grids, 100, quiet)
    assert of_bytes(grids, least, quiet).coarseness == COARSEST


@pytest.mark.parametrize("error", [0.0005, 0.002, 0.03])
def test_the_coarsest_that_is_true_enough_is_found(grids: Grids, error: float) -> None:
    assert 0.99 * error < of_error(grids, error, quiet).coarseness / 100 <= error


def test_an_error_that_cannot_be_had_names_one_that_can(grids: Grids) -> None:
    with pytest.raises(UsageError, match=r"an error of 0\.0001: ask for 0\.0004 or more"):
        of_error(grids, 1e-4, quiet)
    assert of_error(grids, 0.0004, quiet).coarseness < 0.041
