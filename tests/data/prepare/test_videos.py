"""Official trees of video datasets -> standard JSON -> the same masks, found by the loaders; and broken trees."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from stemseg.config import load_config
from stemseg.data.categories import load_category_space
from stemseg.data.prepare.davis import DavisSequence, convert
from stemseg.data.prepare.kitti_mots import SEQUENCES
from stemseg.data.prepare.main import main
from stemseg.data.sources import open_videos
from stemseg.datasets import DATASETS
from stemseg.structures.annotations import load_still_annotations, load_video_annotations
from stemseg.structures.rle import decode_rle
from tests.helpers import official_trees as trees
from tests.helpers.paths import SHARED_DIR


def run(*arguments):
    return main([*map(str, arguments), "--workers", "1"])


def opened(dataset, split, root, monkeypatch):
    """The file as the loaders open it; every frame must be where the loaders look."""
    monkeypatch.setenv(DATASETS[dataset].variable, str(root))
    annotations, image_dir = open_videos(dataset, split, load_config())
    load_video_annotations(annotations.source, check_masks=True)
    assert all((image_dir / path).is_file() for sequence in annotations for path in sequence.image_paths)
    return {sequence.id: sequence for sequence in annotations}


def masks(sequence, t):
    return {i: decode_rle(c, sequence.height, sequence.width) > 0 for i, c in sequence.segmentations[t].items()}


def assert_equals_id_maps(sequence, id_maps, leave_out=(0,)):
    assert len(sequence) == len(id_maps)
    for t, ids in enumerate(id_maps):
        expected = {int(i): ids == i for i in np.unique(ids) if i not in leave_out}
        found = masks(sequence, t)
        assert found.keys() == expected.keys()
        assert all((found[i] == expected[i]).all() for i in expected)


def test_davis_keeps_every_pixel(tmp_path, output, monkeypatch, capsys):
    truth = trees.davis(tmp_path)
    assert run("davis", tmp_path) == 0
    for split, names in (("train", ["bear", "two-dogs"]), ("val", ["car"])):
        sequences = opened("davis", split, tmp_path, monkeypatch)
        assert list(sequences) == names
        for name in names:
            assert_equals_id_maps(sequences[name], truth[name])
            assert set(sequences[name].categories.values()) == {1}
    report = capsys.readouterr().out
    assert "2 videos, 6 frames" in report and "3 void regions" in report and "DAVIS_BASE_DIR" in report


@pytest.mark.parametrize(
    ("dataset", "names", "layout"),
    [("youtube_vis", trees.CLASSES_2019, "2019"), ("ovis", trees.CLASSES_OVIS, "ovis")],
)
def test_youtube_vis_and_ovis_keep_every_pixel(tmp_path, output, monkeypatch, dataset, names, layout):
    truth = trees.youtube_vis(tmp_path, names, layout)
    assert run(dataset, tmp_path) == 0
    sequences = opened(dataset, "train", tmp_path, monkeypatch)
    assert list(sequences) == [7, 3]  # numbers, in the official order
    for video, tracks in truth.items():
        for instance, official in enumerate(sorted(tracks), start=1):
            category, expected = tracks[official]
            assert sequences[video].categories[instance] == category
            for t, mask in enumerate(expected):
                found = masks(sequences[video], t).get(instance)
                assert (found is None and mask is None) or (found == mask).all()
    test_set = opened(dataset, "val", tmp_path, monkeypatch)
    assert list(test_set) == [5] and not test_set[5].is_annotated


def test_youtube_vis_2021_has_its_own_names_and_layout(tmp_path, output, monkeypatch, capsys):
    names = list(load_category_space("youtube_vis_2021").names.values())
    trees.youtube_vis(tmp_path, names, "2021")
    assert run("youtube_vis_2021", tmp_path) == 0
    assert list(opened("youtube_vis_2021", "train", tmp_path, monkeypatch)) == [7, 3]
    assert run("youtube_vis", tmp_path) == 1  # the file of another year
    assert "category 1 is 'airplane', expected 'person'" in capsys.readouterr().err


@pytest.mark.parametrize(("dataset", "name"), [("ytvis", "youtube_vis_2019"), ("ytvis21", "youtube_vis_2021")])
def test_the_folder_that_mmtracking_keeps_several_years_in(tmp_path, output, dataset, name, capsys):
    names = {
        year: list(load_category_space(space).names.values())
        for year, space in (("2019", "youtube_vis"), ("2021", "youtube_vis_2021"))
    }
    for year in names:
        trees.youtube_vis(tmp_path, names[year])
        for split in ("train", "valid"):
            target = tmp_path / f"annotations/youtube_vis_{year}_{split}.json"
            target.parent.mkdir(exist_ok=True)
            (tmp_path / f"{split}.json").rename(target)
    assert run(dataset, tmp_path) == 0
    source = tmp_path / f"annotations/{name}_train.json"
    trees.edit_json(source, lambda content: content.update(images=[], videos=[{"id": 7, "name": "0007"}]))
    fails_with(capsys, output, source.name, "mmtracking", "--train_json", arguments=[dataset, tmp_path])


def test_a_file_that_a_flag_names_lies_below_root_or_here(tmp_path, output, monkeypatch, capsys):
    root, here = tmp_path / "root", tmp_path / "here"
    trees.youtube_vis(root)
    here.mkdir()
    monkeypatch.chdir(here)
    (root / "train.json").rename(root / "mine.json")
    assert run("ytvis", root, "--train_json", "mine.json") == 0
    (root / "mine.json").rename(here / "own.json")
    assert run("ytvis", root, "--train_json", "own.json") == 0
    fails_with(capsys, output, str(root / "none.json"), str(here / "none.json"),
               arguments=["ytvis", root, "--train_json", "none.json"])  # fmt: skip
    with pytest.raises(SystemExit):
        run("ytvis", "--help")
    assert "below ROOT or here" in capsys.readouterr().out


def test_a_partial_kitti_mots_says_how_to_convert_what_is_there(tmp_path, output, capsys):
    trees.kitti_mots(tmp_path, [*SEQUENCES["train"], *SEQUENCES["val"][:2], "0050"])
    shutil.rmtree(tmp_path / "instances/0050")
    fails_with(capsys, output, "the ground truth of 0008 not found", "the ground truth of 0050 not found", "--only",
               "--skip_invalid", arguments=["kitti_mots", tmp_path])  # fmt: skip
    assert run("kitti_mots", tmp_path, "--skip_invalid") == 0
    assert "2 videos" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["png", "txt"])
def test_kitti_mots_keeps_every_pixel(tmp_path, output, monkeypatch, form):
    root = tmp_path / "kitti"
    truth = trees.kitti_mots(root, [*SEQUENCES["train"], *SEQUENCES["val"]], form)
    truth["0050"] = trees.motschallenge(tmp_path / "mots")
    assert run("kitti_mots", root, "--motschallenge", tmp_path / "mots") == 0
    train, val = (opened("kitti_mots", split, root, monkeypatch) for split in ("train", "val"))
    assert tuple(train) == (*SEQUENCES["train"], "0050") and tuple(val) == SEQUENCES["val"]
    for name, sequence in {**train, **val}.items():
        assert_equals_id_maps(sequence, truth[name])
    assert train["0000"].categories == {1003: 1, 2001: 2, 10000: 3}


def test_kitti_mots_says_that_0050_is_absent(tmp_path, output, capsys):
    trees.kitti_mots(tmp_path, SEQUENCES["train"])
    assert run("kitti_mots", tmp_path, "--only", "train") == 0
    assert "--motschallenge" in capsys.readouterr().out


def fails_with(capsys, output, *expected, arguments):
    """The list of problems holds every one of the expected texts; no file with problems is written."""
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    for text in expected:
        assert text in error, error
    for path in output.glob("*_problems.txt"):
        assert not path.with_name(path.name.replace("_problems.txt", ".json")).exists()
    assert not list(output.glob("*.part"))


def test_davis_names_everything_that_is_wrong_at_once(tmp_path, output, capsys):
    trees.davis(tmp_path)
    annotations = tmp_path / "Annotations_unsupervised/480p"
    (annotations / "bear/00001.png").unlink()
    trees.write_palette_png(annotations / "two-dogs/00002.png", trees.id_map(0, [1], 10, 12))
    trees.write_image(annotations / "car/00000.png")  # a color picture
    (annotations / "car/00002.png").write_bytes((annotations / "car/00001.png").read_bytes()[:60])
    (tmp_path / "JPEGImages/480p/bear/00002.jpg").unlink()
    fails_with(
        capsys, output,
        "davis_train.json: bear: ", "bear/00001.png does not exist", "bear/00002.png has no image",
        "00002.png is 10 x 12, but its image is 24 x 40",
        "davis_val.json: car: ", "00000.png is a picture of mode RGB", "car/00002.png",
        arguments=["davis", tmp_path],
    )  # fmt: skip


def test_davis_2016_masks_are_recognized(tmp_path, output, capsys):
    truth = trees.davis(tmp_path)
    for t, ids in enumerate(truth["car"]):
        trees.write_palette_png(tmp_path / f"Annotations_unsupervised/480p/car/{t:05d}.png", 255 * (ids > 0))
    expected = "car: no frame has an object: every pixel is 0 or void (255)"
    fails_with(capsys, output, expected, "DAVIS 2016", arguments=["davis", tmp_path])


def test_davis_points_out_the_semi_supervised_download(tmp_path, output, capsys):
    trees.davis(tmp_path)
    (tmp_path / "Annotations_unsupervised").rename(tmp_path / "Annotations")
    fails_with(capsys, output, "semi-supervised", "--annotations_dir", arguments=["davis", tmp_path])
    assert run("davis", tmp_path, "--annotations-dir", "Annotations/480p") == 0


def test_youtube_vis_names_everything_that_is_wrong_at_once(tmp_path, output, capsys):
    trees.youtube_vis(tmp_path)

    def damage(content):
        first, second, third, fourth = content["annotations"]
        first["segmentations"][1]["size"] = [5, 6]
        second["segmentations"].pop()
        third["category_id"] = 99
        fourth["video_id"] = 1234
        content["videos"][0]["length"] = 8

    trees.edit_json(tmp_path / "train.json", damage)
    (tmp_path / "train/JPEGImages/0007/00001.jpg").unlink()
    trees.write_image(tmp_path / "valid/JPEGImages/0005/00002.jpg", height=8, width=8)
    fails_with(
        capsys, output,
        "annotation 203, frame 1: mask is 5 x 6, but its image is 24 x 40",
        "annotation 103: found 2 segmentations, expected one (or null) for each of the 3 frames",
        "annotation 207 has category 99",
        "annotation 107 is of video 1234, which the file does not list",
        "video 7: has length 8, but 3 file_names",
        "cannot read the image", "0007/00001.jpg does not exist",
        "video 5: ", "00002.jpg is 8 x 8",
        arguments=["youtube_vis", tmp_path],
    )  # fmt: skip
    assert len((output / "youtube_vis_train_problems.txt").read_text().splitlines()) == 6


def test_youtube_vis_damaged_masks_and_entries_are_named(tmp_path, output, capsys):
    trees.youtube_vis(tmp_path)

    def damage(content):
        by_id = {a["id"]: a for a in content["annotations"]}
        by_id[107]["segmentations"][1]["counts"] = "0"
        by_id[207]["segmentations"][1] = "what"
        by_id[103]["segmentations"][1]["counts"][0] += 1
        by_id[203]["segmentations"][1].pop("counts")
        del content["videos"][1]["height"]

    trees.edit_json(tmp_path / "train.json", damage)
    fails_with(
        capsys, output,
        "annotation 107, frame 1: RLE counts '0' cover 0 pixels", "segmentation is 'what'", "key 'height' is missing",
        arguments=["youtube_vis", tmp_path],
    )  # fmt: skip
    trees.edit_json(tmp_path / "train.json", lambda content: content["videos"][1].update(height=trees.HEIGHT))
    fails_with(
        capsys,
        output,
        "cover 961 pixels, expected 24 x 40",
        "RLE has the keys size",
        arguments=["youtube_vis", tmp_path],
    )


def test_youtube_vis_leaves_crowds_and_empty_tracks_out_and_says_so(tmp_path, output, capsys):
    trees.youtube_vis(tmp_path)

    def change(content):
        by_id = {a["id"]: a for a in content["annotations"]}
        by_id[107]["iscrowd"] = 1
        by_id[203]["segmentations"] = [None, None, trees.uncompressed(np.zeros((trees.HEIGHT, trees.WIDTH)))]

    trees.edit_json(tmp_path / "train.json", change)
    assert run("youtube_vis", tmp_path) == 0
    report = capsys.readouterr().out
    assert "left out: 1 crowd tracks" in report and "left out: 1 instances without a visible pixel" in report
    sequences = {s.id: s for s in load_video_annotations(output / "youtube_vis_train.json")}
    assert [s.categories for s in sequences.values()] == [{1: 40}, {1: 4}]


def test_a_training_file_without_annotations_is_refused(tmp_path, output, capsys):
    trees.youtube_vis(tmp_path)
    trees.edit_json(tmp_path / "train.json", lambda content: content.update(annotations=[]))
    fails_with(capsys, output, "has no annotations", arguments=["youtube_vis", tmp_path])


def test_kitti_mots_png_problems(tmp_path, output, capsys):
    trees.kitti_mots(tmp_path, SEQUENCES["val"])
    folder = tmp_path / "instances"
    trees.write_16bit_png(folder / "0002/000000.png", trees.id_map(0, [3001]))
    (folder / "0006/000001.png").unlink()
    (tmp_path / "training/image_02/0007/000001.png").unlink()
    fails_with(
        capsys, output,
        "sequence 0002: object id 3001 is of no known class",
        "0006/000001.png does not exist", "0007/000001.png has no image",
        arguments=["kitti_mots", tmp_path, "--only", "val"],
    )  # fmt: skip


def test_kitti_mots_txt_problems_name_the_line(tmp_path, output, capsys):
    truth = trees.kitti_mots(tmp_path, SEQUENCES["val"], "txt")
    path = tmp_path / "instances_txt/0002.txt"
    good = path.read_text().splitlines()
    fields = good[0].split()
    bad = ["1 2 3", "77 " + good[0].split(" ", 1)[1], good[0], " ".join([*fields[:2], "2", *fields[3:]]),
           " ".join([*fields[:3], "9", "9", fields[5]])]  # fmt: skip
    overlapping = f"0 1004 1 {trees.HEIGHT} {trees.WIDTH} {trees.compressed(truth['0002'][0] == 1003)['counts']}"
    path.write_text("\n".join([*good, *bad, overlapping]))
    first = len(good) + 1
    fails_with(
        capsys, output,
        f"0002.txt, line {first}: found '1 2 3', expected", f"line {first + 1}: frame 77 has no image",
        f"line {first + 2}: object 1003 has a second mask in frame 0", f"line {first + 3}: object id 1003 has class 2",
        f"line {first + 4}: mask is 9 x 9", "masks overlap in frame 000000",
        arguments=["kitti_mots", tmp_path, "--only", "val"],
    )  # fmt: skip


def test_real_davis_first_frames():
    real = SHARED_DIR / "real"
    if not real.is_dir():
        pytest.skip(f"real data is not beside the checkout ({real})")
    root = real / "davis17_testdev_firstframes"
    expected = {
        Path(i.image_path).parts[0]: i for i in load_still_annotations(real / "json" / f"{root.name}.json").images
    }
    names = sorted(expected)[:6]
    jobs = [DavisSequence(n, root / "JPEGImages/480p" / n, root / "Annotations/2017" / n) for n in names]
    for job in jobs:
        sequence, problems, _ = convert(job)
        assert not problems
        assert list(sequence.segmentations[0].values()) == expected[job.name].segmentations
