"""Command-line tools around the package: run them as ``python scripts/<name>.py`` from anywhere."""
