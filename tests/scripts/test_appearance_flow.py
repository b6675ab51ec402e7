"""The ablation measures identity switches, its table says what was measured, its one command runs and resumes."""

import json
import math
import re

import numpy as np
import pytest

from scripts.experiments.appearance_flow import main as ablation
from scripts.experiments.appearance_flow.measure import RunFigures, identity_figures, read_training_log
from scripts.experiments.appearance_flow.report import difference_rows, markdown_table, table_rows, text_table, to_json
from scripts.experiments.appearance_flow.variants import VARIANTS, schedule_overrides
from stemseg.config import load_config
from stemseg.evaluation.ground_truth import GroundTruth, GroundTruthTrack, GroundTruthVideo
from stemseg.structures.rle import encode_rle
from stemseg.structures.tracks import Track, VideoTracks

SIZE, LENGTH = (8, 12), 6


def box(left):
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[2:6, left : left + 4] = 1
    return encode_rle(mask)


LEFT, RIGHT = box(0), box(8)
OBJECTS = [[LEFT] * LENGTH, [RIGHT] * LENGTH]


def figures_of(*tracks, objects=OBJECTS):
    truth = [GroundTruthTrack(i, 1, list(masks)) for i, masks in enumerate(objects, start=1)]
    paths = [f"v/{t}.jpg" for t in range(LENGTH)]
    video = GroundTruthVideo("v", *SIZE, paths, truth)
    found = [Track(i, 1, 1.0, list(masks)) for i, masks in enumerate(tracks, start=1)]
    result = VideoTracks("v", *SIZE, LENGTH, video.frame_names, found)
    return identity_figures([result], GroundTruth("here", {1: "object"}, [video]))


def test_perfect_tracks():
    assert figures_of(*OBJECTS) == {"track_iou": 1.0, "mask_iou": 1.0, "kept": 1.0, "switched": 0.0}


def test_an_identity_switch_leaves_the_masks_as_they_are():
    switched = [[LEFT] * 3 + [RIGHT] * 3, [RIGHT] * 3 + [LEFT] * 3]
    figures = figures_of(*switched)
    assert figures.pop("track_iou") == pytest.approx(1 / 3)  # half of each object's pixels, over one and a half
    assert figures == {"mask_iou": 1.0, "kept": 0.0, "switched": 1.0}


def test_a_lost_object_is_neither_kept_nor_switched():
    figures = figures_of(OBJECTS[0], [RIGHT] * 2 + [None] * 4)
    assert (figures["kept"], figures["switched"]) == (0.5, 0.0)
    assert figures["mask_iou"] == pytest.approx((6 + 2) / 12)
    assert figures["track_iou"] == pytest.approx((1 + 2 / 6) / 2)
    assert figures_of() == {"track_iou": 0.0, "mask_iou": 0.0, "kept": 0.0, "switched": 0.0}


def test_an_object_that_leaves_says_nothing_about_identity():
    figures = figures_of(*OBJECTS, objects=[OBJECTS[0], [RIGHT] * 3 + [None] * 3])
    assert figures["kept"] == 1.0  # of the one that is there at both ends
    assert figures["mask_iou"] == 1.0  # of the visible ones


def test_training_log_gives_the_last_values():
    log = (
        "50/99  total 4  lovasz 1.2  bits_per_dimension 3.7834  appearance_between 0.0140  appearance_within 0.0330\n"
        "99/99  total 2  lovasz 0.9  bits_per_dimension -0.5000  appearance_between 0.0287  appearance_within 0.0565\n"
        "saved 000100.pth\n"
    )
    assert read_training_log(log) == {
        "lovasz": 0.9, "bits_per_dimension": -0.5, "appearance_between": 0.0287, "appearance_within": 0.0565,
    }  # fmt: skip
    assert read_training_log("iteration 1/1  total 4.6\n") == {}


def run_figures(ap, **more):
    return RunFigures(ap, 0.9, 0.5, 0.6, 0.8, 0.7, 0.2, **more)


def test_table_holds_mean_and_spread():
    results = {
        "plain": {0: run_figures(0.1), 1: run_figures(0.3)},
        "flow": {0: run_figures(0.4, bits_per_dimension=2.5)},
    }
    rows = table_rows(results)
    cells = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}
    assert cells["plain"]["AP"] == "20.0 ± 14.1"  # the sample's standard deviation
    assert cells["plain"]["seeds"] == "2"
    assert cells["plain"]["bits/dim"] == "-"
    assert cells["flow"]["AP"] == "40.0"
    assert cells["flow"]["bits/dim"] == "2.50"
    assert "A within" not in rows[0]  # no variant has it


