"""From the arguments of ``run`` and ``submit`` to what is asked for, and under which name."""

import hashlib
from argparse import Namespace
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from medley.batches.notifying import checked_url
from medley.errors import UsageError
from medley.records.base import BatchName, canonical_json
from medley.records.batches import Sampling
from medley.records.jobs import ENGINE
from medley.records.options import StyleTransferOptions
from medley.settings import Settings
from medley.telling import Told
from medley_producer.again import find_again
from medley_producer.choosing import Pools, picture_of
from medley_producer.datasets.entries import Entry, is_picture
from medley_producer.options.fields import record_from
from medley_producer.options.qualities import quality
from medley_producer.submit import Request
from medley_producer.weights import vgg_of


def request_of_run(args: Namespace, settings: Settings, told: Told) -> tuple[Request, Pools]:
    """What ``run`` is asked for, and its pools, scanned: pairs of them, or a picture once more.

    Raises:
        UsageError, DatasetError: it cannot be met.
    """
    if args.again:
        return _again(args, settings, told)
    if not (args.content and args.styles):
        raise UsageError("--content and --styles are needed, or --again FILE. `medley run -h` explains them.")
    sampling = record_from(Sampling, args)
    _require_apart(Path(args.out), sampling)
    options, init = _options(args, settings)
    vgg = vgg_of(settings)
    return _named(Request("run", sampling, options, init, args.strict, vgg), Pools.scan(sampling, settings, told))


def request_of_submit(args: Namespace, settings: Settings) -> Request:
    """What ``submit`` is asked for; its pools are scanned only if no batch has its name yet.

    Raises:
        UsageError: it cannot be met.
    """
    sampling, name = record_from(Sampling, args), dated_name(args.batch, args.date_format, datetime.now(UTC))
    options, init = _options(args, settings)
    sampling = sampling.model_copy(update={"sample_seed": sampling.sample_seed or name})
    notify = None if args.notify is None else checked_url(args.notify)
    return Request(name, sampling, options, init, args.strict, vgg_of(settings), notify)


def _options(
    args: Namespace, settings: Settings, base: StyleTransferOptions | None = None
) -> tuple[StyleTransferOptions, str | None]:
    """The options, and where the picture to begin with lies if ``--init`` names one.

    Raises:
        UsageError: a value is refused, or that picture cannot be used.
    """
    if args.quality:
        wanted = quality(args.quality)
        if args.size_pixels is not None:
            wanted.pop("size")
        vars(args).update({name: value for name, value in wanted.items() if getattr(args, name) is None})
    if base:
        # A longest side that was asked for then would count instead of pixels that are asked for now.
        overridden = [name for name in ("size", "style_size") if getattr(args, f"{name}_pixels") is not None]
        base = base.model_copy(update=dict.fromkeys(overridden))
    options = record_from(StyleTransferOptions, args, base)
    if args.init_file is None:
        return options, None
    picture = picture_of(Path(args.init_file), settings)
    return options.model_copy(update={"init": picture}), str(Path(args.init_file).absolute())


def batch_name(text: str) -> BatchName:
    """A batch's name, as it was typed.

    Raises:
        UsageError: it cannot be one.
    """
    try:
        return TypeAdapter(BatchName).validate_python(text)
    except ValidationError as error:
        raise UsageError(
            f"{text!r} cannot be a batch's name. Use up to 100 letters, digits, '.', '_' and '-', "
            "and begin with a letter or a digit."
        ) from error


DATE = "{date}"
"""What stands for today's date in the name of a batch that cron submits."""


def dated_name(text: str, date_format: str | None, now: datetime) -> BatchName:
    """A batch's name, with :data:`DATE` written as ``strftime`` writes ``now``; YYYY-MM-DD, without a format.

    Raises:
        UsageError: it cannot be one, or it has a format and no date.
    """
    if DATE not in text:
        if date_format is not None:
            raise UsageError(f"--date-format says how {DATE} is written, and --batch {text} has none. Add it there.")
        return batch_name(text)
    try:
        date = now.strftime("%Y-%m-%d" if date_format is None else date_format)
    except ValueError as error:
        raise UsageError(f"--date-format {date_format!r} is no format of strftime ({error}).") from error
    return batch_name(text.replace(DATE, date))


def _again(args: Namespace, settings: Settings, told: Told) -> tuple[Request, Pools]:
    if given := [name for name in _OF_PAIRS if getattr(args, name) not in (None, [])]:
        option = f"--{given[0].replace('_', '-')}"
        raise UsageError(f"{option} chooses pairs, and --again paints the pair that it was; leave {option} out.")
    if bool(args.content) != bool(args.styles):
        args.content = args.styles = args.content or args.styles  # wherever its pictures lie, they are found
    searched = Pools.scan(record_from(Sampling, args), settings, told) if args.content else None
    other_init = args.init or args.init_file
    vgg = vgg_of(settings)
    again = find_again(Path(args.again), Path(args.out), searched, settings, vgg.weights, with_init=not other_init)
    options, init = _options(args, settings, again.options)
    return _named(Request("run", again.sampling, options, init or again.init, args.strict, vgg), again.pools)


def _named(request: Request, pools: Pools) -> tuple[Request, Pools]:
    """The request of a ``run``, named by what it comes to: the same again goes on, and new or changed photos make a
    new batch, of the same random pairs as far as they exist.
    """
    sampling, sha256 = request.sampling, request.vgg.weights.sha256
    files = [[_version(entry) for entry in pool] for pool in (pools.contents, pools.styles)]
    what = [sampling.model_dump(mode="json"), request.options.model_dump(mode="json")]
    name = f"run-{short_digest([what, files, sha256, ENGINE])}"
    seed = sampling.sample_seed or short_digest(what[0])  # other options, the same pairs
    seeded = sampling.model_copy(update={"sample_seed": seed})
    return replace(request, name=name, sampling=seeded), pools


_OF_PAIRS = ("pairing", "pairs", "styles_per_pair", "style_weights", "sample_seed")


def _version(entry: Entry) -> list[str | int | None]:
    """What differs when the picture of an entry does."""
    if entry.version is not None:
        return [entry.name, entry.version]
    try:
        status = Path(entry.where).stat()
    except OSError:
        return [entry.name]
    return [entry.name, status.st_size, status.st_mtime_ns]


def short_digest(value: object) -> str:
    """Twelve hexadecimal digits that tell what was asked for from anything else."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:12]


def _require_apart(out: Path, sampling: Sampling) -> None:
    """Refuse to write results where photos are looked for, as the next run would paint them, or into a picture."""
    if is_picture(out.name) and not out.is_dir():
        raise UsageError(f"--out {out} is called like a picture, and names a folder, where a PNG for each pair goes.")
    for item in (*sampling.content, *sampling.styles):
        folder = Path(item)
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"--out {out} lies in {item}, so results would be taken for its pictures. Choose another.")
