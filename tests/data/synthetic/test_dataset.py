"""The synthetic videos: reproducible, and annotated with exactly what is visible."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from scripts import generate_videos
from stemseg.data.synthetic import dataset, motion, rendering, scenes, textures
from stemseg.data.synthetic import scenes as shapes
from stemseg.data.synthetic.motion import Arena
from stemseg.data.synthetic.rendering import outline_in_frame, render_frame
from stemseg.data.synthetic.scenes import Scene, SceneOptions, compose_scene
from stemseg.structures.annotations import VideoSequence, load_video_annotations, save_video_annotations
from stemseg.structures.rle import decode_rle
from stemseg.utils.errors import ConfigError, DataError

OPTIONS = SceneOptions(height=48, width=80, length=12, max_objects=4, classes=tuple(shapes.SHAPES))
HARD = dataclasses.replace(OPTIONS, hard=True)


def crowded_scene(options: SceneOptions = OPTIONS) -> Scene:
    scenes = (compose_scene(np.random.default_rng(seed), options) for seed in range(100))
    return next(scene for scene in scenes if len(scene.actors) == 4)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_gives_same_files_with_any_number_of_workers(tmp_path):
    small = dataclasses.replace(OPTIONS, length=3)
    for name, seed, workers in (("one", 5, 1), ("two", 5, 2), ("other", 6, 1)):
        dataset.generate_dataset(tmp_path / name, (3, 1), small, seed=seed, workers=workers)
    assert len(files_of(tmp_path / "one")) == 2 + 4 * 3
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert files_of(tmp_path / "one") != files_of(tmp_path / "other")


def test_a_video_does_not_depend_on_how_many_there_are(tmp_path):
    small = dataclasses.replace(OPTIONS, length=2)
    dataset.generate_dataset(tmp_path / "few", (1, 0), small)
    dataset.generate_dataset(tmp_path / "many", (2, 0), small)
    few, many = files_of(tmp_path / "few" / "train"), files_of(tmp_path / "many" / "train")
    assert few.items() <= many.items()
    assert not (tmp_path / "few" / "val.json").exists()


def test_splits_share_no_scene():
    train, val = (dataset.scene_of(split, 0, OPTIONS, seed=0) for split in dataset.SPLITS)
    assert not np.array_equal(train.background, val.background)


def test_json_holds_the_rendered_masks(tmp_path):
    dataset.generate_dataset(tmp_path, (2, 0), OPTIONS, seed=1)
    annotations = load_video_annotations(tmp_path / "train.json", check_masks=True)
    assert annotations.category_labels == dict(enumerate(shapes.SHAPES, start=1))
    for index, sequence in enumerate(annotations):
        scene = dataset.scene_of("train", index, OPTIONS, seed=1)
        assert sequence.categories.items() <= {a.instance_id: a.category_id for a in scene.actors}.items()
        for t, path in enumerate(sequence.image_paths):
            ids = sum(i * decode_rle(c, 48, 80).astype(int) for i, c in sequence.segmentations[t].items())
            frame = render_frame(scene, t)
            np.testing.assert_array_equal(ids, frame.ids)
            written = cv2.imread(str(tmp_path / "train" / path)).astype(float)
            assert np.abs(written - frame.image).mean() < 8  # JPEG


@pytest.mark.parametrize("options", [OPTIONS, HARD], ids=["ordinary", "hard"])
def test_ids_are_what_a_point_in_polygon_test_sees(options):
    scene = crowded_scene(options)
    for t in (0, 6):
        expected, certain = np.zeros((48, 80), dtype=int), np.ones((48, 80), dtype=bool)
        for actor in scene.actors:  # from back to front
            corners = outline_in_frame(actor, t).astype(np.float32)[:, None]
            for y, x in np.ndindex(48, 80):
                distance = cv2.pointPolygonTest(corners, (x + 0.5, y + 0.5), True)
                expected[y, x] = actor.instance_id if distance > 0 else expected[y, x]
                certain[y, x] &= abs(distance) > 0.75  # else an edge crosses the pixel
        assert certain.mean() > 0.7
        np.testing.assert_array_equal(render_frame(scene, t).ids[certain], expected[certain])


def test_distinct_classes_have_their_own_pattern_and_hues(monkeypatch):
    drawn = []

    def remember(rng, size, kind=None):
        drawn.append(kind)
        return np.zeros((size, size), dtype=np.float32)

    monkeypatch.setattr(scenes.textures, "object_pattern", remember)
    for seed in range(5):
        drawn.clear()
        scene = compose_scene(np.random.default_rng(seed), dataclasses.replace(OPTIONS, distinct_classes=True))
        by_instance = sorted(scene.actors, key=lambda actor: actor.instance_id)
        # the background may draw a pattern first, of any kind
        assert drawn[-len(by_instance) :] == [actor.category_id - 1 for actor in by_instance]


def test_look_alikes_differ_in_hue_by_what_the_options_say(monkeypatch):
    turns = []
    turn_hue = textures.turn_hue
    monkeypatch.setattr(scenes.textures, "turn_hue", lambda p, angle: turns.append(angle) or turn_hue(p, angle))
    for seed in range(10):
        compose_scene(np.random.default_rng(seed), dataclasses.replace(HARD, hue_turn=(20.0, 30.0)))
    assert len(turns) >= 10 and min(turns) >= 20 and max(turns) <= 30


def test_light_changes_colors_from_frame_to_frame_and_nothing_else():
    steady, changing = (crowded_scene(dataclasses.replace(HARD, light=light)) for light in (0.0, 0.3))
    gains = np.stack([rendering.light_gains(changing, t) for t in range(3)])  # [3 frames, 3 channels]
    assert len(np.unique(gains)) == 9 and np.all(np.abs(np.log(gains)) <= 0.3)
    for t in range(3):
        before, after = render_frame(steady, t), render_frame(changing, t)
        np.testing.assert_array_equal(before.ids, after.ids)
        dark = before.image.max(axis=2) < 150  # not cut off at 255
        ratio = after.image[dark].mean(axis=0) / before.image[dark].mean(axis=0)
        assert ratio == pytest.approx(gains[t], rel=0.02)


def test_hues_of_distinct_classes_do_not_meet():
    ranges = [scenes._class_hues(category, 5) for category in range(1, 6)]
    hues = [
        np.concatenate([textures.object_palette(np.random.default_rng(seed), r)[:, 0] for seed in range(40)])
        for r in ranges
    ]
    for i, first in enumerate(hues):
        for second in hues[:i]:
            apart = np.abs(first[:, None] - second[None])
            assert np.minimum(apart, 360 - apart).min() > 0.2 * 360 / 5


def test_patterns_of_a_kind_differ_between_kinds():
    patterns = [textures.object_pattern(np.random.default_rng(3), 64, kind) for kind in range(5)]
    assert all(p.min() >= 0 and p.max() <= 1 and p.std() > 0.1 for p in patterns)
    assert all(np.abs(a - b).mean() > 0.1 for i, a in enumerate(patterns) for b in patterns[:i])


def test_a_pixel_belongs_to_what_makes_most_of_its_color(monkeypatch):
    monkeypatch.setattr(rendering, "_NOISE_STD", 0.0)
    scene = crowded_scene()
    for shown in range(1, 5):  # paint one object white and everything else black
        actors = [
            dataclasses.replace(a, texture=np.full_like(a.texture, 255 * (a.instance_id == shown)))
            for a in scene.actors
        ]
        lit = dataclasses.replace(scene, background=np.zeros_like(scene.background), actors=actors)
        for t in range(0, 12, 4):
            image, ids = render_frame(lit, t)
            share = image[..., 0] / 255
            assert (ids[share > 0.51] == shown).all()
            assert (share[ids == shown] > 0.2).all()


def test_objects_leave_and_come_back_under_the_same_id(tmp_path):
    dataset.generate_dataset(tmp_path, (8, 0), OPTIONS, seed=3)
    returned = 0
    for sequence in load_video_annotations(tmp_path / "train.json"):
        for instance_id in sequence.categories:
            visible = np.array([instance_id in frame for frame in sequence.segmentations], dtype=int)
            returned += (np.diff(visible) == 1).any() and visible[: np.argmin(visible)].any()
    assert returned >= 2


def test_the_first_object_keeps_every_frame_populated():
    for seed in range(5):
        scene = compose_scene(np.random.default_rng(seed), OPTIONS)
        assert all(render_frame(scene, t).ids.any() for t in range(OPTIONS.length))


def test_come_and_go_leaves_wholly():
    arena, radius = Arena(48, 80, 30), 12.0
    for seed in range(10):
        centers = motion.come_and_go(np.random.default_rng(seed), arena, radius).centers
        beyond = np.maximum(-centers, centers - [80, 48]).max(axis=1)
        assert (beyond > radius).any()
        assert (beyond < 0).any()


def test_encounters_hide_who_is_who():
    arena, outcomes = Arena(96, 160, 20), []
    for seed in range(40):
        first, second = motion.encounter(np.random.default_rng(seed), arena, 30.0)
        gap = np.linalg.norm(first.centers - second.centers, axis=1)
        assert gap.min() < 1e-9 and gap[0] > 20 and gap[-1] > 20
        np.testing.assert_array_equal(first.scales, second.scales)
        before, after = ((first.centers - second.centers)[t] for t in (0, -1))
        outcomes.append(float(before @ after) > 0)
    assert 8 < sum(outcomes) < 32  # some turn back, some cross


def test_look_alikes_differ_in_color_only():
    first, second = sorted(crowded_scene(HARD).actors, key=lambda a: a.instance_id)[:2]
    assert first.category_id == second.category_id
    np.testing.assert_array_equal(first.outline, second.outline)
    hsv = [cv2.cvtColor(a.texture, cv2.COLOR_BGR2HSV).astype(int) for a in (first, second)]
    assert np.abs(hsv[0][..., 2] - hsv[1][..., 2]).mean() < 10  # the same pattern of light and dark
    mean_colors = [a.texture.reshape(-1, 3).mean(axis=0) for a in (first, second)]
    assert np.linalg.norm(mean_colors[0] - mean_colors[1]) > 30


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_outlines_have_equal_area_and_are_centered(name):
    canvas = np.zeros((400, 400), dtype=np.uint8)
    cv2.fillPoly(canvas, [np.rint(shapes.outline(name) * 80 + 200).astype(np.int32)], 1)
    assert canvas.sum() == pytest.approx(np.pi * 80**2, rel=0.03)
    assert np.argwhere(canvas).mean(axis=0) == pytest.approx([200, 200], abs=1.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("disc", "blob")}, "classes: found blob"),
        ({"length": 1}, "length: found 1"),
        ({"max_objects": 1, "hard": True}, "max_objects: found 1, expected 2"),
        ({"distinct_classes": True, "hard": True}, "choose one of the two"),
        ({"hue_turn": (0.0, 20.0)}, "hue_turn: found 0 to 20"),
        ({"hue_turn": (40.0, 20.0)}, "hue_turn: found 40 to 20"),
        ({"light": 1.5}, "light: found 1.5"),
    ],
)
def test_impossible_options_are_named(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        dataset.generate_dataset(tmp_path, (1, 1), dataclasses.replace(OPTIONS, **change))


def test_command_line(tmp_path, capsys):
    arguments = ["--num_train", "1", "--num_val", "1", "--length", "2", "--size", "32x48", "--classes", "star", "disc"]
    look_alikes = ["--hard", "--hue_turn", "20", "30", "--light", "0.1"]
    assert generate_videos.main(["--output", str(tmp_path), "--preview", *look_alikes, *arguments]) == 0
    assert load_video_annotations(tmp_path / "val.json").category_labels == {1: "star", 2: "disc"}
    assert cv2.imread(str(tmp_path / "train.png")) is not None
    with pytest.raises(SystemExit):
        generate_videos.main(["--output", str(tmp_path), "--size", "32"])
    assert "expected HxW" in capsys.readouterr().err


def test_preview_of_a_test_sets_file_says_that_it_has_no_annotations(tmp_path):
    save_video_annotations(tmp_path / "test.json", [VideoSequence("street", 8, 8, ["0.jpg"])], {1: "disc"})
    with pytest.raises(DataError, match="'street' has no annotations"):
        dataset.write_preview(tmp_path / "test.json", tmp_path, tmp_path / "sheet.png")
