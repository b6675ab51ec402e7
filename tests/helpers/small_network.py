"""Overrides that make any configuration's network small enough for tests."""

from __future__ import annotations

_DECODERS = ("EMBEDDINGS", "SEEDINESS", "SEMSEG")

SMALL_NETWORK = (
    "MODEL.BACKBONE.TYPE=R-14-FPN",
    "MODEL.BACKBONE.NORM=group",
    "MODEL.BACKBONE.NORM_GROUPS=4",
    "MODEL.BACKBONE.FREEZE_AT_STAGE=0",
    "MODEL.BACKBONE.PRETRAINED_WEIGHTS=null",
    "MODEL.RESNETS.STEM_OUT_CHANNELS=8",
    "MODEL.RESNETS.RES2_OUT_CHANNELS=16",
    "MODEL.RESNETS.WIDTH_PER_GROUP=8",
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS=8",
    *(f"MODEL.{decoder}.INTER_CHANNELS=[8, 8, 8, 8]" for decoder in _DECODERS),
    *(f"MODEL.{decoder}.GN_NUM_GROUPS=4" for decoder in _DECODERS),
)
"""A ResNet-14 of 8 channels, trainable everywhere, and decoders of 8."""

# two classes, as a model of a dataset of one's own has them; it finds something without being trained
SMALL_CUSTOM_MODEL = (
    *SMALL_NETWORK,
    "INPUT.MIN_DIM=64",
    "INPUT.MAX_DIM=96",
    "INPUT.NUM_FRAMES=4",
    "INPUT.NUM_CLASSES=3",
    "TRAINING.MODE=custom",
    "DATA.MIX={custom: 1.0}",
    "MODEL.USE_SEEDINESS_HEAD=false",
    "MODEL.USE_SEMSEG_HEAD=true",
    "DATA.CUSTOM.INFERENCE_FRAME_OVERLAP=2",
    "CLUSTERING.MIN_SEEDINESS_PROB=0.1",
)
"""Small input and clips of four frames; any seediness above a tenth starts an instance."""
