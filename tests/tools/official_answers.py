"""Generate small results and ground truth, and record what the official tools make of them, in tests/golden.

    python tests/tools/official_answers.py youtube_vis FOLDER    FOLDER holds ytvis.py and ytviseval.py
    python tests/tools/official_answers.py kitti_mots            where trackeval is installed

tests/golden/README.md says where these tools are to be had. Nothing here uses stemseg: the answers are not its own.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

GOLDEN_DIR = Path(__file__).resolve().parents[1] / "golden"
Box = tuple[int, int, int, int]  # left, top, width, height

# tall and narrow: RLE goes down the columns, so that even masks beyond 256^2 pixels take few letters
HEIGHT, WIDTH = 2000, 64


def encode(box: Box, height: int, width: int) -> dict[str, Any]:
    """RLE of a box, cut off at the image's borders."""
    left, top, w, h = box
    mask = np.zeros((height, width), dtype=np.uint8, order="F")
    mask[max(top, 0) : max(top + h, 0), max(left, 0) : max(left + w, 0)] = 1
    rle = coco_mask.encode(mask)
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def youtube_vis_data(seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and results of ten videos with three classes, objects of all sizes, crowds, and many false tracks.

    One class has more than ten results in a video, good ones among the last of them.
    """
    rng = np.random.default_rng(seed)
    videos, annotations, results = [], [], []
    for video in range(1, 11):
        length = int(rng.integers(2, 4))
        names = [f"{video:03d}/{t:05d}.jpg" for t in range(length)]
        videos.append({"id": video, "height": HEIGHT, "width": WIDTH, "length": length, "file_names": names})
        for _ in range(int(rng.integers(2, 5))):
            boxes = _object(rng, length)
            category, crowd = int(rng.integers(1, 4)), bool(rng.random() < 0.12)
            masks = [None if box is None else encode(box, HEIGHT, WIDTH) for box in boxes]
            areas = [None if mask is None else int(coco_mask.area(mask)) for mask in masks]
            number = len(annotations) + 1
            annotations.append(
                {"id": number, "video_id": video, "category_id": category, "iscrowd": int(crowd), "areas": areas}
                | {"segmentations": masks, "height": HEIGHT, "width": WIDTH}
            )
            for _ in range(int(rng.integers(1, 3 if category > 1 else 7))):
                kind = category if rng.random() < 0.85 else int(rng.integers(1, 4))
                results.append(_result(rng, video, kind, [_shaken(rng, box) for box in boxes]))
        for _ in range(int(rng.integers(0, 3))):
            results.append(_result(rng, video, int(rng.integers(1, 4)), _object(rng, length)))
    categories = [{"id": i, "name": name} for i, name in enumerate(("car", "dog", "tree"), start=1)]
    return {"videos": videos, "annotations": annotations, "categories": categories}, results


def _object(rng: np.random.Generator, length: int) -> list[Box | None]:
    """A box that moves, visible in at least one frame."""
    width, height = int(rng.integers(8, 60)), int(rng.choice([100, 300, 900, 1800]) * rng.uniform(0.7, 1.1))
    left, top = int(rng.integers(0, WIDTH - 4)), int(rng.integers(0, max(1, HEIGHT - height)))
    shown = rng.random(length) < 0.8
    shown[rng.integers(length)] = True
    return [(left + 2 * t, top + 20 * t, width, height) if shown[t] else None for t in range(length)]


def _shaken(rng: np.random.Generator, box: Box | None) -> Box | None:
    """The box as a network might find it: a little off, sometimes missed."""
    if box is None or rng.random() < 0.08:
        return None
    left, top, width, height = box
    share = rng.choice([0.02, 0.08, 0.2])
    shift = rng.normal(0, share, 2)
    return (left + round(shift[0] * width), top + round(shift[1] * height), width, round(height * (1 - share / 2)))


def _result(rng: np.random.Generator, video: int, category: int, boxes: list[Box | None]) -> dict[str, Any]:
    score = round(float(rng.random()), 2)  # of two digits: some are equal
    masks = [None if box is None else encode(box, HEIGHT, WIDTH) for box in boxes]
    return {"video_id": video, "category_id": category, "score": score, "segmentations": masks}


def youtube_vis_answers(tool: Path) -> dict[str, Any]:
    """Data, and the official evaluation's twelve figures and its AP at each IoU."""
    setattr(np, "float", float)  # noqa: B010 - the tool is older than numpy 1.24
    sys.path.insert(0, str(tool))
    from ytvis import YTVIS
    from ytviseval import YTVISeval

    truth, results = youtube_vis_data()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("truth", truth), ("results", results)):
            (Path(folder) / f"{name}.json").write_text(json.dumps(copy.deepcopy(content)))
        official_truth = YTVIS(f"{folder}/truth.json")
        evaluation = YTVISeval(official_truth, official_truth.loadRes(f"{folder}/results.json"), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR1", "AR10", "AR100")
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    per_threshold = [float(p[p > -1].mean()) for p in precision]
    expected = dict(zip(names, map(float, evaluation.stats), strict=False)) | {"AP_per_threshold": per_threshold}
    return {"ground_truth": truth, "results": results, "expected": expected}


_LANES, _LANE_WIDTH, _MOTS_HEIGHT = 9, 16, 48
_MOTS_WIDTH = _LANES * _LANE_WIDTH


def kitti_mots_data(seed: int = 0) -> dict[str, dict[str, Any]]:
    """Ground truth and results of two sequences as KITTI-MOTS text: every object and result keeps to a lane of its own.

    Tracks end, begin anew and are exchanged, some masks are too small to match, and one lane is an ignore region.
    """
    rng = np.random.default_rng(seed)
    sequences = {}
    for name, length in (("0001", 14), ("0007", 9)):
        truth, result = [], []
        classes = rng.integers(1, 3, _LANES)
        numbers, chances = np.arange(_LANES), rng.choice([0.1, 0.8, 1.0], _LANES)
        for t in range(length):
            if rng.random() < 0.4:  # two tracks of one class change places
                lanes = rng.permutation(np.flatnonzero(classes == rng.integers(1, 3)))[:2]
                numbers[lanes] = numbers[lanes[::-1]]
            for lane in range(_LANES):
                height = int(rng.integers(20, 30))
                box = (lane * _LANE_WIDTH + 1, 4 + t, 12, height)
                found = box
                while found == box or _iou(box, found) == 0.5:  # the older official code counts that as no match
                    left, top = box[0] + int(rng.integers(0, 3)), box[1] + int(rng.integers(-3, 4))
                    found = (left, top, 12, height - int(rng.choice([0, 3, 9])))
                kind = int(classes[lane])
                if lane == _LANES - 1:
                    truth.append(_mots_line(t, 10000, 10, box))
                elif rng.random() < 0.85:
                    truth.append(_mots_line(t, 1000 * kind + lane, kind, box))
                if rng.random() < chances[lane]:
                    result.append(_mots_line(t, 1000 * kind + int(numbers[lane]), kind, found))
        sequences[name] = {"length": length, "truth": "".join(truth), "result": "".join(result)}
    return sequences


def _iou(a: Box, b: Box) -> float:
    width = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    height = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def _mots_line(frame: int, track: int, class_id: int, box: Box) -> str:
    counts = encode(box, _MOTS_HEIGHT, _MOTS_WIDTH)["counts"]
    return f"{frame} {track} {class_id} {_MOTS_HEIGHT} {_MOTS_WIDTH} {counts}\n"


def kitti_mots_answers() -> dict[str, Any]:
    """Data, and TrackEval's figures of each class over both sequences."""
    import trackeval

    sequences = kitti_mots_data()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in ("gt/label_02", "trackers/ours/data"):
            (root / part).mkdir(parents=True)
        for name, entry in sequences.items():
            (root / "gt/label_02" / f"{name}.txt").write_text(entry["truth"])
            (root / "trackers/ours/data" / f"{name}.txt").write_text(entry["result"])
        dataset = trackeval.datasets.KittiMOTS(
            {"GT_FOLDER": str(root / "gt"), "TRACKERS_FOLDER": str(root / "trackers"), "PRINT_CONFIG": False}
            | {"SEQ_INFO": {name: entry["length"] for name, entry in sequences.items()}}
        )
        metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR({"PRINT_CONFIG": False})]
        evaluator = trackeval.Evaluator(
            {"PRINT_RESULTS": False, "PRINT_CONFIG": False, "OUTPUT_SUMMARY": False}
            | {"OUTPUT_DETAILED": False, "PLOT_CURVES": False, "TIME_PROGRESS": False, "OUTPUT_EMPTY_CLASSES": False}
        )
        found, _ = evaluator.evaluate([dataset], metrics)
    combined = found["KittiMOTS"]["ours"]["COMBINED_SEQ"]
    return {"sequences": sequences, "expected": {name: _mots_figures(combined[name]) for name in ("car", "pedestrian")}}


def _mots_figures(found: dict[str, Any]) -> dict[str, float]:
    names = {"sMOTA": "sMOTSA", "MOTA": "MOTSA", "MOTP": "MOTSP", "CLR_TP": "TP", "CLR_FP": "FP", "CLR_FN": "FN",
             "IDSW": "IDS", "MT": "MT", "PT": "PT", "ML": "ML"}  # fmt: skip
    clear = {ours: float(found["CLEAR"][theirs]) for theirs, ours in names.items()}
    return clear | {name: float(np.mean(found["HOTA"][name])) for name in ("HOTA", "DetA", "AssA", "LocA")}


def main() -> None:
    """Write the file that the command line names."""
    kind, *arguments = sys.argv[1:]
    answers = youtube_vis_answers(Path(arguments[0])) if kind == "youtube_vis" else kitti_mots_answers()
    path = GOLDEN_DIR / f"official_{kind}.json"
    path.write_text(json.dumps(answers, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB", json.dumps(answers["expected"], indent=1), sep="\n")


if __name__ == "__main__":
    main()
