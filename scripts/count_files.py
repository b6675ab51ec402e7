"""Count the files that one has to open to follow a value through the package: ``python scripts/count_files.py``.

A sample is followed from the standard JSON to its loss, a frame from the image file to the result file: each on a tiny
network and generated videos, with a tracer that notes the file of every function that is called. Not counted is what
every way uses and none leads through: config/ (settings), datasets.py (the registry), utils/ (clocks, threads, files).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone runs without being installed

import torch

import stemseg
from stemseg.config import Config, load_config
from stemseg.data.dataset import build_training_dataset
from stemseg.data.preprocessing import collate_clips
from stemseg.data.synthetic.dataset import generate_dataset
from stemseg.data.synthetic.scenes import SHAPES, SceneOptions
from stemseg.inference.inputs import open_dataset
from stemseg.inference.result_folder import ResultFolder
from stemseg.inference.runner import InferenceRunner
from stemseg.inference.video_segmenter import build_segmenter
from stemseg.inference.writers.youtube_vis import YouTubeVisWriter
from stemseg.modeling.network import build_network
from stemseg.training.loss import build_loss
from stemseg.utils.distributed import ProcessInfo

PACKAGE = Path(stemseg.__file__).resolve().parent
ASIDE = ("config/", "datasets.py", "utils/")
_SMALL = (
    "INPUT.MIN_DIM=64", "INPUT.MAX_DIM=96", "INPUT.NUM_FRAMES=4", "DATA.CUSTOM.INFERENCE_FRAME_OVERLAP=2",
    "MODEL.RESNETS.STEM_OUT_CHANNELS=8", "MODEL.RESNETS.RES2_OUT_CHANNELS=16", "MODEL.RESNETS.WIDTH_PER_GROUP=4",
    "MODEL.EMBEDDINGS.INTER_CHANNELS=[8, 8, 8, 8]", "MODEL.SEMSEG.INTER_CHANNELS=[8, 8, 8, 8]",
    "CLUSTERING.MIN_SEEDINESS_PROB=0.0",
)  # fmt: skip


class Count(NamedTuple):
    """The files of one way, and how many there may be."""

    title: str
    limit: int
    files: list[str]


def count_all() -> list[Count]:
    """Every count, on videos that are generated for it."""
    with tempfile.TemporaryDirectory() as folder:
        generate_dataset(folder, (2, 2), SceneOptions(64, 96, 9, 3, tuple(SHAPES)[:5]))
        cfg = _tiny_config(Path(folder))
        flow = sorted((PACKAGE / "modeling" / "flow").glob("*.py"))
        return [
            Count("from a sample's JSON to its loss", 20, files_to_loss(cfg)),
            Count("from a frame to the result file", 20, files_to_result(cfg, Path(folder) / "results")),
            Count(
                "modules behind stemseg.training.main",
                80,
                modules_behind("stemseg.training.main", "stemseg.training.run"),
            ),
            Count("files of the flow", 6, [path.relative_to(PACKAGE).as_posix() for path in flow]),
        ]


def files_to_loss(cfg: Config) -> list[str]:
    """Files whose functions run from reading the annotation file to the loss of a batch of clips."""
    loss = build_loss(cfg, build_network(cfg))

    def train() -> None:
        dataset = build_training_dataset(cfg)
        loss(collate_clips([dataset[0], dataset[1]]).to("cpu")).total.backward()

    return trace(train)


def files_to_result(cfg: Config, folder: Path) -> list[str]:
    """Files whose functions run from reading the frames of videos to writing their tracks as results.json."""
    torch.manual_seed(0)
    segmenter = build_segmenter(cfg, build_network(cfg), device=torch.device("cpu"), section="CUSTOM", num_workers=1)
    results = ResultFolder(folder)
    results.open({}, overwrite=True)
    runner = InferenceRunner(
        sources=open_dataset("custom", "val", cfg, None).sources,
        folder=results,
        new_segmenter=lambda: segmenter,
        writers=[YouTubeVisWriter(folder)],
        overlays=None,
        process=ProcessInfo(),
        num_workers=1,
    )
    return trace(runner.run)


def modules_behind(*names: str) -> list[str]:
    """The package's modules that a fresh interpreter has loaded after importing some of them."""
    code = f"import sys, {', '.join(names)}; print(*(m for m in sys.modules if m.split('.')[0] == 'stemseg'))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    return sorted(result.stdout.split())


def trace(function: Callable[[], object]) -> list[str]:
    """The package's files, less those of :data:`ASIDE`, of which a function runs during a call, in any thread."""
    found: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and code.co_filename.startswith(str(PACKAGE)):
            found.add(Path(code.co_filename).relative_to(PACKAGE).as_posix())

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return sorted(name for name in found if not name.startswith(ASIDE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the counts and what they count; returns 1 where one is over its limit."""
    counts = count_all()
    for count in counts:
        print(f"{len(count.files):3d} {count.title} (limit {count.limit})")
        print(*(f"      {name}" for name in count.files), sep="\n")
    return int(any(len(count.files) > count.limit for count in counts))


def _tiny_config(folder: Path) -> Config:
    paths = {f"{split.upper()}_{kind}": folder / f"{split}{end}"
             for split in ("train", "val") for kind, end in (("JSON", ".json"), ("IMAGES", ""))}  # fmt: skip
    return load_config("quickstart", [*_SMALL, *(f"DATA.CUSTOM.{key}={path}" for key, path in paths.items())])


if __name__ == "__main__":
    sys.exit(main())
