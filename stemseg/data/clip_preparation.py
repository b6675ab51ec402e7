"""The last step of loading: from a raw clip to the tensors of a training sample, at network size."""

from __future__ import annotations

import numpy as np
import torch

from stemseg.data.masks import resize_mask_into
from stemseg.data.preprocessing import ImagePreprocessor
from stemseg.data.raw_clip import RawClip
from stemseg.structures.clip import Clip, ClipTargets


def prepare_clip(clip: RawClip, preprocessor: ImagePreprocessor) -> Clip:
    """Resize and normalise a raw clip.

    Pixels that a warp took from outside the image become zero after normalisation, like padding. They are background,
    not an ignore region: at inference the network meets the same zeros beside the image and must find nothing there.
    Instances without any pixel left in the clip are dropped.
    """
    height, width = preprocessor.output_size(*clip.frames[0].image.shape[:2])
    num_frames, num_instances = len(clip.frames), len(clip.category_ids)
    frames = np.empty((num_frames, 3, height, width), dtype=np.float32)
    masks = np.zeros((num_instances, num_frames, height, width), dtype=np.uint8)
    ignore = np.zeros((num_frames, height, width), dtype=np.uint8)
    visible = np.zeros(num_instances, dtype=bool)
    for t, frame in enumerate(clip.frames):
        preprocessor.write(frame.image, frames[t], frame.valid)
        for instance in frame.ids.places:
            visible[instance] |= resize_mask_into(frame.ids.mask(instance), masks[instance, t])
        if frame.ignore is not None:
            resize_mask_into(frame.ignore, ignore[t])
    categories = np.asarray(clip.category_ids, dtype=np.int64)[visible]
    kept_masks = masks if visible.all() else masks[visible]
    targets = ClipTargets(*(torch.from_numpy(array) for array in (kept_masks, categories, ignore)))
    return Clip(torch.from_numpy(frames), targets, clip.name)
