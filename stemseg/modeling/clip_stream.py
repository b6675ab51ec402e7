"""Frames in, outputs of their clips out: what inference runs of the network, and what it keeps of each frame meanwhile.

Consecutive clips overlap, so most frames are in several clips. The backbone sees a frame by itself, and is run once.
So is, in :class:`SharedClipStream`, each decoder block's first convolution, which is nine tenths of the heads' work: of
the three planes of its kernel, each is applied to each frame once, and a clip's map is the sum of what its frames give.

    out[t] = W[0] f[t - 1] + W[1] f[t] + W[2] f[t + 1] + bias,    f = 0 outside of the clip

The clip decides only which terms are left out at its two ends; everything behind (norm, pools, further convolutions)
sees the whole clip, and is computed for each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from stemseg.modeling.decoders.squeeze_expand import SqueezeExpandDecoder
from stemseg.structures.network_output import FeaturePyramid, NetworkOutput

Frame = TypeVar("Frame")


class ClipStream(ABC, Generic[Frame]):
    """The frames of one video as they arrive, and the network's output for clips of them.

    ``Frame`` is the type of what the network makes of a single frame.
    Frames are numbered from 0 in the order of :meth:`append`. A clip is decoded as soon as its last frame is there.
    """

    @abstractmethod
    def encode(self, frames: Tensor) -> Iterator[Frame]:
        """The network's work on single frames [F, 3, H, W]: F items for :meth:`append`."""

    @abstractmethod
    def append(self, frame: Frame) -> None:
        """Take in the next frame."""

    @abstractmethod
    def decode(self, frames: Sequence[int]) -> NetworkOutput:
        """The output, N = 1, for a clip that ends with the newest frame.

        Args:
            frames: T consecutive frame numbers; frame 0 may be repeated in front.
        """

    @abstractmethod
    def forget_before(self, frame: int) -> None:
        """Drop all earlier frames: no clip will need them again."""

    @abstractmethod
    def __len__(self) -> int:
        """Frames that are in memory."""


class EncoderDecoder(Protocol):
    """A network in two halves, the first of which sees single frames."""

    def encode(self, frames: Tensor) -> FeaturePyramid:
        """[F, 3, H, W] -> maps [F, C, H/s, W/s]."""

    def decode(self, features: FeaturePyramid) -> NetworkOutput:
        """Maps of clips [N, C, T, H/s, W/s] -> output."""


class PlainClipStream(ClipStream[FeaturePyramid]):
    """Keeps the feature maps of frames and runs the heads anew on each clip: for any network, and to compare with."""

    def __init__(self, network: EncoderDecoder) -> None:
        self._network = network
        self._features: dict[int, FeaturePyramid] = {}
        self._num_frames = 0

    def encode(self, frames: Tensor) -> Iterator[FeaturePyramid]:
        """Feature maps [C, H/s, W/s] of each frame."""
        return (FeaturePyramid(*levels) for levels in zip(*self._network.encode(frames), strict=True))

    def append(self, frame: FeaturePyramid) -> None:
        """Keep a frame's feature maps."""
        self._features[self._num_frames] = frame
        self._num_frames += 1

    def decode(self, frames: Sequence[int]) -> NetworkOutput:
        """All heads on the feature maps of a clip."""
        levels = zip(*(self._features[frame] for frame in frames), strict=True)
        return self._network.decode(FeaturePyramid(*(torch.stack(maps, dim=1)[None] for maps in levels)))

    def forget_before(self, frame: int) -> None:
        """Drop the feature maps of earlier frames."""
        for old in [f for f in self._features if f < frame]:
            del self._features[old]

    def __len__(self) -> int:
        return len(self._features)


class FrameTerms(NamedTuple):
    """The part of one frame in first convolutions. At each stride one map [C', H/s, W/s], C' channels of all decoders.

    Attributes:
        to_previous: W[2] f, its part in the output of the frame before.
        own: W[1] f + bias.
        to_next: W[0] f, its part in the output of the frame behind.
        of_appearance: [C, H/s, W/s], the feature map itself that the appearance decoder reads, as a rule the coarsest.
    """

    to_previous: FeaturePyramid
    own: FeaturePyramid
    to_next: FeaturePyramid
    of_appearance: Tensor


