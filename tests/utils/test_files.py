"""Files are written whole or not at all, failures say where and why, images are listed in natural order."""

import errno
import os
from collections import Counter
from pathlib import Path

import pytest

from stemseg.utils import files
from stemseg.utils.errors import DataError, OutputError
from stemseg.utils.files import (
    file_name,
    list_images,
    make_folder,
    name_of_file,
    replacing,
    user_path,
    write_bytes,
    write_file,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read_and_nothing_stays_beside_it(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "ä\n")
    write_bytes(tmp_path / "new" / "a.bin", b"\0\xff")
    write_file(tmp_path / "new" / "a.csv", lambda file: file.write(b"1,2"))
    assert (tmp_path / "new" / "a.txt").read_bytes() == "ä\n".encode()
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"\0\xff"
    assert (tmp_path / "new" / "a.csv").read_bytes() == b"1,2"
    assert names(tmp_path / "new") == ["a.bin", "a.csv", "a.txt"]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("old")
    with replacing(path, suffix=".mp4") as part:
        assert part.parent == tmp_path and part.suffix == ".mp4"
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("durable", [True, False])
def test_the_disk_has_the_content_before_the_name_changes(tmp_path, monkeypatch, durable):
    """The order is what makes a file whole after a power failure."""
    done = []
    monkeypatch.setattr(files, "_sync", lambda path: done.append(("sync", path.name)))
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: done.append(("replace", "")) or replace(self, target))
    write_bytes(tmp_path / "a.txt", b"new", durable=durable)
    synced = [("sync", "a.txt.part"), ("replace", ""), ("sync", tmp_path.name)]
    assert done == (synced if durable else [("replace", "")])


def test_an_error_while_writing_leaves_the_old_file_and_is_passed_on(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def stop_half_way(file):
        file.write(b"ne")
        raise DataError("the third entry is damaged")

    with pytest.raises(DataError, match="third entry"):
        write_file(path, stop_half_way)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_a_full_disk_is_named_with_the_path_and_a_way_out(tmp_path):
    def fill_up(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match=r"could not write .*a\.txt: No space left on device; free some space"):
        write_file(tmp_path / "a.txt", fill_up)
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_is_not_writable_is_named(tmp_path, monkeypatch, code):
    def refuse(self, *args, **kwargs):
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutputError, match=r"could not write .*a\.txt: .*choose another folder, or change the permiss"):
        write_text(tmp_path / "a.txt", "x")


def test_an_error_of_another_file_is_not_taken_for_one_of_this(tmp_path):
    with pytest.raises(FileNotFoundError, match="source"):
        write_file(tmp_path / "a.txt", lambda file: (tmp_path / "source").read_text())


def test_impossible_paths_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"could not make the folder .*file/sub: Not a directory; .*is a file"):
        write_text(tmp_path / "file" / "sub" / "a.txt", "x")
    with pytest.raises(OutputError, match=r"could not make the folder .*file: File exists; .*is a file"):
        make_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="File name too long; choose a shorter name"):
        write_text(tmp_path / ("a" * 300), "x")
    with pytest.raises(OutputError, match=r"could not write .*folder: Is a directory"):
        write_text(tmp_path / "folder", "x")
    assert names(tmp_path) == ["file", "folder"]


def test_any_name_becomes_one_file_and_comes_back():
    assert file_name("bmx-trees") == "bmx-trees"
    assert file_name("0f5b_1") == "0f5b_1"
    assert file_name(17) == "17"
    assert "/" not in file_name("../x")
    assert name_of_file(file_name("a/b %41 ü")) == "a/b %41 ü"


def test_images_are_listed_by_number_and_other_files_left_out(tmp_path):
    for name in ("10.jpg", "9.PNG", "a2.jpg", "a10.jpg", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["9.PNG", "10.jpg", "a2.jpg", "a10.jpg"]


def test_folders_without_images_are_named(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        list_images(tmp_path)
    with pytest.raises(DataError, match="none does not exist"):
        list_images(tmp_path / "none")


def test_what_is_no_frame_of_a_folder_is_counted(tmp_path):
    for name in ("1.jpg", ".hidden.png", "._1.jpg", ".DS_Store", "notes.txt", "Thumbs.db"):
        (tmp_path / name).touch()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "more").mkdir()
    left_out = Counter()
    assert [path.name for path in list_images(tmp_path, left_out)] == ["1.jpg"]
    no_images = {"files that are no images (.txt)": 1, "files that are no images (.db)": 1}
    assert left_out == {"hidden files": 4, "folders": 1, **no_images}


def test_a_frame_that_is_missing_or_there_twice_is_refused(tmp_path):
    (tmp_path / "00000.jpg").touch()
    (tmp_path / "00001.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match=r"00001.jpg is a link to nothing; put the image there, or remove it"):
        list_images(tmp_path)
    (tmp_path / "00001.jpg").unlink()
    (tmp_path / "00000.png").touch()
    with pytest.raises(DataError, match=r"00000.jpg and 00000.png would be the same frame"):
        list_images(tmp_path)


@pytest.mark.parametrize(("text", "expected"), [("a\0b", "zero byte"), ("~nobody_at_all/x", "of an unknown user")])
def test_paths_that_cannot_be_are_named(text, expected):
    with pytest.raises(DataError, match=expected):
        user_path(text)
    assert user_path("~") == Path.home()


def test_an_image_whose_name_is_no_utf8_is_refused_where_it_is_listed(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"x")
    with pytest.raises(DataError, match=r"\\udcff.png' has a name that is no UTF-8"):
        list_images(tmp_path)
