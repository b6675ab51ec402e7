"""docs/extending.md, followed to the letter in a copy of the code: what each of its four texts adds, works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.helpers import official_trees as trees
from tests.helpers.commands import run_python
from tests.helpers.documents import sections
from tests.helpers.extending import follow, imported_from, run_commands
from tests.helpers.hierarchical_config import SMALL
from tests.helpers.paths import ROOT

TEXT = sections((ROOT / "docs" / "extending.md").read_text(encoding="utf-8"))
TINY = [
    *(value for value in SMALL if not value.startswith(("INPUT.NUM_CLASSES", "MODEL.OFFSET", "TRAINING.GLOW_EPOCH"))),
    "MODEL.SEEDINESS.INTER_CHANNELS=[8, 8, 8, 8]", "MODEL.SEEDINESS.GN_NUM_GROUPS=4", "INPUT.MIN_DIM=32",
    "INPUT.MAX_DIM=64", "TRAINING.MAX_ITERATIONS=1", "DATA.DAVIS.FRAME_GAP_LOWER=1", "DATA.DAVIS.FRAME_GAP_UPPER=1",
    "DATA.YOUTUBE_VIS.FRAME_GAP_LOWER=1", "DATA.YOUTUBE_VIS.FRAME_GAP_UPPER=1", "DATA.DAVIS.INFERENCE_FRAME_OVERLAP=1",
    "DATA.YOUTUBE_VIS.INFERENCE_FRAME_OVERLAP=1",
]  # fmt: skip
TRAINING = ["--num_cpu_workers", "0", "--display_interval", "1", "--set", *TINY]
ON_DAVIS = {"stemseg/training/main.py": [*TRAINING, "DATA.MIX={davis: 1}"]}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A reader's home with DAVIS and COCO as they are downloaded, and DAVIS prepared."""
    home = tmp_path / "home"
    trees.davis(home / "downloads/DAVIS")
    trees.coco(home / "downloads/coco")
    folders = {
        "HOME": home,
        "STEMSEG_MODELS_DIR": home / "models",
        "STEMSEG_JSON_ANNOTATIONS_DIR": home / "annotations",
        "DAVIS_BASE_DIR": home / "downloads/DAVIS",
        "COCO_TRAIN_IMAGES_DIR": home / "downloads/coco/train2017",
        "CAMERA_TRAPS_BASE_DIR": home,  # so that it is as before after the test
    }
    for name, path in folders.items():
        monkeypatch.setenv(name, str(path))
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # else preparing starts processes that import everything again
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run_python("scripts/prepare_dataset.py", ["davis", str(home / "downloads/DAVIS")], ROOT) == 0
    return home


def make_camera_traps(root: Path) -> None:
    """The download that the text describes."""
    animals = {"clearing": {"1": "deer", "4": "fox"}, "brook": {"2": "wild boar"}, "ridge": {"1": "deer"}}
    splits = {"clearing": "train", "brook": "train", "ridge": "val"}
    for name, kinds in animals.items():
        for t in range(4):
            trees.write_image(root / f"videos/{name}/{t:05d}.jpg", seed=t)
            ids = trees.id_map(t, list(map(int, kinds)))
            trees.write_palette_png(root / f"masks/{name}/{t:05d}.png", ids)
    videos = {name: {"split": splits[name], "animals": kinds} for name, kinds in animals.items()}
    (root / "videos.json").write_text(json.dumps(videos))


def test_a_dataset_is_prepared_trained_on_segmented_and_measured(home: Path, tmp_path: Path) -> None:
    make_camera_traps(home / "downloads/camera_traps")
    text, copy = TEXT["A dataset"], tmp_path / "copy"
    files = follow(text, copy)
    assert len(files) == 4  # the converter, the map, the entry; and a run's configuration
    with imported_from(copy):
        assert run_python("scripts/prepare_dataset.py", ["coco", str(home / "downloads/coco")], copy) == 0
        run_commands(text, copy, {"stemseg/training/main.py": TRAINING}, **{"050000.pth": "000001.pth"})
        from stemseg.config import load_config
        from stemseg.data.dataset import build_training_dataset, training_category_names

        cfg = load_config("camera_traps", [*TINY, "TRAINING.MAX_ITERATIONS=20"])
        assert list(training_category_names(cfg).values()) == ["deer", "fox", "wild boar"]
        dataset = build_training_dataset(cfg)
        clips = [dataset[i] for i in range(40)]
    found = {clip.name.split("/")[0]: set() for clip in clips}
    for clip in clips:
        found[clip.name.split("/")[0]] |= set(clip.targets.category_ids.tolist())
    assert found == {"camera_traps": {1, 2, 3}, "coco": {2}}  # COCO's dogs train as foxes
    results = home / "models/checkpoints/camera_traps/first/inference"
    assert {entry["video_id"] for entry in json.loads((results / "results.json").read_text())} <= {"ridge"}
    assert (results / "evaluation").is_dir()


