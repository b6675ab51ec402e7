"""Clips of white squares that move, made without files."""

import numpy as np

from stemseg.data.annotated_frame import AnnotatedClip, AnnotatedFrame, pack_masks


def square_clip(*squares, size=(24, 40), color=50, num_frames=3, category=1):
    """A gray clip; each square is (top, left, side) and white, moving one pixel to the right in each frame."""
    frames = []
    for t in range(num_frames):
        image = np.full((*size, 3), color, np.uint8)
        masks = []
        for i, (top, left, side) in enumerate(squares):
            mask = np.zeros(size, np.uint8)
            mask[top : top + side, left + t : left + t + side] = 1
            image[mask > 0] = 255
            masks.append((i, mask))
        frames.append(AnnotatedFrame(image, pack_masks(masks, *size)))
    return AnnotatedClip(frames, (category,) * len(squares), "squares")
