"""Pairs are drawn without repetition, the same ones for the same seed on every machine."""

import itertools
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medley.errors import UsageError
from medley.records.batches import Sampling
from medley_producer.sampling import combination, count_pairs, draw, permutation, require_pairs

seeds = st.text(max_size=20)
same_each_time = settings(derandomize=True, deadline=None)


def sampling(**changes: Any) -> Sampling:
    return Sampling.model_validate({"content": ("c",), "styles": ("s",), "sample_seed": "night", **changes})


@same_each_time
@given(st.integers(0, 600), seeds)
def test_permutation_visits_each_number_once(total: int, seed: str) -> None:
    assert sorted(permutation(total, seed)) == list(range(total))


@same_each_time
@given(st.integers(1, 10**40), seeds)
def test_permutation_of_any_total_stays_in_range_and_repeats_nothing(total: int, seed: str) -> None:
    first = list(itertools.islice(permutation(total, seed), 20))
    assert len(set(first)) == min(20, total)
    assert all(0 <= index < total for index in first)
    assert first == list(itertools.islice(permutation(total, seed), 20))


def test_the_same_seed_gives_these_numbers_for_ever() -> None:
    assert list(permutation(10, "night")) == [5, 4, 8, 7, 9, 1, 3, 2, 0, 6]
    assert list(itertools.islice(permutation(10**12, "nächtlich"), 3)) == [329560100911, 322064289449, 493945147329]
    assert list(itertools.islice(draw(5, 6, sampling(styles_per_pair=2)), 4)) == [
        (0, (0, 4)),
        (2, (0, 3)),
        (0, (1, 3)),
        (4, (0, 2)),
    ]


def test_different_seeds_give_different_orders() -> None:
    orders = {tuple(itertools.islice(permutation(1000, f"2026-01-{day:02}"), 10)) for day in range(1, 32)}
    assert len(orders) == 31


@pytest.mark.parametrize("total", [2, 3, 7, 20, 50])
def test_every_number_is_as_likely_at_every_place(total: int) -> None:
    draws = 4000
    orders = [tuple(itertools.islice(permutation(total, str(seed)), total)) for seed in range(draws)]
    for place in (0, 1, total // 2, total - 1):
        seen = Counter(order[place] for order in orders)
        chi2 = sum((seen[n] - draws / total) ** 2 / (draws / total) for n in range(total))
        assert chi2 < total - 1 + 5 * math.sqrt(2 * (total - 1))  # mean and standard deviation of chi-square


@same_each_time
@given(st.integers(0, 9), st.integers(0, 9))
def test_combination_is_the_one_of_itertools(items: int, size: int) -> None:
    expected = list(itertools.combinations(range(items), size))
    assert [combination(rank, items, size) for rank in range(len(expected))] == expected


def test_combination_of_many_items_is_found_directly() -> None:
    last = math.comb(100_000, 5) - 1
    assert combination(0, 100_000, 5) == (0, 1, 2, 3, 4)
    assert combination(last, 100_000, 5) == (99_995, 99_996, 99_997, 99_998, 99_999)


@same_each_time
@given(st.integers(0, 6), st.integers(1, 6), st.integers(1, 3), seeds)
def test_random_and_product_are_the_same_pairs(contents: int, styles: int, size: int, seed: str) -> None:
    shuffled = list(draw(contents, styles, sampling(styles_per_pair=size, sample_seed=seed)))
    in_order = list(draw(contents, styles, sampling(styles_per_pair=size, pairing="product")))
    groups = itertools.combinations(range(styles), size)
    assert in_order == list(itertools.product(range(contents), groups))
    assert sorted(shuffled) == in_order
    assert count_pairs(contents, styles, sampling(styles_per_pair=size)) == len(in_order)


def test_zip_takes_the_next_styles_for_each_content() -> None:
    zipped = sampling(pairing="zip", styles_per_pair=2)
    assert list(draw(9, 7, zipped)) == [(0, (0, 1)), (1, (2, 3)), (2, (4, 5))]
    assert count_pairs(9, 7, zipped) == 3
    assert list(draw(2, 7, sampling(pairing="zip"))) == [(0, (0,)), (1, (1,))]


def test_first_pairs_of_a_huge_product_come_at_once() -> None:
    pairs = draw(10**6, 10**6, sampling(styles_per_pair=4))
    assert len(set(itertools.islice(pairs, 50))) == 50


def test_asking_for_more_than_there_is_says_how_many_there_are() -> None:
    require_pairs(sampling(pairs=12), 3, 4)
    require_pairs(sampling(), 3, 4)
    with pytest.raises(UsageError, match=r"13 pairs were asked for and there are 12 .* --pairs 12 or fewer"):
        require_pairs(sampling(pairs=13), 3, 4)
    with pytest.raises(UsageError, match="takes 5 different styles and there are 4; lower --styles-per-pair"):
        require_pairs(sampling(styles_per_pair=5), 3, 4)
