"""The protocol, walked through in random orders: nothing is lost, and nothing ends before its last outcome."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, cast

import kombu.transport.redis
import pytest
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from conftest import draw_picture
from medley.batches import ending
from medley.records.base import BatchName
from medley.records.batches import QueueKind, Sampling
from medley.records.options import StyleTransferOptions
from medley_producer.submit import Request
from medley_workers.jobs import delivery, desk, watching
from protocol import Command, Farm, Fate
from stepping import TO_THE_END, Clock, Fault, Process

T = TypeVar("T")

How = tuple[int, Fault | None]

POOLS: dict[BatchName, tuple[tuple[int, ...], tuple[int, ...], QueueKind]] = {
    "five": ((0,), (0, 1, 2, 3, 4), "bulk"),
    "flow": ((1, 2), (0, 1, 2), "bulk"),
    "four": ((0, 1), (0, 1), "bulk"),
    "one": ((0,), (0,), "interactive"),
    "other": ((2,), (2, 3), "bulk"),
    "three": ((1,), (0, 1, 4), "interactive"),
    "two": ((0, 2), (3,), "bulk"),
}
"""Contents, styles and queue of each batch; most of their 17 jobs are shared."""

CHAINED = {"flow"}
"""Batches whose pictures begin with one another."""

NAMES = st.sampled_from(sorted(POOLS))

FAULTS: list[Fault | None] = [None, None, "killed", "away", "unanswered"]
HOW = st.tuples(st.integers(0, 25) | st.integers(0, 60), st.sampled_from(FAULTS)) | st.just((TO_THE_END, None))
"""How far a process goes on, and what happens to its next step; commands and deliveries make 10 to 50 steps."""

WHICH = st.integers(0, 5)


Trouble = Literal["Redis is lost", "Redis lost what is new", "a message is lost", "a message comes twice"]


class Deliver(NamedTuple):
    """A free worker takes a message."""

    worker: int
    queue: int
    fate: Fate
    how: How


class GoOn(NamedTuple):
    """What rests goes on."""

    which: int
    how: How


class Order(NamedTuple):
    """Somebody gives a command, or the reconciler looks after all batches."""

    what: Command
    batch: BatchName
    how: How


class Wait(NamedTuple):
    """Time passes, in which painters renew what they hold, or do so ``silently``."""

    seconds: float
    silently: bool


class Mishap(NamedTuple):
    """Redis comes back empty, or without what is new; or a message is lost, or comes twice."""

    what: Trouble
    queue: int


FATES: list[Fate] = ["well", "well", "well", "well", "image", "image", "numbers", "memory", "bug"]
TROUBLES: list[Trouble] = ["Redis is lost", "Redis lost what is new", "a message is lost", "a message comes twice"]
COMMANDS: list[Command] = [
    "submit", "submit", "pause", "cancel", "resume", "resume", "retry", "retry", "reconcile", "reconcile"
]  # fmt: skip

DELIVERIES = st.builds(Deliver, WHICH, WHICH, st.sampled_from(FATES), HOW)
GOINGS_ON = st.builds(GoOn, WHICH, HOW)
ORDERS = st.builds(Order, st.sampled_from(COMMANDS), NAMES, HOW)
WAITS = st.builds(Wait, st.sampled_from([3.0, 12.0, 50.0, 70.0, 310.0]), st.booleans())
MISHAPS = st.builds(Mishap, st.sampled_from(TROUBLES), WHICH)

Move = Deliver | GoOn | Order | Wait | Mishap

RECONCILED_S = 50.0
"""Who waits so long sees the reconciler at work."""


class Walk(RuleBasedStateMachine):
    """One walk over one farm."""

    def __init__(self, farm: Farm) -> None:
        super().__init__()
        self.farm = farm
        self.is_well = True

    @initialize(names=st.sets(NAMES, min_size=1, max_size=3))
    def submit(self, names: set[BatchName]) -> None:
        for name in sorted(names):
            self._go_on(self.farm.command("submit", name), (TO_THE_END, None))

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        farm = self.farm
        match data.draw(self._moves()):
            case Deliver(worker, queue, fate, how):
                if process := farm.take(_nth(worker, farm.free_workers), _nth(queue, farm.waiting), fate):
                    self._go_on(process, how)
            case GoOn(which, how):
                self._go_on(_nth(which, farm.under_way), how)
            case Order(what, name, how):
                self._go_on(farm.command(what, name), how)
            case Wait(seconds, silently):
                farm.pass_time(seconds, silently=silently)
                if seconds >= RECONCILED_S:
                    self._go_on(farm.command("reconcile", "all"), (TO_THE_END, None))
            case Mishap("Redis is lost"):
                farm.lose_redis()
            case Mishap("Redis lost what is new"):
                farm.lose_what_is_new()
            case Mishap("a message is lost", queue):
                farm.lose_message(_nth(queue, farm.waiting))
            case Mishap("a message comes twice", queue):
                farm.double_message(_nth(queue, farm.waiting))

    def _moves(self) -> st.SearchStrategy[Move]:
        """What can happen now, by how likely it is."""
        moves: list[st.SearchStrategy[Move]] = [ORDERS] * 3 + [WAITS]
        if self.farm.waiting:
            moves += [MISHAPS]
            moves += [DELIVERIES] * 8 if self.farm.free_workers else []
        if self.farm.under_way:
            moves += [GOINGS_ON] * 6
        return st.one_of(moves)

    @invariant()
    def promises(self) -> None:
        with self._trying():
            self.farm.check()

    def teardown(self) -> None:
        try:
            if self.is_well:
                self.farm.settle()
        finally:
            self.farm.close()

    def _go_on(self, process: Process, how: How) -> None:
        with self._trying():
            process.go_on(*how)
        note(f"    {process.name} {'has ended' if process.ended else f'rests before {process.at}'}")

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """What was broken once need not be settled."""
        was_well, self.is_well = self.is_well, False
        yield
        self.is_well = was_well


def _nth(number: int, some: Sequence[T]) -> T:
    return some[number % len(some)]


@pytest.fixture
def new_farm(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Farm]:
    """Makes an empty farm, whose clock is everyone's."""
    for n in range(3):
        draw_picture(tmp_path / f"photo{n}.png", seed=n, size=(32, 32))
    for n in range(5):
        draw_picture(tmp_path / f"paint{n}.png", seed=100 + n, size=(32, 32))

    def request(name: BatchName, contents: tuple[int, ...], styles: tuple[int, ...]) -> Request:
        sampling = Sampling(
            content=tuple(str(tmp_path / f"photo{n}.png") for n in contents),
            styles=tuple(str(tmp_path / f"paint{n}.png") for n in styles),
            pairing="product",
            chain=name in CHAINED,
        )
        return Request(name, sampling, StyleTransferOptions())

    requests = {name: (request(name, contents, styles), kind) for name, (contents, styles, kind) in POOLS.items()}
    clock, number = Clock(), count()
    monkeypatch.setattr(time, "time", clock.time)
    monkeypatch.setattr(kombu.transport.redis, "time", clock.time)
    for module in (desk, ending, watching):
        monkeypatch.setattr(module, "time", clock)
    # Nothing here loses power, and its pictures bear on nothing.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(ending, "_pieces", lambda _: {})

    def farm() -> Farm:
        made = Farm(redis_url, tmp_path / f"storage{next(number)}", requests, clock)
        monkeypatch.setattr(delivery, "publish_again", made.send_again)
        return made

    return farm


def walk(new_farm: Callable[[], Farm], examples: int, steps: int, number: int) -> None:
    print(f"\n{examples} walks of {steps} steps from seed {number}")
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(cast(type[Walk], seed(number)(lambda: Walk(new_farm()))), settings=how)


def test_a_walk_through_the_protocol_loses_nothing(new_farm: Callable[[], Farm]) -> None:
    walk(new_farm, examples=40, steps=30, number=1)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_long_walk_through_the_protocol_loses_nothing(new_farm: Callable[[], Farm]) -> None:
    walk(new_farm, examples=1_000, steps=50, number=2)
