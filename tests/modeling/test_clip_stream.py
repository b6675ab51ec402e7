"""Work that inference does once per frame equals what heads compute anew for each clip, and is as much less work."""

from collections import deque

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from stemseg.config import load_config
from stemseg.inference.chaining import ClipSchedule
from stemseg.modeling.clip_stream import ClipStream, PlainClipStream, SharedClipStream
from stemseg.modeling.network import Network, build_network
from stemseg.structures.network_output import NetworkOutput
from tests.helpers.hierarchical_config import RELEASED, small_hierarchical_config

SIZE = (64, 96)


def _network(*overrides: str) -> Network:
    torch.manual_seed(1)
    return build_network(small_hierarchical_config(*overrides)).eval()


@torch.inference_mode()
def _outputs(stream: ClipStream, frames: Tensor, clip_length: int, overlap: int, batch: int) -> list[NetworkOutput]:
    """The output of every clip of a video, and a check of what is kept meanwhile."""
    schedule, outputs = ClipSchedule(clip_length, overlap), []
    for part in frames.split(batch):
        for frame in stream.encode(part):
            stream.append(frame)
            outputs += [stream.decode(clip.indices) for clip in schedule.add(1)]
            stream.forget_before(schedule.first_open_frame)
            assert len(stream) <= clip_length
    return outputs + [stream.decode(clip.indices) for clip in schedule.finish()]


def _assert_equal(shared: list[NetworkOutput], plain: list[NetworkOutput]) -> None:
    assert len(shared) == len(plain) > 0
    for ours, theirs in zip(shared, plain, strict=True):
        for x, y in zip(ours, theirs, strict=True):
            assert (x is None) == (y is None)
            if x is not None:
                assert x.shape == y.shape
                assert (x - y).abs().max() <= 2e-6 * y.abs().max().clamp(min=1)


@pytest.mark.parametrize(
    ("clip_length", "overlap", "num_frames"),
    [
        (2, 1, 5),
        (4, 1, 9),
        (4, 3, 7),
        (8, 4, 19),
        (8, 4, 8),
        (8, 6, 13),
        (8, 4, 5),
        (4, 2, 1),
        (16, 6, 21),
        (24, 8, 25),
    ],
)
def test_every_clip_equals_the_heads_run_anew(clip_length: int, overlap: int, num_frames: int):
    network = _network(f"INPUT.NUM_FRAMES={clip_length}")
    frames = torch.randn(num_frames, 3, *SIZE)
    arguments = (frames, clip_length, overlap, 3)
    _assert_equal(_outputs(network.open_stream(), *arguments), _outputs(PlainClipStream(network), *arguments))


@pytest.mark.parametrize(
    "overrides",
    [
        RELEASED,
        ("MODEL.OFFSET.FEATURES=stride4",),
        ("MODEL.USE_OFFSET_HEAD=false", "MODEL.EMBEDDING_DIM_MODE=xytfff", "MODEL.USE_SEEDINESS_HEAD=true",
         "MODEL.SEEDINESS.INTER_CHANNELS=[4, 8, 4, 8]", "MODEL.SEEDINESS.GN_NUM_GROUPS=2"),
        ("MODEL.EMBEDDINGS.POOL_TYPE=max", "MODEL.SEMSEG.POOL_TYPE=max", "MODEL.EMBEDDINGS.NORMALIZATION_LAYER=none"),
        ("MODEL.SEMSEG.SHARE_TRUNK=true",),
    ],
    ids=["released", "appearance of stride 4", "seediness head", "max pools, no norm", "shared trunk"],
)  # fmt: skip
def test_every_kind_of_heads(overrides: tuple[str, ...]):
    network = _network("INPUT.NUM_FRAMES=4", *overrides)
    arguments = (torch.randn(11, 3, *SIZE), 4, 2, 4)
    _assert_equal(_outputs(network.open_stream(), *arguments), _outputs(PlainClipStream(network), *arguments))


def test_kept_maps_do_not_hold_the_memory_of_their_batch():
    network = _network("INPUT.NUM_FRAMES=2")
    with torch.inference_mode():
        terms = deque(network.open_stream().encode(torch.randn(4, 3, *SIZE)))[0]
    for pyramid in (terms.own, terms.to_next):
        assert all(x.untyped_storage().nbytes() == x.numel() * x.element_size() for x in pyramid)


def _gigaflops_per_new_frame(config: str, overlap: int) -> float:
    """Arithmetic of backbone and heads at 256 x 448 for one more frame of a long video, counted without computing."""
    cfg = load_config(config, ["MODEL.BACKBONE.PRETRAINED_WEIGHTS=null"])
    clip_length = cfg.INPUT.NUM_FRAMES
    with torch.device("meta"):
        network = build_network(cfg).eval()
        frames = torch.zeros(clip_length - overlap, 3, 256, 448)
        stream, schedule = SharedClipStream(network), ClipSchedule(clip_length, overlap)
        _advance(stream, schedule, torch.zeros(clip_length, 3, 256, 448))
        with FlopCounterMode(display=False) as counter:
            _advance(stream, schedule, frames)
    return counter.get_total_flops() / len(frames) / 1e9


@torch.inference_mode()
def _advance(stream: ClipStream, schedule: ClipSchedule, frames: Tensor) -> None:
    for frame in stream.encode(frames):
        stream.append(frame)
        for clip in schedule.add(1):
            stream.decode(clip.indices)
        stream.forget_before(schedule.first_open_frame)


@pytest.mark.parametrize(("config", "overlap", "most"), [("davis_2", 6, 88), ("youtube_vis", 4, 107)])
def test_arithmetic_of_a_new_frame(config: str, overlap: int, most: float):
    assert _gigaflops_per_new_frame(config, overlap) <= most
