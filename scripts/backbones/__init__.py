"""From published ResNet weights to our backbone file; ``scripts/convert_backbone.py`` is the command."""
