"""The entropy coder: what is decoded is what was encoded, in hardly more bytes than there have to be."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from medley_workers.network.rans import FLOOR, ONE, Bytes, Damaged, Decoder, States, Words, encode, frequencies

same_each_time = settings(derandomize=True, deadline=None)


@dataclass(frozen=True)
class Coded:
    """Symbols with their classes, and what became of them."""

    symbols: Bytes
    classes: Bytes
    shares: Words
    states: States
    words: Words


def coded(symbols: Bytes, classes: Bytes, lanes: int, of_classes: int, of_symbols: int) -> Coded:
    counts = np.zeros((of_classes, of_symbols), np.int64)
    np.add.at(counts, (classes, symbols), 1)
    shares = frequencies(counts)
    return Coded(symbols, classes, shares, *encode(symbols, classes, shares, lanes))


def decoded(states: States, words: Words, code: Coded, pieces: int = 1) -> Bytes:
    """All symbols, taken out in pieces; nothing may be left."""
    decoder = Decoder(states, words, code.shares)
    rounds = np.array_split(code.classes.reshape(-1, len(states)), pieces)
    symbols = np.concatenate([decoder.decode(part.reshape(-1)) for part in rounds])
    decoder.finish()
    return symbols


@st.composite
def codes(draw: st.DrawFn) -> Coded:
    """From no symbol to some hundred, with few different ones or many, in classes of which some may not be used."""
    lanes, rounds = draw(st.integers(1, 8)), draw(st.integers(0, 40))
    of_classes, of_symbols = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 3, 255, 256]))
    most = draw(st.integers(0, of_symbols - 1))
    symbols = draw(arrays(np.uint8, lanes * rounds, elements=st.integers(0, most)))
    classes = draw(arrays(np.uint8, lanes * rounds, elements=st.integers(0, of_classes - 1)))
    return coded(symbols, classes, lanes, of_classes, of_symbols)


@same_each_time
@given(codes(), st.integers(1, 3))
def test_what_is_decoded_is_what_was_encoded(code: Coded, pieces: int) -> None:
    assert (decoded(code.states, code.words, code, pieces) == code.symbols).all()


def skewed(size: int, lanes: int) -> Coded:
    """Of three classes, one has a single symbol, one all 256, and in one a symbol is hardly ever another."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, size).astype(np.uint8)
    kinds = [np.full(size, 200), rng.integers(0, 256, size), (rng.random(size) > 0.9995) * 255]
    symbols = np.choose(classes, kinds).astype(np.uint8)
    symbols[:256], classes[:256] = np.arange(256), 1
    return coded(symbols, classes, lanes, 4, 256)


def test_extremes_come_through_and_cost_what_their_entropy_says() -> None:
    lanes = 1024
    code = skewed(400 * lanes, lanes)
    assert (decoded(code.states, code.words, code, pieces=7) == code.symbols).all()
    entropy = -np.log2(code.shares[code.classes, code.symbols] / ONE).sum() / 8
    size = 4 * len(code.states) + 2 * len(code.words)
    assert entropy < size < 1.01 * entropy + 2 * lanes


def test_symbols_that_are_sure_cost_nothing() -> None:
    nothing = np.zeros(64 * 1000, np.uint8)
    code = coded(nothing, nothing, 64, 1, 1)
    assert len(code.words) == 0
    assert (code.states == FLOOR).all()


COUNTS = st.sampled_from([0, 0, 1, 2, 1_000, 3_000_000, 10**15]) | st.integers(0, 5_000)


@same_each_time
@given(arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=256), elements=COUNTS))
def test_shares_add_up_and_keep_what_was_counted(counts: NDArray[np.int64]) -> None:
    shares = frequencies(counts)
    assert shares.shape == counts.shape
    assert (shares.sum(axis=1, dtype=np.int64) == ONE).all()
    used = counts.any(axis=1)
    assert ((shares > 0) == (counts > 0))[used].all()
    assert (shares[~used, counts.shape[1] // 2] == ONE).all()


def test_shares_are_the_nearest_to_the_counts() -> None:
    assert frequencies(np.array([[3, 0, 1]])).tolist() == [[3 * ONE // 4, 0, ONE // 4]]
    assert frequencies(np.ones((1, 256), np.int64)).tolist() == [[ONE // 256] * 256]
    assert frequencies(np.array([[1, 10**9]])).tolist() == [[1, ONE - 1]]
    assert frequencies(np.array([[1] * 255 + [10**9]]))[0, -1] == ONE - 255


@pytest.fixture(scope="module")
def code() -> Coded:
    return skewed(60 * 16, 16)


def test_a_stream_cut_anywhere_is_damaged(code: Coded) -> None:
    for length in range(len(code.words)):
        with pytest.raises(Damaged, match="ends too soon"):
            decoded(code.states, code.words[:length], code)


def test_a_word_too_many_is_damage(code: Coded) -> None:
    with pytest.raises(Damaged, match="does not end where it should"):
        decoded(code.states, np.append(code.words, np.uint16(0)), code)


@same_each_time
@given(data=st.data())
def test_a_flipped_bit_is_damage_or_gives_other_symbols(code: Coded, data: st.DataObject) -> None:
    states, words = code.states.copy(), code.words.copy()
    part = (states if data.draw(st.booleans()) else words).view(np.uint8)
    part[data.draw(st.integers(0, len(part) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(Damaged):
        assert (decoded(states, words, code) != code.symbols).any()


def test_states_that_no_encoder_leaves_are_damage(code: Coded) -> None:
    for state in (0, 1, FLOOR - 1, 2**32 - 1):
        with pytest.raises(Damaged):
            decoded(np.full(16, state, np.uint32), code.words, code)


def test_shares_that_do_not_add_up_are_damage(code: Coded) -> None:
    for share in (0, ONE - 1, ONE + 1):
        shares = code.shares.copy()
        shares[0, 200] = share  # the class whose only symbol it is
        with pytest.raises(Damaged, match="add up"):
            Decoder(code.states, code.words, shares)


def test_a_class_without_shares_is_damage(code: Coded) -> None:
    decoder = Decoder(code.states, code.words, code.shares)
    with pytest.raises(Damaged, match="no frequencies"):
        decoder.decode(np.full(16, 4, np.uint8))
