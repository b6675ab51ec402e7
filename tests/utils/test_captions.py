"""Captions: on their masks, off each other and off small objects."""

import numpy as np
import pytest

from stemseg.utils.captions import Caption, CaptionPlacer, draw_captions, text_size

SIZE = (240, 420)
FONT = 14


def disk(x: int, y: int, radius: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    rows, columns = np.indices(size)
    return ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2).astype(np.uint8)


def covered(caption: Caption, size: tuple[int, int] = SIZE) -> np.ndarray:
    box = np.zeros(size, dtype=bool)
    box[caption.top : caption.top + caption.height, caption.left : caption.left + caption.width] = True
    assert box.sum() == caption.width * caption.height, "the caption leaves the image"
    return box


def test_a_caption_lies_on_its_own_mask() -> None:
    masks = {1: disk(90, 120, 60), 2: disk(300, 120, 70)}
    captions = CaptionPlacer().place(masks, {1: ["1 dog"], 2: ["2 cat"]}, FONT)
    for i, caption in captions.items():
        assert masks[i][covered(caption)].all() and caption.target is None
        assert (caption.width, caption.height) == text_size(f"{i} {'dog' if i == 1 else 'cat'}", FONT)


@pytest.mark.parametrize("seed", range(6))
def test_captions_cover_neither_each_other_nor_small_objects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks, free = {}, np.ones(SIZE, dtype=np.uint8)
    for i in range(1, 11):
        mask = disk(int(rng.integers(20, 400)), int(rng.integers(20, 220)), int(rng.integers(4, 50))) * free
        if mask.sum() > 20:
            masks[i], free = mask, free & (1 - mask)
    captions = CaptionPlacer().place(masks, {i: [f"{i} elephant", str(i)] for i in masks}, FONT)
    assert len(captions) >= 5
    boxes = [covered(caption) for caption in captions.values()]
    assert sum(box.astype(int) for box in boxes).max() == 1
    small = [mask for mask in masks.values() if mask.sum() < 500]
    assert small and not any(mask[box].any() for mask in small for box in boxes)


def test_a_small_object_gets_its_caption_beside_it_and_a_line() -> None:
    masks = {1: disk(200, 120, 6)}
    caption = CaptionPlacer().place(masks, {1: ["1 mouse"]}, FONT)[1]
    assert not masks[1][covered(caption)].any()
    x, y = caption.target
    assert abs(x - 200) <= 8 and abs(y - 120) <= 8
    assert abs(caption.left + caption.width / 2 - 200) < 60 and abs(caption.top + caption.height / 2 - 120) < 30


def test_a_shorter_text_is_taken_where_the_long_one_finds_no_room() -> None:
    masks = {1: disk(35, 35, 32, (70, 70))}
    captions = CaptionPlacer().place(masks, {1: ["1 hippopotamus", "1"]}, FONT)
    assert captions[1].text == "1"
    assert CaptionPlacer().place(masks, {1: ["1 hippopotamus"]}, FONT) == {}


def test_a_caption_moves_with_its_object() -> None:
    placer = CaptionPlacer()
    other = {2: disk(60, 60, 30)}
    first = placer.place({1: disk(100, 120, 50), **other}, {1: ["1 car"]}, FONT)[1]
    second = placer.place({1: disk(110, 124, 50), **other}, {1: ["1 car"]}, FONT)[1]
    assert abs(second.left - first.left - 10) <= 3 and abs(second.top - first.top - 4) <= 3


def test_captions_are_written_onto_the_canvas_in_letters_that_stand_out() -> None:
    canvas = np.full((*SIZE, 3), 90, dtype=np.uint8)
    masks = {1: disk(90, 120, 60), 2: disk(300, 120, 70)}
    draw_captions(canvas, masks, {1: "bright", 2: ["dark"]}, {1: (0, 255, 255), 2: (120, 0, 0)}, CaptionPlacer())
    left, right = canvas[:, :200].reshape(-1, 3), canvas[:, 200:].reshape(-1, 3)
    assert (left == (0, 255, 255)).all(1).any() and (left == (0, 0, 0)).all(1).any()
    assert (right == (120, 0, 0)).all(1).any() and (right == (255, 255, 255)).all(1).any()
