"""Everything that can go wrong, as one tree.

::

    MedleyError
    ├── PermanentError                trying again cannot help
    │   ├── UsageError                what was asked for cannot be done (exit 2)
    │   │   ├── DatasetError          no pictures there, or not as described
    │   │   ├── BatchConflict         the batch's name is taken by another request
    │   │   └── BatchStopped          the batch is paused or cancelled
    │   ├── ImageError                a picture that cannot be read or is too large
    │   ├── WeightsError              the network's weights are missing or not the expected ones
    │   ├── NumbersError              a painting turned into NaN or one flat colour
    │   ├── ObjectMissing             storage has nothing under that key
    │   └── ServiceRefused            a service answers, and says no (exit 3)
    │       ├── StorageRefused        wrong credentials, no such bucket, no right
    │       └── RedisRefused          wrong password, no right, a Redis that evicts
    └── RetryableError                the same call may succeed later
        ├── ServiceUnreachable        a service does not answer (exit 3)
        │   ├── StorageUnreachable
        │   └── RedisUnreachable
        ├── OutOfMemory               the device has no room for this job now
        ├── JobHeld                   another worker paints this very job, or is to try it
        ├── PaintingStopped           this painting was told to stop
        └── BatchBusy                 another command enqueues this very batch

Every message is a sentence that says what is wrong and what to do about it.
``exit_code`` is what the command line ends with when the error reaches it.
"""

from typing import ClassVar


class MedleyError(Exception):
    """Something medley can name went wrong."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "error"
    """How outcomes, ``failures.jsonl`` and metrics call it."""


class PermanentError(MedleyError):
    """Trying the same thing again will fail again."""


class RetryableError(MedleyError):
    """The same call may succeed later."""


class UsageError(PermanentError):
    """What was asked for cannot be done as asked; change the request."""

    exit_code = 2
    kind = "usage"


class DatasetError(UsageError):
    """The dataset has no pictures, or is not as it was described."""

    kind = "dataset"


class BatchConflict(UsageError):
    """A batch of this name exists and was asked for with other arguments."""

    kind = "conflict"


class BatchStopped(UsageError):
    """The batch is paused or cancelled, so nothing of it is enqueued; resume it first."""

    kind = "stopped"


class ImageError(PermanentError):
    """A picture cannot be read, or is over the limits; mend or remove the file."""

    kind = "image"


class WeightsError(PermanentError):
    """The network's weights are missing or are not the ones the job names."""

    exit_code = 2
    kind = "weights"


class NumbersError(PermanentError):
    """The optimisation ended in NaN or in one flat colour; nothing was stored."""

    kind = "numbers"


class ObjectMissing(PermanentError):
    """Storage holds nothing under this key."""

    kind = "missing"


class ServiceRefused(PermanentError):
    """A service answers and says no; mend its configuration or the credentials."""

    exit_code = 3
    kind = "refused"


class StorageRefused(ServiceRefused):
    """Storage refuses: wrong credentials, no such bucket, or no right to do this."""

    kind = "storage"


class RedisRefused(ServiceRefused):
    """Redis refuses: wrong password, or no right to do this."""

    kind = "redis"


class ServiceUnreachable(RetryableError):
    """A service does not answer; start it, or mend its URL or the network."""

    exit_code = 3
    kind = "unreachable"


class StorageUnreachable(ServiceUnreachable):
    """Storage does not answer."""

    kind = "storage"


class RedisUnreachable(ServiceUnreachable):
    """Redis does not answer."""

    kind = "redis"


class OutOfMemory(RetryableError):
    """The device has no room for this job now."""

    kind = "resource"


class JobHeld(RetryableError):
    """Another worker reports that it paints this very job, or shall try what failed here."""

    kind = "held"


class PaintingStopped(RetryableError):
    """This painting was told to stop: its worker drains, or its batch is paused or cancelled.

    ``worth_keeping`` says whether someone will want to go on with it.
    """

    kind = "stopped"

    def __init__(self, message: str, *, worth_keeping: bool = True) -> None:
        super().__init__(message)
        self.worth_keeping = worth_keeping


class BatchBusy(RetryableError):
    """Another command enqueues this very batch; wait a minute, or see that it is not hung."""

    exit_code = 3
    kind = "busy"