def test_differences_are_paired_by_seed_and_have_their_standard_error():
    results = {
        "stemseg": {0: run_figures(0.1), 1: run_figures(0.5)},
        "flow": {0: run_figures(0.2), 1: run_figures(0.8), 2: run_figures(0.0)},
        "other": {7: run_figures(0.3)},
    }
    head, *rows = difference_rows(results, "stemseg")
    assert [row[0] for row in rows] == ["flow"]  # the last has no seed in common
    cells = dict(zip(head, rows[0], strict=True))
    assert (cells["pairs"], cells["AP"], cells["kept"]) == ("2", "+20.0 ± 10.0", "+0.0 ± 0.0")
    assert cells["re-id accuracy"] == "-"


def test_tables_are_aligned_and_markdown_is_one():
    rows = [["variant", "AP"], ["a", "1.0 ± 0.1"], ["longer-name", "-"]]
    text = text_table(rows).splitlines()
    assert len({len(line) for line in text}) == 1
    assert text[2] == "a            1.0 ± 0.1"
    lines = markdown_table(rows).splitlines()
    assert lines[1] == "|-------------|----------:|"
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == ["a", "1.0 ± 0.1"]
    assert len({len(line) for line in lines}) == 1


def test_json_has_no_nan():
    content = to_json({"plain": {0: run_figures(0.1), 3: run_figures(0.3)}})
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["plain"]["mean"]["ap"] == pytest.approx(0.2)
    assert content["plain"]["mean"]["bits_per_dimension"] is None
    assert math.isclose(content["plain"]["spread"]["ap"], 0.02**0.5)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_variants_are_configurations(variant):
    cfg = load_config("ablation", [*schedule_overrides(40), *variant.overrides])
    assert cfg.TRAINING.MAX_ITERATIONS == 40
    assert cfg.MODEL.USE_OFFSET_HEAD is not variant.name.startswith("stemseg")


def test_the_command_runs_resumes_and_refuses_other_settings(tmp_path, capsys):
    tiny = ["INPUT.NUM_FRAMES=2", "INPUT.MIN_DIM=32", "INPUT.MAX_DIM=64", "DATA.CUSTOM.INFERENCE_FRAME_OVERLAP=1",
            "MODEL.OFFSET.N_FLOW=1", "TRAINING.BATCH_SIZE=1", "TRAINING.MAX_SAMPLES_PER_GPU=1"]  # fmt: skip
    command = ["--output", str(tmp_path), "--seeds", "0", "--iterations", "2", "--num_train", "1", "--num_val", "1",
               "--variants", "--add", "mine", "conditional", "MODEL.OFFSET.N_BITS=4", "--set", *tiny]  # fmt: skip
    assert ablation.main(command) == 0
    assert "mine" in capsys.readouterr().out
    content = json.loads((tmp_path / "ablation.json").read_text())
    assert content["mine"]["runs"]["0"]["bits_per_dimension"] is not None
    assert content["mine"]["runs"]["0"].keys() >= {"reid_accuracy", "mask_alignment", "flow_alignment"}
    assert "conditional with MODEL.OFFSET.N_BITS=4" in (tmp_path / "ablation.md").read_text()

    log = tmp_path / "runs" / "mine" / "seed_0" / "training.log"
    before = log.read_text()
    assert ablation.main(command) == 0
    assert log.read_text() == before  # a finished run is not run again

    assert ablation.main([*command, "MODEL.OFFSET.AFFINE=true"]) == 1
    assert re.search(r"error: .*were made with .* give another --output", capsys.readouterr().err)
    assert ablation.main([part.replace("N_BITS=4", "N_BITS=3") for part in command]) == 1
    assert re.search(r"error: .*was made with other settings", capsys.readouterr().err)

    figures = tmp_path / "runs" / "mine" / "seed_0" / "figures.json"
    content = json.loads(figures.read_text())
    figures.write_text(json.dumps(content | {"swapped": content.pop("switched")}))
    assert ablation.main(command) == 1
    assert re.search(r"error: .*another version \(swapped\); remove that file", capsys.readouterr().err)


def test_a_variant_needs_a_known_base(capsys):
    with pytest.raises(SystemExit):
        ablation.parse_arguments(["--output", "x", "--add", "mine", "conditonal", "A=1"])
    assert "expected a new name and one of stemseg-xyt" in capsys.readouterr().err
