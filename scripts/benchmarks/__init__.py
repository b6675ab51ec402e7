"""The parts of :mod:`scripts.benchmark`, a module for each table."""
