"""The branches: what they begin with, what their strength and tables are, and the one command at tiny size."""

import json
import re

import pytest
import torch

from scripts.experiments.appearance_flow import branch_main
from scripts.experiments.appearance_flow.branch_tables import compare, lead_rows, mean_rows, smallest_resolved
from scripts.experiments.appearance_flow.branches import (
    BASE,
    BRANCHES,
    Plan,
    balance_gradient,
    branch_config,
    fitting_weights,
)
from scripts.experiments.appearance_flow.cache import CachedClip, ClipOrder
from scripts.experiments.appearance_flow.reidentification import pair_joined
from stemseg.modeling.embedding import mix_appearance
from stemseg.modeling.losses.appearance_loss import appearance_loss
from stemseg.modeling.network import build_network
from stemseg.structures.clip import ClipTargets
from stemseg.structures.network_output import FeaturePyramid

TINY = ["INPUT.NUM_FRAMES=2", "DATA.CUSTOM.INFERENCE_FRAME_OVERLAP=1",
        "MODEL.OFFSET.N_FLOW=1", "MODEL.OFFSET.HIDDEN_CHANNELS=8", "TRAINING.BATCH_SIZE=1",
        "TRAINING.MAX_SAMPLES_PER_GPU=1"]  # fmt: skip


def network_of(name):
    torch.manual_seed(0)
    return build_network(branch_config(BRANCHES[name], "ablation", TINY))


