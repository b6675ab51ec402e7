"""Plain implementations of what the package computes fast: the yardstick of tests and benchmarks.

The plain losses are part of the package, beside the fast ones, since they are what a reader of the method looks for.
"""

from stemseg.modeling.losses.embedding_loss import plain_embedding_loss
from stemseg.modeling.losses.lovasz import plain_lovasz_hinge
from tests.reference.clustering import cluster, cluster_and_rate, label_ious, match
from tests.reference.inference import PlainClip, PlainVideo, segment_plainly
from tests.reference.loading import load_still_clip, load_video_clip

__all__ = [
    "PlainClip",
    "PlainVideo",
    "cluster",
    "cluster_and_rate",
    "label_ious",
    "load_still_clip",
    "load_video_clip",
    "match",
    "plain_embedding_loss",
    "plain_lovasz_hinge",
    "segment_plainly",
]
