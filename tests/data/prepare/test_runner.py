"""Parts that all subcommands of prepare_dataset.py share: splitting, workers, reruns, leaving out, and messages."""

import json

import pytest

from stemseg.data.prepare.main import main
from stemseg.data.prepare.plan import ConversionJob, Plan, split_plan
from stemseg.structures.annotations import load_video_annotations
from stemseg.utils.errors import ConfigError
from tests.helpers import official_trees as trees


def ids(path):
    return [sequence["id"] for sequence in json.loads(path.read_text())["sequences"]]


def prepare(root, output, *more, workers=1):
    arguments = ["davis", root, "--output", output, "--workers", workers, "--only", "train", *more]
    return main(list(map(str, arguments)))


def test_reruns_and_workers_give_the_same_bytes(tmp_path):
    trees.davis(tmp_path / "tree")
    written = []
    for name, workers in (("a", 1), ("a", 1), ("b", 2)):
        assert prepare(tmp_path / "tree", tmp_path / name, workers=workers) == 0
        written.append((tmp_path / name / "davis_train.json").read_bytes())
    assert len(set(written)) == 1


def test_split_divides_the_training_set(tmp_path):
    trees.davis(tmp_path)
    assert prepare(tmp_path, tmp_path / "all") == 0
    assert prepare(tmp_path, tmp_path, "--split", 0.5, "--seed", 3) == 0
    train, minival = (load_video_annotations(tmp_path / f"davis_{name}.json") for name in ("train", "minival"))
    whole = load_video_annotations(tmp_path / "all/davis_train.json")
    assert sorted([*train, *minival], key=lambda s: s.id) == sorted(whole, key=lambda s: s.id)
    assert len(train.sequences) == len(minival.sequences) == 1


def plan_of(names):
    return Plan("x_train.json", "videos", {}, [ConversionJob(name) for name in names], convert=lambda job: None)


def held_out(names, fraction, seed):
    rest, minival = split_plan(plan_of(names), fraction, seed)
    assert minival.filename == "x_minival.json"
    assert [job.name for job in rest.jobs] == [n for n in names if n not in {job.name for job in minival.jobs}]
    return {job.name for job in minival.jobs}


def test_split_depends_on_names_and_seed_alone():
    names = [f"v{i}" for i in range(40)]
    chosen = held_out(names, 0.2, 0)
    assert len(chosen) == 8
    assert held_out(names[::-1], 0.2, 0) == chosen
    assert held_out(names, 0.2, 1) != chosen
    for fraction in (0.0, 0.001, 1.0, -1):
        with pytest.raises(ConfigError, match="expected at least 1"):
            split_plan(plan_of(names), fraction, 0)


def test_split_needs_the_training_set(tmp_path, capsys):
    trees.davis(tmp_path)
    assert main(["davis", str(tmp_path), "-o", str(tmp_path), "--only", "val", "--split", "0.5"]) == 1
    assert "--only leaves it out" in capsys.readouterr().err


def test_skip_invalid_leaves_out_what_is_broken_and_lists_it(tmp_path, capsys):
    trees.davis(tmp_path)
    png = tmp_path / "Annotations_unsupervised/480p/bear/00001.png"
    content = png.read_bytes()
    png.unlink()
    problems, made = tmp_path / "out/davis_train_problems.txt", tmp_path / "out/davis_train.json"
    assert prepare(tmp_path, tmp_path / "out") == 1
    assert (
        not made.exists()
        and problems.read_text() == f"bear: {png} does not exist; is the download or the folder complete?\n"
    )
    assert prepare(tmp_path, tmp_path / "out", "--skip-invalid") == 0
    assert ids(made) == ["two-dogs"]
    assert "left out: 1 videos with problems" in capsys.readouterr().out
    png.write_bytes(content)
    assert prepare(tmp_path, tmp_path / "out") == 0
    assert ids(made) == ["bear", "two-dogs"] and not problems.exists()


def test_nothing_left_is_an_error_even_when_skipping(tmp_path, capsys):
    trees.davis(tmp_path)
    for png in (tmp_path / "Annotations_unsupervised").rglob("00001.png"):
        png.unlink()
    assert prepare(tmp_path, tmp_path, "--skip-invalid") == 1
    assert not (tmp_path / "davis_train.json").exists()


def test_many_problems_are_cut_on_the_screen_and_whole_in_the_file(tmp_path, capsys):
    trees.coco(tmp_path)

    def many(content):
        content["annotations"] = [{"id": i, "image_id": 1, "category_id": 1, "segmentation": []} for i in range(70)]

    trees.edit_json(tmp_path / "annotations/instances_train2017.json", many)
    assert main(["coco", str(tmp_path), "-o", str(tmp_path / "out"), "--workers", "1"]) == 1
    error = capsys.readouterr().err
    assert "found 70 problems" in error and "and 20 more" in error
    assert len((tmp_path / "out/coco_problems.txt").read_text().splitlines()) == 70


def test_wrong_folders_are_explained(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("STEMSEG_JSON_ANNOTATIONS_DIR", raising=False)
    assert main(["davis", str(tmp_path)]) == 1
    assert "STEMSEG_JSON_ANNOTATIONS_DIR" in capsys.readouterr().err
    assert main(["davis", str(tmp_path / "absent"), "-o", str(tmp_path)]) == 1
    assert "is not a folder" in capsys.readouterr().err
    for dataset in (
        "davis",
        "youtube_vis",
        "youtube_vis_2021",
        "ovis",
        "kitti_mots",
        "coco",
        "pascal_voc",
        "mapillary",
    ):
        assert main([dataset, str(tmp_path), "-o", str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert "not found: tried" in error and str(tmp_path) in error and "official download" in error
    assert not (tmp_path / "out").exists()
