"""Entropy coding of small integers, each by the distribution of its class, a few thousand side by side.

Range asymmetric numeral systems: Duda, "Asymmetric numeral systems" (2013), with interleaved states as in Giesen,
"Interleaved entropy coders" (2014). Symbol ``i`` belongs to lane ``i % lanes``, so that numpy codes one symbol of every
lane at once. A lane's state is 32 bits; it moves its lower 16 bits to the stream, or fetches 16 from there, so that
it stays at or above :data:`FLOOR` between symbols. Encoding goes backwards and starts from :data:`FLOOR`: decoding has
to end there, which tells a damaged stream.
"""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint16]
States = npt.NDArray[np.uint32]

PRECISION = 12
"""Bits of a probability: the rarest symbol of a class has 1 of 4,096."""

ONE = 1 << PRECISION
FLOOR = 1 << 16

_MOST_SYMBOLS = 256


class Damaged(ValueError):
    """The stream is not one that :func:`encode` made with these classes and frequencies."""


def frequencies(counts: npt.NDArray[np.int64]) -> Words:
    """Counts (classes, symbols) as shares of :data:`ONE`; what was counted at all has at least 1.

    A class that was never counted is given to its middle symbol.
    """
    shares = np.zeros(counts.shape, np.uint16)
    for row, count in zip(shares, counts, strict=True):
        row[:] = _shares(count) if count.any() else (np.arange(len(count)) == len(count) // 2) * ONE
    return shares


def _shares(count: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    exact = count / count.sum() * ONE
    shares: npt.NDArray[np.int64] = np.maximum(np.rint(exact), count > 0).astype(np.int64)
    while excess := int(shares.sum()) - ONE:
        if excess > 0:  # from whoever gains most by having been rounded, and keeps something
            shares[np.argmax(np.where(shares > 1, shares - exact, -np.inf))] -= 1
        else:
            shares[np.argmax(exact - shares)] += 1
    return shares


def encode(symbols: Bytes, classes: Bytes, shares: Words, lanes: int) -> tuple[States, Words]:
    """Code symbols, each by the shares of its class.

    Args:
        symbols: (n,), each below ``shares.shape[1]``; n is a multiple of ``lanes``
        classes: (n,), each below ``shares.shape[0]``
        shares: (classes, symbols) from :func:`frequencies`, at least 1 for every symbol in its class
        lanes: how many symbols are coded at once; each costs two bytes

    Returns:
        The lanes' states (lanes,) and the stream of 16-bit words, for :class:`Decoder`.
    """
    table = shares.astype(np.uint32)
    starts = np.cumsum(table, axis=1, dtype=np.uint32) - table
    states = np.full(lanes, FLOOR, np.uint32)
    words = []
    for at in range(len(symbols) - lanes, -1, -lanes):
        of = classes[at : at + lanes], symbols[at : at + lanes]
        share, start = table[of], starts[of]
        full = states >= share.astype(np.uint64) << np.uint64(32 - PRECISION)
        words.append(states[full].astype(np.uint16))
        states[full] >>= np.uint32(16)
        states = ((states // share) << np.uint32(PRECISION)) + states % share + start
    return states, np.concatenate(words[::-1]) if words else np.empty(0, np.uint16)


class Decoder:
    """Takes symbols out of a stream, in the order in which they were given to :func:`encode`."""

    def __init__(self, states: States, words: Words, shares: Words) -> None:
        """Prepare the tables.

        Raises:
            Damaged: the shares of a class do not add up to :data:`ONE`.
        """
        if shares.shape[1] > _MOST_SYMBOLS or (shares.sum(axis=1, dtype=np.int64) != ONE).any():
            raise Damaged("the frequencies of a class do not add up")
        self._states = states.astype(np.uint32)
        self._words = words
        self._at = 0
        self._table = np.concatenate([_slots(row.astype(np.uint32)) for row in shares])
        self._classes = len(shares)

    def decode(self, classes: Bytes) -> Bytes:
        """The next symbols, one for each of these classes, whose number is a multiple of the lanes.

        Raises:
            Damaged: the stream ends too soon, or there is no such class.
        """
        if classes.size and int(classes.max()) >= self._classes:
            raise Damaged("a class has no frequencies")
        states, lanes = self._states, len(self._states)
        symbols = np.empty(classes.shape, np.uint8)
        rows, slots = np.empty(lanes, np.int64), np.empty(lanes, np.int64)
        found, starts = np.empty_like(states), np.empty_like(states)
        # Every operation here has its result where it was, as memory that is new each time takes half of the time.
        for at in range(0, len(classes), lanes):
            np.bitwise_and(states, ONE - 1, out=slots, casting="unsafe")
            rows[:] = classes[at : at + lanes]
            rows <<= PRECISION
            slots += rows
            np.take(self._table, slots, out=found, mode="clip")
            symbols[at : at + lanes] = found  # its lowest byte
            np.right_shift(found, 32 - PRECISION, out=starts)
            found >>= 8
            found &= ONE - 1
            found += 1
            states >>= PRECISION
            states *= found
            states += starts
            self._fill(states)
        return symbols

    def _fill(self, states: States) -> None:
        """Fetch a word for each lane that is below :data:`FLOOR`."""
        low = np.flatnonzero(states < FLOOR)
        words = self._words[self._at : self._at + len(low)]
        if len(words) < len(low):
            raise Damaged("the stream ends too soon")
        states[low] = (states[low] << 16) | words
        self._at += len(low)

    def finish(self) -> None:
        """See that nothing is left.

        Raises:
            Damaged: there is, so what was decoded is not what was encoded.
        """
        if self._at != len(self._words) or (self._states != FLOOR).any():
            raise Damaged("the stream does not end where it should")


def _slots(share: States) -> States:
    """What each of :data:`ONE` slots of a class means: offset in the symbol's range, its share less 1, the symbol."""
    symbols = np.repeat(np.arange(len(share), dtype=np.uint32), share)
    starts = np.repeat(np.cumsum(share, dtype=np.uint32) - share, share)
    offsets = np.arange(ONE, dtype=np.uint32) - starts
    slots: States = (offsets << np.uint32(32 - PRECISION)) | (np.repeat(share - 1, share) << np.uint32(8)) | symbols
    return slots
