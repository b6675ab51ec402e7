"""Pictures show the clip as it was, the instances that inference would find, and distances as colors."""

import numpy as np
import torch

from stemseg.config import load_config
from stemseg.data.preprocessing import build_preprocessor
from stemseg.structures.clip import ClipBatch, ClipTargets
from stemseg.structures.network_output import NetworkOutput
from stemseg.training.visualization import appearance_colors, build_visualizer, embedding_colors


def _painter(*overrides):
    cfg = load_config(None, ["MODEL.EMBEDDING_DIM_MODE=xyff", *overrides])
    return build_visualizer(cfg, torch.tensor([10.0, 10.0]))


def _output():
    """Two instances, left and right, far apart in the first dimension; seediness 0 in the bottom half."""
    embedding = torch.zeros(1, 4, 2, 8, 8)
    embedding[:, 0, :, :, 4:] = 3.0
    seediness = torch.zeros(1, 1, 2, 8, 8)
    seediness[..., :4, :] = 0.9
    return NetworkOutput(embedding, torch.zeros(1, 2, 2, 8, 8), seediness)


def _batch(image):
    frames = torch.from_numpy(image).permute(2, 0, 1).float().expand(1, 2, 3, *image.shape[:2])
    masks = torch.zeros(1, 2, 32, 32, dtype=torch.uint8)
    masks[:, :, :16, :16] = 1
    return ClipBatch(frames, [ClipTargets(masks, torch.tensor([1]), masks[0] * 0)], [(32, 32)], ["clip"])


def test_prediction_is_what_inference_would_find():
    labels = _painter().predict(_output())
    assert labels.shape == (2, 8, 8)
    assert np.all(labels[:, 4:] == 0)
    assert {np.unique(labels[:, :4, :4]).item(), np.unique(labels[:, :4, 4:]).item()} == {1, 2}


def test_normalization_is_undone():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for bgr in (True, False):
        mean, std = np.array([10.0, 20.0, 30.0]), np.array([2.0, 3.0, 4.0])
        settings = [f"INPUT.BGR_INPUT={bgr}", "INPUT.IMAGE_MEAN=[10, 20, 30]", "INPUT.IMAGE_STD=[2, 3, 4]"]
        frame = (image - mean) / std if bgr else ((image - mean) / std)[..., ::-1]
        frames = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None]
        assert np.array_equal(build_preprocessor(load_config(None, settings)).restore(frames)[0], image)


def test_sheet_has_a_row_for_everything_and_a_column_for_each_frame():
    sheet = _painter()(_batch(np.full((32, 32, 3), 7, np.uint8)), _output())["clip"]
    assert sheet.dtype == np.uint8
    assert sheet.shape == (5 * (224 + 4) - 4, 2 * (224 + 4) - 4, 3)


def test_a_clip_without_instances_or_foreground_is_painted_too():
    batch, output = _batch(np.zeros((32, 32, 3), np.uint8)), _output()
    batch.targets[0] = ClipTargets(torch.zeros(0, 2, 32, 32, dtype=torch.uint8), torch.zeros(0), torch.zeros(2, 32, 32))
    sheet = _painter()(batch, output._replace(seediness=torch.zeros(1, 1, 2, 8, 8)))["clip"]
    assert sheet.ndim == 3


def test_colors_are_equal_where_embeddings_are_and_differ_where_they_do():
    colors = embedding_colors(_output().embedding[0])
    assert len(colors) == 2 and colors[0].shape == (8, 8, 3)
    assert np.unique(colors[0][:, :4].reshape(-1, 3), axis=0).shape == (1, 3)
    assert np.abs(colors[0][0, 0].astype(int) - colors[0][0, 7]).max() == 255
    assert embedding_colors(torch.randn(2, 2, 4, 4))[0].shape == (4, 4, 3)


def test_a_collapsed_appearance_is_gray_and_a_spread_one_is_not():
    appearance = torch.full((2, 2, 4, 4), 5.0)
    assert all(np.all(image == 128) for image in appearance_colors(appearance))
    appearance[0, :, :2] = 3.0
    image = appearance_colors(appearance)[0]
    assert image.shape == (4, 4, 3)
    assert np.all(image[:2, :, 0] < 40) and np.all(image[2:, :, 0] > 215) and np.all(image[..., 1:] == 128)
    appearance[0, :, 0] = 4.0  # farther away: still another color
    image = appearance_colors(appearance)[0]
    assert image[0, 0, 0] != image[1, 0, 0]


def test_appearance_gets_a_row_of_its_own():
    output = _output()._replace(appearance=torch.zeros(1, 3, 2, 8, 8))
    sheet = _painter()(_batch(np.zeros((32, 32, 3), np.uint8)), output)["clip"]
    assert sheet.shape[0] == 6 * (224 + 4) - 4