class FirstConvolutions:
    """The first convolutions of all decoders' blocks, on single frames; those that read one map are one convolution.

    Args:
        decoders: of one network, not trained any more: their weights are copied.
    """

    def __init__(self, decoders: Sequence[SqueezeExpandDecoder]) -> None:
        self._channels = [[block[0].out_channels for block in decoder.blocks] for decoder in decoders]
        convolutions = list(zip(*([block[0] for block in decoder.blocks] for decoder in decoders), strict=True))
        # [3 * C', C, 3, 3], plane after plane of the kernels' time axis, all decoders in each
        self._weights = [torch.cat([c.weight for c in convs]).movedim(2, 0).flatten(0, 1) for convs in convolutions]
        self._biases = [torch.cat([c.bias for c in convs])[:, None, None] for convs in convolutions]

    def __call__(self, features: FeaturePyramid, of_appearance: Tensor) -> Iterator[FrameTerms]:
        """Feature maps of frames [F, C, H/s, W/s], and the one for the appearance decoder -> F items."""
        levels = []
        for maps, weight in zip(features, self._weights, strict=True):
            # on a CPU it costs less to bring the input into the plain layout than the three times larger output
            maps = maps.contiguous() if maps.device.type == "cpu" else maps
            levels.append(F.conv2d(maps, weight, padding=1).unflatten(1, (3, -1)))  # [F, 3, C', h, w]
        for frame, source in enumerate(of_appearance):
            # what is kept is copied, so that the planes of the other frames are not kept with it
            yield FrameTerms(
                to_previous=FeaturePyramid(*(planes[frame, 2] for planes in levels)),
                own=FeaturePyramid(*(x[frame, 1] + bias for x, bias in zip(levels, self._biases, strict=True))),
                to_next=FeaturePyramid(*(planes[frame, 0].clone() for planes in levels)),
                of_appearance=source.clone(),
            )

    def split(self, joined: FeaturePyramid) -> list[FeaturePyramid]:
        """Maps [N, C', T, h, w] of all decoders -> those of each."""
        levels = [
            maps.split([channels[level] for channels in self._channels], dim=1) for level, maps in enumerate(joined)
        ]
        return [FeaturePyramid(*maps) for maps in zip(*levels, strict=True)]


class _Kept(NamedTuple):
    """The kept part of a frame.

    Attributes:
        onward: the sum of its own term and the next frame's.
        before: the term of the frame before; for frame 0 its own, since only a repetition of it can stand before it.
        of_appearance: see :class:`FrameTerms`.
    """

    onward: FeaturePyramid
    before: FeaturePyramid
    of_appearance: Tensor


class StreamedNetwork(EncoderDecoder, Protocol):
    """The parts of a network that :class:`SharedClipStream` needs."""

    @property
    def decoders(self) -> list[SqueezeExpandDecoder]:
        """All decoders that read the feature maps."""

    def appearance_map(self, features: FeaturePyramid) -> Tensor:
        """The feature map that the appearance decoder reads."""

    def decode_convolved(self, convolved: Sequence[FeaturePyramid], of_appearance: Tensor) -> NetworkOutput:
        """The rest of the heads, behind the first convolutions of each of :attr:`decoders`."""


class SharedClipStream(ClipStream[FrameTerms]):
    """Computes each frame's part in the first convolutions once, and keeps that in place of its feature maps.

    Two maps a frame are kept at each stride, since any frame may turn out to be the first of the video's last clip.

    Args:
        network: in evaluation mode, on its device for good.
    """

    def __init__(self, network: StreamedNetwork) -> None:
        self._network = network
        self._convolutions = FirstConvolutions(network.decoders)
        self._kept: dict[int, _Kept] = {}
        self._to_next: FeaturePyramid | None = None  # of the newest frame
        # of frame 0 followed by itself; empty once the video can't be shorter than a clip
        self._repeated: list[FeaturePyramid] = []
        self._num_frames = 0

    def encode(self, frames: Tensor) -> Iterator[FrameTerms]:
        """Backbone and first convolutions on frames."""
        features = self._network.encode(frames)
        return self._convolutions(features, self._network.appearance_map(features))

    def append(self, frame: FrameTerms) -> None:
        """Keep a frame's terms, and add its part to the frame before."""
        if self._to_next is None:
            self._repeated = [FeaturePyramid(*map(torch.add, frame.own, frame.to_previous))]
        elif self._num_frames - 1 in self._kept:
            for total, term in zip(self._kept[self._num_frames - 1].onward, frame.to_previous, strict=True):
                total += term
        self._kept[self._num_frames] = _Kept(frame.own, self._to_next or frame.to_next, frame.of_appearance)
        self._to_next = frame.to_next
        self._num_frames += 1

    def decode(self, frames: Sequence[int]) -> NetworkOutput:
        """The heads from the sums of the clip's terms."""
        padding = len(frames) - (frames[-1] - frames[0] + 1)
        clip = [self._kept[frame] for frame in frames]
        # all repetitions of frame 0 but the last are followed by frame 0
        onward = self._repeated * padding + [frame.onward for frame in clip[padding:]]
        before = [frame.before for frame in clip[1:]]
        levels = zip(_by_level(onward), _by_level(before), strict=True)
        joined = FeaturePyramid(*(_sum_terms(*terms) for terms in levels))
        of_appearance = torch.stack([frame.of_appearance for frame in clip], dim=1)[None]
        return self._network.decode_convolved(self._convolutions.split(joined), of_appearance)

    def forget_before(self, frame: int) -> None:
        """Drop the terms of earlier frames."""
        for old in [f for f in self._kept if f < frame]:
            del self._kept[old]
        if frame > 0:
            self._repeated.clear()

    def __len__(self) -> int:
        return len(self._kept)


def _by_level(frames: Sequence[FeaturePyramid]) -> list[list[Tensor]]:
    """T pyramids -> the T maps of each of the four strides."""
    return [[frame[level] for frame in frames] for level in range(len(FeaturePyramid._fields))]


def _sum_terms(onward: Sequence[Tensor], before: Sequence[Tensor]) -> Tensor:
    """T maps [C', h, w], and T - 1 of those behind the first -> their sum [1, C', T, h, w]."""
    total = torch.stack(list(onward), dim=1)  # [C', T, h, w]
    for t, term in enumerate(before, start=1):
        total[:, t] += term
    return total[None]
