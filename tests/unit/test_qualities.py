"""What ``--quality`` stands for."""

from itertools import pairwise

from medley.records.options import StyleTransferOptions
from medley_producer.options.qualities import QUALITIES, quality


def test_a_better_quality_is_larger_and_has_more_steps() -> None:
    assert QUALITIES == ("draft", "good", "best")
    options = [StyleTransferOptions.model_validate(quality(name)) for name in QUALITIES]
    for worse, better in pairwise(options):
        assert (worse.size or 0) < (better.size or 0)
        assert worse.num_steps < better.num_steps


def test_changing_what_was_asked_for_changes_no_quality() -> None:
    quality("draft").clear()
    assert quality("draft").keys() == {"size", "num_steps"}
