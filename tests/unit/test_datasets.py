"""A pool of files, folders, globs and CSVs is the same list of pictures wherever it lies."""

import os
import random
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from medley.errors import DatasetError
from medley.settings import Settings
from medley_producer.datasets import scanning as datasets
from medley_producer.datasets.buckets import Buckets
from medley_producer.datasets.entries import Entry
from medley_producer.datasets.scanning import Scanned

PAINTINGS = """artist,date,genre,style,title,in_train,new_filename
Claude Monet,1872,marina,Impressionism,"Impression, Sunrise",False,1.jpg
Claude Monet,1899,landscape,Impressionism,Water Lilies,True,2.jpg
Katsushika Hokusai,1831,marina,Ukiyo-e,"The ""Great"" Wave",False,sub/3.jpg
,1900,landscape,Impressionism,Nameless,False,4.jpg
"""


def scanned(pool: Sequence[str], **said: Any) -> Scanned:
    return datasets.scan(pool, Buckets(Settings.load()), **said)


def scan(pool: Sequence[str], **said: Any) -> list[Entry]:
    """The pictures of a pool of which nothing is skipped."""
    entries, skipped = scanned(pool, **said)
    assert skipped == []
    return entries


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


def refusal(*pool: str, **said: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        scan(pool, **said)
    return str(caught.value)


def test_folder_gives_its_pictures_in_order_of_name(tmp_path: Path) -> None:
    make(
        tmp_path, "b.JPG", "a/z.png", "a.jpeg", "Z.webp", "x.txt", ".hidden.jpg", ".cache/x.jpg", "é 夜.tiff", "c.heif"
    )
    (tmp_path / "folder.jpg").mkdir()
    entries = scan([str(tmp_path)])
    assert names(entries) == ["Z.webp", "a.jpeg", "a/z.png", "b.JPG", "c.heif", "é 夜.tiff"]
    assert all(entry[1:] == (str(tmp_path / entry.name), None, None) for entry in entries)


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
    assert Path(entry.where).exists()


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
        Entry("a.jpg", str(tmp_path / "photos" / "a.jpg")),
        Entry("b.jpg", str(tmp_path / "b.jpg")),
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
    assert [(entry.name, Path(entry.where).parent.name) for entry in entries] == [
        ("a-2.jpg", "one"),
        ("a-3.jpg", "two"),
        ("a-4.jpg", "three"),
        ("a.jpg", "one"),
    ]


def test_csv_names_pictures_with_labels_whether_they_exist_or_not(tmp_path: Path) -> None:
    entries = scan([paintings(tmp_path)])
    assert entries == [
        Entry("1.jpg", str(tmp_path / "1.jpg"), "Claude Monet, Impression, Sunrise"),
        Entry("2.jpg", str(tmp_path / "2.jpg"), "Claude Monet, Water Lilies"),
        Entry("4.jpg", str(tmp_path / "4.jpg"), "Nameless"),
        Entry("sub/3.jpg", str(tmp_path / "sub" / "3.jpg"), 'Katsushika Hokusai, The "Great" Wave'),
    ]


def test_csv_rows_are_chosen_by_all_conditions(tmp_path: Path) -> None:
    pool = [paintings(tmp_path)]
    assert names(scan(pool, where=["style=Impressionism", "in_train=False"])) == ["1.jpg", "4.jpg"]
    assert names(scan(pool, where=["title=Impression, Sunrise"])) == ["1.jpg"]
    assert names(scan(pool, where=["artist="])) == ["4.jpg"]


def test_csv_pictures_lie_below_the_root_that_is_given(tmp_path: Path) -> None:
    (entry, *_) = scan([paintings(tmp_path)], image_root=str(tmp_path / "test"))
    assert entry[:2] == ("1.jpg", str(tmp_path / "test" / "1.jpg"))


def test_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = paintings(tmp_path, '\ufefffilename,title\r\n./a//b.jpg,"Two\r\nlines"\r\n,empty\r\nc.jpg\r\n')
    assert scan([path]) == [
        Entry("a/b.jpg", str(tmp_path / "a" / "b.jpg"), "Two\r\nlines"),
        Entry("c.jpg", str(tmp_path / "c.jpg")),
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
    assert "download its pictures first" in refusal("https://example.org/photos/a.jpg")
    assert "has no column picture; it has artist, date" in refusal(table, image_column="picture")
    assert "has no column colour; it has artist, date" in refusal(table, where=("colour=red",))
    assert "None of the 4 rows" in refusal(table, where=("style=Impressionism", "genre=portrait"))
    assert "write column=value" in refusal(table, where=("Impressionism",))
    assert "names a picture in its column filename" in refusal(paintings(tmp_path, "filename\n"))
    assert "has no column filename; it has none" in refusal(paintings(tmp_path, ""))
    (tmp_path / "latin.csv").write_bytes("filename\nCézanne.jpg\n".encode("latin-1"))
    assert "not a CSV in UTF-8" in refusal(str(tmp_path / "latin.csv"))


def test_csv_of_urls_is_refused(tmp_path: Path) -> None:
    path = paintings(tmp_path, "filename\na.jpg\nhttps://example.org/b.jpg\n")
    assert "Row 3 of" in refusal(path)
    assert "names https://example.org/b.jpg" in refusal(path)
    assert "download them first" in refusal(path)


CLIMBING = ("../a.jpg", "x/../../a.jpg", "/etc/passwd", "..", "/")


def test_rows_that_climb_out_of_the_root_are_skipped_by_name(tmp_path: Path) -> None:
    rows = [*CLIMBING, "sub/../b.jpg", f"{tmp_path}/root/c.jpg", "..d.jpg"]
    path = paintings(tmp_path, "\n".join(["filename", *rows]))
    found = scanned([path], image_root=str(tmp_path / "root"))
    assert names(found.entries) == ["..d.jpg", "b.jpg", "c.jpg"]
    assert all(entry.where == str(tmp_path / "root" / entry.name) for entry in found.entries)
    assert [file.name for file in found.skipped] == list(CLIMBING)
    for number, file in enumerate(found.skipped, start=2):
        assert f"Row {number} of {path} names {file.name}, which does not lie below {tmp_path}/root" in file.reason
        assert "--image-root" in file.reason
    assert len(scan([path], image_root="/")) == 6, "what lies below a wider root was skipped"


def test_csv_with_nothing_but_rows_that_climb_out_is_refused(tmp_path: Path) -> None:
    assert "Not one picture can be used: 1 were skipped. The first: Row 2" in refusal(
        paintings(tmp_path, "filename\n../a.jpg\n")
    )


def test_rows_may_spell_the_root_as_it_was_typed(tmp_path: Path) -> None:
    make(tmp_path / "disk", "a.jpg")
    (tmp_path / "link").symlink_to("disk")
    path = paintings(tmp_path, f"filename\n{tmp_path}/link/a.jpg\n{tmp_path}/disk/a.jpg\n")
    assert scan([path], image_root=str(tmp_path / "link")) == [Entry("a.jpg", str(tmp_path / "disk" / "a.jpg"))]


@pytest.mark.parametrize("torn", ['b.jpg,"Cub', '"b.jp', '"b.jpg\nc.jpg,Cubism\n'])
def test_torn_csv_loses_its_last_row_only(torn: str, tmp_path: Path) -> None:
    found = scanned([paintings(tmp_path, f"filename,style\na.jpg,Cubism\n{torn}")], where=["style=Cubism"])
    assert names(found.entries) == ["a.jpg"]
    assert [file.reason.partition(" of ")[0] for file in found.skipped] == ["Row 3"]
    assert "a quote that it opens is never closed" in found.skipped[0].reason


def test_rows_with_nul_are_skipped(tmp_path: Path) -> None:
    found = scanned([paintings(tmp_path, "filename,title\na.jpg,ti\0tle\nb\0.jpg,b\n")])
    assert names(found.entries) == ["a.jpg"]
    assert "b\\x00.jpg, which holds a NUL" in found.skipped[0].reason


HOSTILE = {
    "binary": bytes(range(256)) * 40,
    "UTF-16": "filename\na.jpg\n".encode("utf-16"),
    "UTF-16 without a mark": "filename\na.jpg\n".encode("utf-16-le"),
    "one long line": b"filename," + b"a" * 1_500_000,
    "one long cell": b"filename\n" + b"a" * 200_000 + b"\n",
    "a quote that swallows all": b'filename\n"a.jpg\n' + b"b.jpg\n" * 30_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_csv_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(HOSTILE[kind])
    said = refusal(str(tmp_path / "table.csv"))
    assert f"{tmp_path}/table.csv is not a CSV in UTF-8" in said
    assert said.isprintable()


def test_csv_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    assert "pipe.csv is not a regular file" in refusal(str(tmp_path / "pipe.csv"))
    assert "zero.csv is not a regular file" in refusal(str(tmp_path / "zero.csv"))


def test_things_called_like_pictures_are_left_to_the_probe(tmp_path: Path) -> None:
    make(tmp_path, 'a "quoted"\nname.jpg')
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    entries = scan([str(tmp_path)])
    assert names(entries) == ['a "quoted"\nname.jpg', "fifo.jpg", "zero.jpg"]
    assert stat.S_ISFIFO(Path(entries[1].where).stat().st_mode)


def test_a_folder_below_that_cannot_be_read_is_skipped(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):  # deeper than a path may be long: nobody can read that, whatever their rights
        os.mkdir("d" * 250, dir_fd=here)
        inside = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside
    os.close(here)
    found = scanned([str(tmp_path)])
    assert names(found.entries) == ["a.jpg"]
    assert "cannot be read (File name too long)" in found.skipped[0].reason
    assert "/".join(["d" * 250] * 15) in found.skipped[0].name


def test_progress_is_told_by_the_thousand(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    path = paintings(tmp_path, "filename\n" + "".join(f"{n}.jpg\n" for n in range(2500)))
    scan([path], told=lambda *told: heard.append(told))
    assert heard == [("scanning", 1000, 0), ("scanning", 2000, 0)]


def test_hundred_thousand_rows_take_seconds(tmp_path: Path) -> None:
    path = paintings(tmp_path, "filename,artist\n" + "".join(f"{n % 97}/{n}.jpg,A\n" for n in range(100_000)))
    start = time.monotonic()
    assert len(scan([path])) == 100_000
    assert time.monotonic() - start < 10
