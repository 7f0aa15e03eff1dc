"""A pool of files, folders, globs and CSVs is the same list of pictures wherever it lies."""

import os
import random
import time
from pathlib import Path

import pytest

from medley.errors import DatasetError
from medley_producer.datasets import Entry, scan

PAINTINGS = """artist,date,genre,style,title,in_train,new_filename
Claude Monet,1872,marina,Impressionism,"Impression, Sunrise",False,1.jpg
Claude Monet,1899,landscape,Impressionism,Water Lilies,True,2.jpg
Katsushika Hokusai,1831,marina,Ukiyo-e,"The ""Great"" Wave",False,sub/3.jpg
,1900,landscape,Impressionism,Nameless,False,4.jpg
"""


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"not opened by a scan")
    return root


def names(entries: list[Entry]) -> list[str]:
    return [entry.name for entry in entries]


def paintings(root: Path, text: str = PAINTINGS) -> str:
    (root / "all_data_info.csv").write_text(text, encoding="utf-8")
    return str(root / "all_data_info.csv")


def refusal(*pool: str, where: tuple[str, ...] = (), image_column: str | None = None) -> str:
    with pytest.raises(DatasetError) as caught:
        scan(pool, where=where, image_column=image_column)
    return str(caught.value)


def test_folder_gives_its_pictures_in_order_of_name(tmp_path: Path) -> None:
    make(tmp_path, "b.JPG", "a/z.png", "a.jpeg", "Z.webp", "notes.txt", ".hidden.jpg", ".cache/x.jpg", "é 夜.tiff")
    (tmp_path / "folder.jpg").mkdir()
    entries = scan([str(tmp_path)])
    assert names(entries) == ["Z.webp", "a.jpeg", "a/z.png", "b.JPG", "é 夜.tiff"]
    assert all(entry.path == tmp_path / entry.name and entry.label is None for entry in entries)


def test_order_depends_neither_on_the_place_nor_on_the_file_system(tmp_path: Path) -> None:
    files = [f"{n % 7}/{n}.jpg" for n in range(60)]
    there = make(tmp_path / "there", *files)
    random.Random(1).shuffle(files)
    here = make(tmp_path / "else" / "where", *files)
    assert names(scan([str(there)])) == names(scan([str(here)])) == sorted(files)


def test_two_spellings_of_an_accent_are_one_name(tmp_path: Path) -> None:
    assert names(scan([str(make(tmp_path, "cafe\u0301.jpg"))])) == ["caf\u00e9.jpg"]


def test_names_that_are_not_unicode_can_be_written_down(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))).touch()
    (entry,) = scan([str(tmp_path)])
    assert entry.name.encode() == "caf\ufffd.jpg".encode()
    assert entry.path.exists()


def test_links_are_followed_and_loops_do_no_harm(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "a/1.jpg")
    make(tmp_path / "elsewhere", "2.jpg")
    for name, target in (("loop", "."), ("a/up", ".."), ("a/up2", ".."), ("more", "../elsewhere"), ("self", "self")):
        (root / name).symlink_to(target)
    (root / "broken.jpg").symlink_to("gone.jpg")  # skipped when it is probed
    assert names(scan([str(root)])) == ["a/1.jpg", "broken.jpg", "more/2.jpg"]
    assert names(scan([str(root / "**" / "*.jpg")])) == ["a/1.jpg", "broken.jpg"]


def test_globs_are_expanded(tmp_path: Path) -> None:
    make(tmp_path, "photos/a.jpg", "photos/b.png", "photos/sub/c.jpg", "photos/.h/d.jpg", "photos/e.txt")
    (tmp_path / "photos" / "f.jpg").mkdir()
    assert names(scan([f"{tmp_path}/photos/*.jpg"])) == ["a.jpg"]
    assert names(scan([f"{tmp_path}/photos/*"])) == ["a.jpg", "b.png"]
    assert names(scan([f"{tmp_path}/photos/**/*.jpg"])) == ["a.jpg", "sub/c.jpg"]
    assert names(scan([f"{tmp_path}/photos/**"])) == ["a.jpg", "b.png", "sub/c.jpg"]
    assert names(scan([f"{tmp_path}/p*/?.[jp]*g"])) == ["photos/a.jpg", "photos/b.png"]


def test_relative_items_are_found_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "photos/a.jpg", "b.jpg")
    monkeypatch.chdir(tmp_path)
    assert scan(["photos", "*.jpg"]) == [
        Entry("a.jpg", tmp_path / "photos" / "a.jpg"),
        Entry("b.jpg", tmp_path / "b.jpg"),
    ]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(tmp_path: Path) -> None:
    make(tmp_path, "a[1].jpg", "a1.jpg")
    assert names(scan([f"{tmp_path}/a[1].jpg"])) == ["a[1].jpg"]


def test_a_file_named_on_purpose_needs_no_suffix(tmp_path: Path) -> None:
    assert names(scan([str(make(tmp_path, "painting") / "painting")])) == ["painting"]


