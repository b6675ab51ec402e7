"""Strict, immutable configuration from YAML files and overrides."""

from stemseg.config.loading import CONFIG_DIR, find_config, load_config
from stemseg.config.tree import Config

__all__ = ["CONFIG_DIR", "Config", "find_config", "load_config"]
