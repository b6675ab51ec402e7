"""From a dataset's official download to the standard annotation JSON; ``scripts/prepare_dataset.py`` is the command."""
