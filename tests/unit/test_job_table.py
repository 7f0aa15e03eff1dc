"""The table of a batch's jobs on disk."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from medley.batches.job_table import JobTable
from medley.errors import StorageRefused

SEED = 6


def ids(count: int, seed: int = SEED) -> Iterator[str]:
    rng = random.Random(seed)
    return (f"{rng.getrandbits(128):032x}" for _ in range(count))


def test_a_job_is_counted_once_and_keeps_its_first_value() -> None:
    first, second, third = ids(3)
    with JobTable() as table:
        assert table.put([(first, "done"), (second, "failed"), (first, "failed")]) == 2
        assert table.put([(second, "done"), (third, "done")]) == 1
        assert len(table) == 3
        assert (table.count("done"), table.count("failed"), table.count("other")) == (2, 1, 0)
        assert table.values([third, second, first]) == {first: "done", second: "failed", third: "done"}


def test_jobs_that_are_not_there_have_no_value() -> None:
    there, absent = ids(2)
    with JobTable() as table:
        assert table.values([absent]) == {}
        table.put([(there, "")])
        assert table.values([absent, there]) == {there: ""}
        assert table.values([]) == {}


def test_a_table_is_read_while_its_rows_still_come() -> None:
    with JobTable() as table:

        def coming() -> Iterator[tuple[str, str]]:
            for job in ids(2_000):
                assert not table.values([job])
                yield job, "done"

        assert table.put(coming()) == 2_000 == len(table) == table.count("done")
        assert len(table.values(list(ids(2_000)))) == 2_000


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with JobTable() as table:
        table.put((job, "done") for job in ids(10))
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_temporary_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    monkeypatch.setattr(tempfile, "tempdir", str(gone))
    with pytest.raises(StorageRefused, match=rf"{gone} cannot .* set TMPDIR"), JobTable():
        pass


def test_a_full_disk_is_named() -> None:
    with JobTable() as table:
        table._db.execute("PRAGMA max_page_count = 3")
        with pytest.raises(StorageRefused, match=r"full.*Make room"):
            table.put((job, "done") for job in ids(1_000))


def test_an_error_of_the_rows_own_source_is_not_blamed_on_the_table() -> None:
    def broken() -> Iterator[tuple[str, str]]:
        yield next(ids(1)), "done"
        raise OSError("elsewhere")

    with JobTable() as table, pytest.raises(OSError, match="elsewhere"):
        table.put(broken())