def test_a_loss_is_logged_and_its_gradient_reaches_the_network(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    copy = tmp_path / "copy"
    assert len(follow(TEXT["A loss"], copy)) == 3
    with imported_from(copy):
        run_commands(TEXT["A loss"], copy, ON_DAVIS)
        assert "separation 0." in capsys.readouterr().err
        gradients, terms = {}, {}
        for weight in (0, 5):
            gradients[weight], terms[weight] = gradients_of_a_step(f"TRAINING.LOSSES.WEIGHT_SEPARATION={weight}")
        from stemseg.config import load_config
        from stemseg.modeling.losses.separation_loss import separation_loss
        from stemseg.structures.clip import ClipTargets
        from stemseg.structures.network_output import NetworkOutput
        from stemseg.utils.errors import ConfigError

        with pytest.raises(ConfigError, match="expected a number from 0"):
            load_config(overrides=["TRAINING.LOSSES.WEIGHT_SEPARATION=-1"])
    assert "separation" not in terms[0]
    name = "embedding_head.conv_embedding.weight"
    assert (gradients[0][name] - gradients[5][name]).abs().max() > 1e-6
    # two instances of one pixel each, 0.6 apart; an instance without pixels is no pair
    embedding = torch.tensor([[0.0, 0.6]])[None, :, None, None].requires_grad_()
    masks = torch.tensor([[1, 0], [0, 1], [0, 0]], dtype=torch.uint8)[:, None, None]
    targets = [ClipTargets(masks, torch.ones(3), masks[0])]
    loss = separation_loss(NetworkOutput(embedding, embedding, embedding), targets)
    assert loss.item() == pytest.approx(0.4**2)
    loss.backward()
    assert embedding.grad.flatten().tolist() == pytest.approx([0.8, -0.8])


def test_a_head_gives_its_output_and_learns(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    copy = tmp_path / "copy"
    follow(TEXT["A head"], copy)
    with imported_from(copy):
        run_commands(TEXT["A head"], copy, ON_DAVIS)
        assert "border " in capsys.readouterr().err
        gradients, terms = gradients_of_a_step("MODEL.USE_BORDER_HEAD=true")
        from stemseg.config import load_config
        from stemseg.modeling.losses.border_loss import border_target
        from stemseg.modeling.network import build_network
        from stemseg.structures.clip import ClipTargets

        without, network = (
            build_network(load_config("davis_1", [*TINY, f"MODEL.USE_BORDER_HEAD={value}"])) for value in (False, True)
        )
    assert terms["border"] > 0 and gradients["border_head.conv_out.weight"].any()
    output = network(torch.zeros(1, 2, 3, 32, 64))
    assert output.border_logits.shape == (1, 1, 2, 8, 16)
    assert without(torch.zeros(1, 2, 3, 32, 64)).border_logits is None
    assert set(network.state_dict()) - set(without.state_dict()) == {
        "border_head.conv_out.weight", "border_head.conv_out.bias",
    }  # fmt: skip
    mask = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    mask[..., 3:] = 1
    assert border_target(ClipTargets(mask, torch.ones(1), mask[0]))[0, 2].tolist() == [0, 0, 1, 1, 0]


def test_a_clustering_rule_is_chosen_by_its_key(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy"
    assert follow(TEXT["A clustering rule"], copy) == ["stemseg/inference/clustering.py"]
    with imported_from(copy):
        save_random_weights(home / "models/published/davis.pth")
        from stemseg.config import load_config
        from stemseg.inference import clustering

        used = []
        original = clustering.MostProbableClustering.__call__
        monkeypatch.setattr(
            clustering.MostProbableClustering,
            "__call__",
            lambda self, *points: used.append(original(self, *points)) or used[-1],
        )
        everywhere = ["CLUSTERING.MIN_SEEDINESS_PROB=0.0", "--seediness_thresh", "0"]  # the weights are random
        run_commands(TEXT["A clustering rule"], copy, {"stemseg/inference/main.py": everywhere})
        assert sum(clusters.num_instances for clusters in used) > 0
        thresholds = ["CLUSTERING.PRIMARY_PROB_THRESHOLD=0.3", "CLUSTERING.SECONDARY_PROB_THRESHOLD=0.3"]
        first, second = (
            clustering.build_clustering(load_config(overrides=[f"CLUSTERING.RULE={name}", *thresholds]))
            for name in ("sequential", "most_probable")
        )
    # on a line: the third point is within reach of the first center, but nearer to the second
    points = torch.tensor([[0.0, 3.0, 2.0, 9.0]]), torch.ones(1, 4), torch.tensor([0.9, 0.85, 0.1, 0.1])
    assert first(*points).labels.tolist() == [0, 1, 0, -1]
    assert second(*points).labels.tolist() == [0, 1, 1, -1]
    assert second(*(x[..., :0] for x in points)).num_instances == 0


def gradients_of_a_step(override: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Gradients by name, and the terms of the loss, of a clip with two objects side by side."""
    from stemseg.config import load_config
    from stemseg.modeling.network import build_network
    from stemseg.structures.clip import ClipBatch, ClipTargets
    from stemseg.training.loss import build_loss

    cfg = load_config("davis_1", [*TINY, override])
    torch.manual_seed(0)
    masks = torch.zeros(2, 2, 32, 64, dtype=torch.uint8)
    masks[0, :, 4:28, 20:32], masks[1, :, 4:28, 32:44] = 1, 1
    targets = ClipTargets(masks, torch.ones(2, dtype=torch.int64), torch.zeros(2, 32, 64, dtype=torch.uint8))
    loss = build_loss(cfg, build_network(cfg))
    report = loss(ClipBatch(torch.randn(1, 2, 3, 32, 64), [targets], [(32, 64)], ["clip"]))
    report.total.backward()
    gradients = {name: p.grad for name, p in loss.network.named_parameters() if p.grad is not None}
    return gradients, {name: float(value) for name, value in report.terms.items()}


def save_random_weights(path: Path) -> None:
    """A checkpoint of davis_2 in a tiny size, and its configuration beside it."""
    from stemseg.config import load_config
    from stemseg.modeling.network import build_network

    cfg = load_config("davis_2", TINY)
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(build_network(cfg).state_dict(), path)
    cfg.save(path.parent / "config.yaml")
