"""How many threads torch works with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Work inside is done by this thread alone.

    Sums are then in one order, whatever the number of cores; and many small pieces of work need not wait, each, for
    a second thread that a busy machine lets run late.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