def test_each_picture_is_there_once(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.jpg")
    pool = [str(tmp_path), f"{tmp_path}/*.jpg", f"{tmp_path}/../{tmp_path.name}/a.jpg"]
    assert names(scan(pool)) == ["a.jpg", "b.jpg"]


def test_different_pictures_of_one_name_are_kept_and_numbered(tmp_path: Path) -> None:
    make(tmp_path, "one/a.jpg", "two/a.jpg", "three/a.jpg", "one/a-2.jpg")
    entries = scan([f"{tmp_path}/{folder}" for folder in ("one", "two", "three")])
    assert [(entry.name, entry.path.parent.name) for entry in entries] == [
        ("a-2.jpg", "one"),
        ("a-3.jpg", "two"),
        ("a-4.jpg", "three"),
        ("a.jpg", "one"),
    ]


def test_csv_names_pictures_with_labels_whether_they_exist_or_not(tmp_path: Path) -> None:
    entries = scan([paintings(tmp_path)])
    assert entries == [
        Entry("1.jpg", tmp_path / "1.jpg", "Claude Monet, Impression, Sunrise"),
        Entry("2.jpg", tmp_path / "2.jpg", "Claude Monet, Water Lilies"),
        Entry("4.jpg", tmp_path / "4.jpg", "Nameless"),
        Entry("sub/3.jpg", tmp_path / "sub" / "3.jpg", 'Katsushika Hokusai, The "Great" Wave'),
    ]


def test_csv_rows_are_chosen_by_all_conditions(tmp_path: Path) -> None:
    pool = [paintings(tmp_path)]
    assert names(scan(pool, where=["style=Impressionism", "in_train=False"])) == ["1.jpg", "4.jpg"]
    assert names(scan(pool, where=["title=Impression, Sunrise"])) == ["1.jpg"]
    assert names(scan(pool, where=["artist="])) == ["4.jpg"]


def test_csv_pictures_lie_below_the_root_that_is_given(tmp_path: Path) -> None:
    (entry, *_) = scan([paintings(tmp_path)], image_root=str(tmp_path / "test"))
    assert entry[:2] == ("1.jpg", tmp_path / "test" / "1.jpg")


def test_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = paintings(tmp_path, '\ufefffilename,title\r\n./a//b.jpg,"Two\r\nlines"\r\n,empty\r\nc.jpg\r\n')
    assert scan([path]) == [
        Entry("a/b.jpg", tmp_path / "a" / "b.jpg", "Two\r\nlines"),
        Entry("c.jpg", tmp_path / "c.jpg"),
    ]


def test_filename_goes_before_new_filename_and_what_is_asked_for_before_both(tmp_path: Path) -> None:
    path = paintings(tmp_path, "new_filename,filename,scan\nnew.jpg,old.jpg,scan.jpg\n")
    assert names(scan([path])) == ["old.jpg"]
    assert names(scan([path], image_column="scan")) == ["scan.jpg"]


def test_conditions_leave_folders_alone(tmp_path: Path) -> None:
    make(tmp_path / "photos", "a.jpg")
    pool = [paintings(tmp_path), str(tmp_path / "photos")]
    assert names(scan(pool, where=["style=Ukiyo-e"])) == ["a.jpg", "sub/3.jpg"]


def test_every_mistake_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make(tmp_path / "texts", "a.txt", "b.doc")
    table = paintings(tmp_path)
    assert "empty is empty" in refusal(str(tmp_path / "empty"))
    assert "holds 2 files and none of them is called like a picture" in refusal(str(tmp_path / "texts"))
    assert "gone.jpg does not exist" in refusal(str(tmp_path / "gone.jpg"))
    assert "*.jpg matches no file" in refusal(f"{tmp_path}/texts/*.jpg")
    assert "not supported yet" in refusal("s3://bucket/photos")
    assert "has no column picture; it has artist, date" in refusal(table, image_column="picture")
    assert "has no column colour; it has artist, date" in refusal(table, where=("colour=red",))
    assert "None of the 4 rows" in refusal(table, where=("style=Impressionism", "genre=portrait"))
    assert "write column=value" in refusal(table, where=("Impressionism",))
    assert "names a picture in its column filename" in refusal(paintings(tmp_path, "filename\n"))
    assert "has no column filename; it has none" in refusal(paintings(tmp_path, ""))
    (tmp_path / "latin.csv").write_bytes("filename\nCézanne.jpg\n".encode("latin-1"))
    assert "not a CSV in UTF-8" in refusal(str(tmp_path / "latin.csv"))


def test_hundred_thousand_rows_take_seconds(tmp_path: Path) -> None:
    path = paintings(tmp_path, "filename,artist\n" + "".join(f"{n % 97}/{n}.jpg,A\n" for n in range(100_000)))
    start = time.monotonic()
    assert len(scan([path])) == 100_000
    assert time.monotonic() - start < 10
