"""What is wrong with this set-up, and how to mend it: ``medley doctor``.

Nothing here raises or hangs: whatever is broken becomes a finding.
"""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from queue import Empty, Queue

from medley.errors import MedleyError
from medley_producer.doctor import machine, painting, services
from medley_producer.doctor.findings import Finding, print_finding, refusal

__all__ = ["WITHIN_S", "Examination", "Finding", "examine", "print_finding"]

WITHIN_S = 20.0
"""All checks end within this. A silent service takes two timeouts of 5 s; the first import of torch may take longer."""


def examine() -> Iterator[Finding]:
    """Examine this machine and the services that the environment names.

    The checks run at the same time; their findings come in one order, each as soon as it and those before are known.
    """
    settings, findings = machine.read_settings()
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "memory": machine.memory,
        "disk": partial(machine.disk, settings),
        "formats": machine.formats,
        "video": machine.video,
        "Redis": partial(services.redis, settings),
        "storage": partial(services.storage, settings),
        "GPU": partial(painting.gpus, settings),
        "weights": partial(painting.weights, settings),
        "torch": partial(painting.torch, settings),
    }
    deadline = time.monotonic() + WITHIN_S
    examinations = [Examination(name, check) for name, check in checks.items()]
    yield from machine.versions()
    yield from findings
    for examination in examinations:
        yield from examination.findings(deadline)


class Examination:
    """A check at work in a thread of its own: a mount, a driver or a library may hang whatever timeouts it is given."""

    def __init__(self, name: str, check: Callable[[], Iterator[Finding]]) -> None:
        self._name = name
        self._findings: Queue[Finding | None] = Queue()
        threading.Thread(target=self._run, args=(check,), daemon=True).start()

    def findings(self, deadline: float) -> Iterator[Finding]:
        """What it finds, until it ends or the monotonic clock shows ``deadline``."""
        try:
            while finding := self._findings.get(timeout=max(0.0, deadline - time.monotonic())):
                yield finding
        except Empty:
            remedy = "Look at what may hang: the network, a mounted disk, the driver. Then ask again."
            yield Finding(self._name, "red", f"no answer within {WITHIN_S:.0f} s", remedy)

    def _run(self, check: Callable[[], Iterator[Finding]]) -> None:
        try:
            for finding in check():
                self._findings.put(finding)
        except MedleyError as error:
            self._findings.put(refusal(self._name, error))
        except Exception as error:  # people come with set-ups that are broken in ways nobody thought of
            found = f"cannot be examined ({type(error).__name__}: {error})"
            self._findings.put(Finding(self._name, "red", found, "Mend what the parentheses name, and ask again."))
        self._findings.put(None)