def cached_video(length=6):
    generator = torch.Generator().manual_seed(0)
    features = FeaturePyramid(
        *(torch.randn(1, 32, length, 32 // s, 64 // s, generator=generator) for s in (4, 8, 16, 32))
    )
    masks = torch.zeros(2, length, 8, 16, dtype=torch.uint8)
    masks[0, :, :, :6] = masks[1, :, :, 10:] = 1
    colors = torch.arange(length).float()[None, None, :, None, None].expand(1, 3, -1, 8, 16)
    return CachedClip(features, colors, ClipTargets(masks, torch.ones(2, dtype=torch.int64), 0 * masks[0]))


def test_a_branch_begins_with_all_of_the_base_but_the_losss_own_weights():
    base = {key: value + 1 for key, value in network_of("mask").state_dict().items()}
    fitting = fitting_weights(network_of("image"), base)
    assert fitting.keys() == {key for key in base if not key.startswith("offset_head.")}
    of_finest = fitting_weights(network_of("own-frame"), base)
    assert "embedding_head.conv_embedding.weight" in of_finest


def test_unbounded_free_dimensions_begin_as_the_bases_sum():
    base, network, features = network_of("mask").eval(), network_of("unbounded").eval(), cached_video(2).features
    with torch.no_grad():
        base.embedding_head.conv_embedding.weight.mul_(1e-3)  # where tanh is the identity
        network.load_state_dict({**network.state_dict(), **fitting_weights(network, base.state_dict())})
        expected, found = base.decode(features).embedding, network.decode(features).embedding
    shift = (found - expected)[:, 3:].mean(dim=(2, 3, 4), keepdim=True)  # A's bias moves all points alike
    assert torch.allclose(found[:, 3:], expected[:, 3:] + shift, atol=1e-4)
    assert expected[:, 3:].std() > 0.01


def test_strength_is_the_ratio_of_the_gradients_on_the_appearance():
    network, video, plan = network_of("gaussian").train(), cached_video(), Plan(strength=0.3, strength_batches=1)
    clips = ClipOrder([video], num_frames=2, spans=(3, 3), batch_size=1, seed=0)
    balance_gradient(network, iter(clips), plan)
    features, colors, targets = next(iter(clips))
    output = network.decode(features)
    appearance = output.appearance.detach().requires_grad_()
    rest = mix_appearance(output.embedding, -output.appearance, detach=False).detach()
    mixed = output._replace(embedding=mix_appearance(rest, appearance, detach=False))
    masks = [t.masks for t in targets]
    losses = (
        appearance_loss(network.offset_head, appearance, masks, colors).bits_per_dimension,
        network.embedding_loss_criterion(mixed, targets).total,
    )
    norms = [torch.autograd.grad(loss, appearance)[0].norm() for loss in losses]
    assert (norms[0] / norms[1]).item() == pytest.approx(0.3, rel=1e-2)


def test_an_order_is_a_function_of_its_seed_and_clips_keep_their_span():
    def frames(seed):
        batches = iter(ClipOrder([cached_video()], num_frames=3, spans=(2, 4), batch_size=2, seed=seed))
        return [next(batches)[1][:, 0, :, 0, 0].tolist() for _ in range(4)]

    assert frames(0) == frames(0) != frames(1)
    spans = [clip[-1] - clip[0] for batch in frames(0) + frames(1) for clip in batch]
    assert {abs(s) for s in spans} == {2, 3, 4} and min(spans) < 0 < max(spans)


def test_a_pair_is_joined_by_its_means():
    masks = torch.zeros(2, 2, 1, 4)
    masks[0, :, :, :2] = masks[1, :, :, 2:] = 1
    embedding = torch.tensor([[[[0.0, 0, 1, 1]], [[0.4, 0, 1, 1]]]])
    assert pair_joined(embedding, masks) == 1
    exchanged = torch.cat([embedding[:, :1], 1 - embedding[:, 1:]], dim=1)
    assert pair_joined(exchanged, masks) == 0
    assert pair_joined(torch.zeros(1, 2, 1, 4), masks) == 0.5


def test_tables_test_over_bases_and_state_their_power():
    def orders(*values):
        return [{"reidentified": v} for v in values]

    results = {
        "mask": {0: orders(0.5, 0.7), 1: orders(0.6), 2: orders(0.8)},
        "image": {0: orders(0.7), 1: orders(0.62), 2: orders(0.9), 9: orders(0.1)},
        "color": {0: orders(0.6)},
    }
    assert mean_rows(results)[1] == ["mask", "3", "4", "66.7"]
    head, image, color = lead_rows(results, "mask")
    assert head[-2:] == ["p", "resolved at 80 %"]
    assert image[:3] == ["image", "3", "+7.3 ± 2.7"]  # leads of 10, 2 and 10 points
    assert color == ["color", "1", "+0.0", "-", "-"]
    means = {name: {base: sum(o["reidentified"] for o in r) / len(r) for base, r in b.items()}
             for name, b in results.items()}  # fmt: skip
    lead = compare(means, "image", "mask")
    assert lead.p == pytest.approx(0.1117, abs=2e-3) and lead.resolved > 3 * lead.error
    # of the normal test 1.96 + 0.84; with few bases more
    assert smallest_resolved(1.0, 10000) == pytest.approx(2.80, abs=0.01)
    assert smallest_resolved(1.0, 6) > 3


def test_the_command_runs_and_resumes(tmp_path, capsys):
    command = ["--output", str(tmp_path), "--variants", "mask", "image", "unbounded", "--bases", "1", "--orders", "1",
               "--base_iterations", "1", "--steps", "2", "--head_steps", "1", "--num_train", "1", "--num_val", "2",
               "--set", *TINY]  # fmt: skip
    assert branch_main.main(command) == 0
    content = json.loads((tmp_path / "branches.json").read_text())
    assert content.keys() == {"mask", "image", "unbounded"}
    figures = content["image"]["0"][0]
    assert figures.keys() >= {"reidentified", "joined", "ap", "ap_oracle_order", "switched"}
    assert figures["gradient_scale"] > 0 == content["mask"]["0"][0]["gradient_scale"]
    assert "pixels re-identified" in (tmp_path / "branches.md").read_text()
    path = tmp_path / "branches" / "base_0" / "image" / "order_0.json"
    path.write_text(json.dumps({"reidentified": 0.125, "reidentified_free": 0.25, "joined": 0.5}))
    assert branch_main.main(command) == 0  # nothing is done again but what is missing
    again = json.loads((tmp_path / "branches.json").read_text())["image"]["0"][0]
    assert again["reidentified"] == 0.125 and again["ap"] == figures["ap"]
    assert branch_main.main([*command[:-1], "--strength", "1"]) == 1
    assert re.search(r"error: .*were made with .* give another --output", capsys.readouterr().err)


def test_the_base_is_the_mask_losss_variant_and_every_branch_a_configuration():
    assert BRANCHES[BASE.name] is BASE
    for variant in BRANCHES.values():
        cfg = branch_config(variant, "ablation", [])
        assert cfg.MODEL.USE_OFFSET_HEAD is (variant.name != "unbounded")
