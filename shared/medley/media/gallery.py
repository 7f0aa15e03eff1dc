"""The gallery: pages of pictures that open in any browser, from a folder or a server, and need nothing but themselves.

Every path that goes in is relative to the page, with ``/`` on every system and *not* percent-encoded: the pages encode
them. Names and texts may be anything. A page runs only the script and the style that it carries (it says so in a
Content-Security-Policy), and without the script its pictures are links.
"""

import base64
import functools
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from medley.media.templates import spoken_loss, templates

if TYPE_CHECKING:
    from jinja2 import Template

PAIRS_A_PAGE = 60
"""As many as load quickly and are still looked through."""

_FILES = resources.files("medley.media")


@dataclass(frozen=True)
class Input:
    """An input picture: what people call it, and the path of a small JPEG of it, "" where there is none."""

    name: str
    preview: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One pair of a batch.

    ``picture`` is the path of the finished PNG, "" where there is none, and ``problem`` says why. ``preview`` is the
    path of its small JPEG; without one the PNG is shown small. ``size`` is the picture's (width, height) in px.
    ``frames`` are (step, path) by rising step: step 0 is the photo, or what else the painting began with. ``losses``
    are (step, loss) by rising step. ``facts`` of a picture are shown as they are: device, worker, weights.
    """

    title: str
    content: Input
    styles: Sequence[Input] = ()
    picture: str = ""
    preview: str = ""
    size: tuple[int, int] | None = None
    frames: Sequence[tuple[int, str]] = ()
    losses: Sequence[tuple[int, float]] = ()
    loss: float | None = None
    seconds: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a gallery. ``number`` counts from 1, and ``urls`` are the paths of all pages, from this one.

    The video and the ``skipped_files`` (file, reason) are best given to the first page alone. ``done``, ``failed`` and
    ``skipped`` count the whole batch; where ``done`` is None, as of a walk, they are not shown. ``filmstrip`` are paths
    of frames of a video of ``video_size`` (width, height) in px.
    """

    batch: str
    finished_at: datetime
    number: int = 1
    urls: Sequence[str] = ("index.html",)
    entries: Sequence[Entry] = ()
    video: str = ""
    video_size: tuple[int, int] | None = None
    sheet: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    done: int | None = None
    failed: int = 0
    skipped: int = 0
    skipped_files: Sequence[tuple[str, str]] = ()
    filmstrip: Sequence[str] = ()


def gallery_page(page: Page) -> bytes:
    """A page as HTML in UTF-8."""
    ways = [_way(entry) if entry.picture else {} for entry in page.entries]
    return _template().render(page=page, poster=_poster(page), mat=_mat(page.entries), ways=ways).encode()


def url(path: str) -> str:
    """A path as a relative URL of ASCII letters: nothing in it is a scheme, a host, a query or a fragment."""
    path = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", path)  # what no file system has
    # The rest of the surrogates are bytes of names on disk that are not UTF-8, and come out as those bytes.
    encoded = quote(path.encode(errors="surrogateescape"))
    return f".{encoded}" if encoded.startswith("/") else encoded


def _mat(entries: Sequence[Entry]) -> str:
    """The shape of the cards, after the pictures' usual shape: one that fits most of them leaves least empty."""
    ratios = sorted(entry.size[0] / entry.size[1] for entry in entries if entry.size)
    usual = ratios[len(ratios) // 2] if ratios else 4 / 3
    return "tall" if usual < 0.87 else "square" if usual < 1.16 else "wide"


def _poster(page: Page) -> str:
    """What stands in the video's place until it plays; of the video's shape, as that place takes its shape."""
    if page.filmstrip:
        return page.filmstrip[0]
    if page.video_size is None:
        return ""
    wanted = page.video_size[0] / page.video_size[1]
    alike = (e.preview for e in page.entries if e.size and abs(e.size[0] / e.size[1] / wanted - 1) < 0.05)
    return next(filter(None, alike), "")


def _way(entry: Entry) -> dict[str, Any]:
    """How a picture came to be, for the slider: the frames before it, whose URLs' common parts are told once.

    The picture itself takes the place of a frame that was kept at the last step.
    """
    last = max((step for step, _ in (*entry.frames[-1:], *entry.losses[-1:])), default=0)
    frames = [(step, url(path)) for step, path in entry.frames if step < last]
    if not frames:
        return {}
    before, after = _in_common([path for _, path in frames])
    losses = dict(entry.losses)
    return {
        "before": before,
        "names": [path[len(before) : len(path) - len(after)] for _, path in frames],
        "after": after,
        "steps": [step for step, _ in frames] + [last],
        "losses": [spoken_loss(losses.get(step)) for step, _ in frames] + [spoken_loss(losses.get(last, entry.loss))],
    }


def _in_common(urls: Sequence[str]) -> tuple[str, str]:
    """What all URLs begin and end with; the two never overlap."""
    before = os.path.commonprefix(urls)  # noqa: RUF071 - letter by letter is what is meant
    after = os.path.commonprefix([each[len(before) :][::-1] for each in urls])[::-1]  # noqa: RUF071
    return before, after


@functools.cache
def _template() -> "Template":
    """The page with its style and script, whose digests its policy names."""
    from markupsafe import Markup

    style, script = ((_FILES / name).read_text("utf-8") for name in ("gallery.css", "gallery.js"))
    environment = templates(_FILES)
    environment.filters["url"] = url
    environment.globals |= {
        "style": Markup(style),  # noqa: S704 - our own file
        "script": Markup(script),  # noqa: S704
        "policy": _policy(style, script),
    }
    return environment.get_template("gallery.html.j2")


def _policy(style: str, script: str) -> str:
    """Pictures and video from where the page lies, which is ``file:`` for a folder; and nothing else from anywhere."""
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src 'self' file: data:; media-src 'self' file:; "
        f"style-src {_digest(style)}; script-src {_digest(script)}"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
