"""Clips from real photographs and videos, where they lie beside the checkout."""

import json

import pytest

from stemseg.config import load_config
from stemseg.data.dataset import build_training_dataset
from tests.helpers.paths import SHARED_DIR

REAL = SHARED_DIR / "real"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the real data in {REAL}")
SETS = {
    "davis16_train20": "davis16_train20/JPEGImages/480p",
    "composites_train": "composites/JPEGImages",
    "coco128": "coco128-seg/images/train2017",
    "pascal_voc_labelme3": "pascal_voc_labelme3/JPEGImages",
    "davis17_testdev_firstframes": "davis17_testdev_firstframes/JPEGImages/480p",
}


@pytest.mark.parametrize("name", SETS)
def test_real_clips_show_their_instances(name):
    overrides = [
        "DATA.MIX={custom: 1.0}", f"DATA.CUSTOM.TRAIN_JSON={REAL / 'json' / name}.json", "INPUT.MIN_DIM=96",
        f"DATA.CUSTOM.TRAIN_IMAGES={REAL / SETS[name]}", "INPUT.MAX_DIM=192", "INPUT.NUM_FRAMES=4",
    ]  # fmt: skip
    dataset = build_training_dataset(load_config(None, overrides))
    for index in range(2):
        clip = dataset[index].unpack()
        assert clip.frames.std() > 10 and clip.targets.masks.any()


def test_mapped_coco_and_voc_files(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMSEG_JSON_ANNOTATIONS_DIR", str(tmp_path))
    (tmp_path / "coco.json").write_bytes((REAL / "json" / "coco128.json").read_bytes())
    (tmp_path / "pascal_voc.json").write_bytes((REAL / "json" / "pascal_voc_labelme3.json").read_bytes())
    monkeypatch.setenv("COCO_TRAIN_IMAGES_DIR", str(REAL / SETS["coco128"]))
    monkeypatch.setenv("PASCAL_VOC_IMAGES_DIR", str(REAL / SETS["pascal_voc_labelme3"]))
    overrides = ["DATA.MIX={coco: 0.5, pascal_voc: 0.5}", "INPUT.MIN_DIM=96", "INPUT.MAX_DIM=192"]
    coco, voc = build_training_dataset(load_config("youtube_vis", overrides)).sources
    images = json.loads((REAL / "json" / "coco128.json").read_text())["images"]
    assert 50 < len(coco) < len(images) and len(voc) == 3
    frame = coco.load(0)
    assert frame.ids.foreground().any() and frame.image.std() > 10
