"""What :mod:`scripts.benchmark` measures, a module for each table."""
