"""Which pairs of content and styles a batch paints: pure functions of the pools' sizes and a seed.

The same seed gives the same pairs on every machine and every version of Python, one at a time, in memory that does
not grow with their number.
"""

import bisect
import hashlib
import itertools
import math
from collections.abc import Iterator
from functools import partial

from medley.errors import UsageError
from medley.records.batches import Sampling

ROUNDS = 8
"""Of the Feistel network: twice the four that Luby and Rackoff (1988) ask for, as our domains may be tiny."""

Pair = tuple[int, tuple[int, ...]]
"""The index of a content, and the distinct indices of ``styles_per_pair`` styles, ascending."""


def count_pairs(contents: int, styles: int, sampling: Sampling) -> int:
    """How many pairs there are to draw from that many contents and styles; 0 if there are too few of either."""
    if sampling.pairing == "zip":
        return min(contents, styles // sampling.styles_per_pair)
    return contents * math.comb(styles, sampling.styles_per_pair)


def require_pairs(sampling: Sampling, contents: int, styles: int) -> None:
    """See that the pairs asked for exist.

    Raises:
        UsageError: fewer styles than one pair takes, or fewer pairs than ``sampling.pairs``.
    """
    if sampling.styles_per_pair > styles:
        raise UsageError(
            f"A pair takes {sampling.styles_per_pair} different styles and there are {styles}; "
            "lower --styles-per-pair or add styles."
        )
    there_are = count_pairs(contents, styles, sampling)
    if sampling.pairs is not None and sampling.pairs > there_are:
        raise UsageError(
            f"{sampling.pairs} pairs were asked for and there are {there_are} (contents: {contents}, styles: {styles}, "
            f"{sampling.styles_per_pair} a pair, {sampling.pairing}); ask for --pairs {there_are} or fewer, "
            "or add pictures."
        )


def draw(contents: int, styles: int, sampling: Sampling) -> Iterator[Pair]:
    """All the pairs there are, none twice, in the order that ``sampling.pairing`` names.

    ``product`` goes through every combination of styles for the first content, then for the second; ``zip`` gives the
    n-th content the n-th styles; ``random`` shuffles the product by ``sampling.sample_seed``. Who wants fewer stops.
    """
    size = sampling.styles_per_pair
    if sampling.pairing == "zip":
        for content in range(count_pairs(contents, styles, sampling)):
            yield content, tuple(range(content * size, (content + 1) * size))
    elif sampling.pairing == "product":
        for content in range(contents):
            for group in itertools.combinations(range(styles), size):
                yield content, group
    else:
        groups = math.comb(styles, size)
        for index in permutation(contents * groups, sampling.sample_seed):
            content, rank = divmod(index, groups)
            yield content, combination(rank, styles, size)


def combination(rank: int, items: int, size: int) -> tuple[int, ...]:
    """The ``rank``-th of ``itertools.combinations(range(items), size)``, found without going through those before it.

    ``rank`` is from 0 to C(items, size) - 1. The combinatorial number system (Knuth, TAOCP 4A, 7.2.1.3, theorem L)
    counts from the last combination back, hence the differences from the ends.
    """
    rest = math.comb(items, size) - 1 - rank
    chosen = []
    for k in range(size, 0, -1):
        digit = bisect.bisect_right(range(items), rest, key=partial(_subsets, k)) - 1
        rest -= _subsets(k, digit)
        chosen.append(items - 1 - digit)
    return tuple(chosen)


def _subsets(size: int, items: int) -> int:
    return math.comb(items, size)


def permutation(total: int, seed: str) -> Iterator[int]:
    """The numbers from 0 to ``total`` - 1, each once, in an order that the seed decides.

    A Feistel network over side x side >= total whose results beyond the total are sent through it again (Black and
    Rogaway 2002, "Ciphers with arbitrary finite domains": the generalised Feistel cipher and cycle walking).
    """
    side = math.isqrt(max(total - 1, 0)) + 1
    key = hashlib.blake2b(seed.encode()).digest()
    keyed = [hashlib.blake2b(bytes([n]), key=key, digest_size=16) for n in range(ROUNDS)]
    for start in range(total):
        index = _feistel(start, side, keyed)
        while index >= total:
            index = _feistel(index, side, keyed)
        yield index


def _feistel(index: int, side: int, keyed: "list[hashlib.blake2b]") -> int:
    left, right = divmod(index, side)
    width = (side.bit_length() + 7) // 8
    for state in keyed:
        digest = state.copy()
        digest.update(right.to_bytes(width, "big"))
        left, right = right, (left + int.from_bytes(digest.digest(), "big")) % side
    return left * side + right
