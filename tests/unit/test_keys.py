"""Where everything lies in storage: others read these places, so they stay."""

from medley import keys
from medley.storage.contract import is_key

JOB, DIGEST = "0123456789abcdef" * 2, "0123456789abcdef" * 4


def test_everything_lies_where_it_is_looked_for() -> None:
    assert keys.input_picture(f"{DIGEST}.jpg") == f"inputs/{DIGEST}.jpg"
    assert keys.model(DIGEST) == f"models/{DIGEST}"
    assert keys.attempt(JOB, "t0k3n") == f"jobs/{JOB}/t0k3n/"
    assert keys.frame(JOB, "t0k3n", 40) == f"jobs/{JOB}/t0k3n/frames/000040.jpg"
    assert keys.pastiche(JOB, "t0k3n") == f"jobs/{JOB}/t0k3n/pastiche.png"
    assert keys.result(JOB) == f"jobs/{JOB}/result.json"
    assert keys.open_batch("night") == "open/night"
    assert keys.batch_folder("night") == "batches/night/"
    assert keys.batch("night") == "batches/night/batch.json"
    assert keys.manifest("night", DIGEST) == f"batches/night/jobs-{DIGEST}.jsonl"
    assert keys.outcomes("night") == "batches/night/outcomes/"
    assert keys.outcome("night", JOB, "done") == f"batches/night/outcomes/{JOB}.done.json"
    assert keys.outcome("night", JOB, "failed") == f"batches/night/outcomes/{JOB}.failed.json"
    assert keys.contact_sheet("night") == "batches/night/contact_sheet.jpg"
    assert keys.failures("night") == "batches/night/failures.jsonl"
    assert keys.finished("night") == "batches/night/finished.json"


def test_frames_are_listed_in_the_order_of_their_steps() -> None:
    steps = [0, 1, 9, 10, 99, 100, 5_000, 999_999]
    assert sorted(keys.frame(JOB, "t", step) for step in steps) == [keys.frame(JOB, "t", step) for step in steps]


def test_the_longest_name_makes_keys() -> None:
    name = "n" * 100
    for key in (
        keys.batch(name),
        keys.manifest(name, DIGEST),
        keys.outcome(name, JOB, "failed"),
        keys.open_batch(name),
    ):
        assert is_key(key)
        assert len(key) < 1024  # S3's limit, less what a prefix takes
