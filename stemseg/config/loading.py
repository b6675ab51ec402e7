"""Strict, immutable configuration: ``configs/defaults.yaml`` names every key; files and overrides change values.

There is no global configuration: :func:`load_config` returns one, and ``build_*`` functions read it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stemseg.config.schema import LEGACY_KEYS, check_combinations, check_value
from stemseg.config.tree import Config, is_section, join_path
from stemseg.utils.errors import ConfigError

__all__ = ["CONFIG_DIR", "Config", "find_config", "load_config"]

_PACKAGE_DIR = Path(__file__).resolve().parents[1]
# a clone keeps the files beside the package; a plain `pip install .` puts them inside it
CONFIG_DIR = next((d for d in (_PACKAGE_DIR.parent / "configs", _PACKAGE_DIR / "configs") if d.is_dir()), _PACKAGE_DIR)


def load_config(source: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Load the defaults, change them by a file and by single overrides, and check the result.

    Args:
        source: a bare name in ``configs/`` ("davis_1" or "davis_1.yaml"), a path, or None for the defaults alone.
        overrides: "KEY.SUBKEY=value" strings, the value in YAML syntax, applied last.

    Raises:
        ConfigError: unknown key, wrong type or impossible combination; names file, key, found and expected.
    """
    values = _read_yaml(CONFIG_DIR / "defaults.yaml")
    if source is not None:
        path = find_config(source)
        _merge(values, _read_yaml(path), where=str(path))
    for override in overrides:
        _merge(values, _parse_override(override), where=f"override '{override}'")
    cfg = Config(values)
    check_combinations(cfg, where=str(source) if source is not None else "defaults.yaml")
    return cfg


def find_config(source: str | Path) -> Path:
    """The file that ``source`` means: an existing path first, else a name in ``configs/`` with or without ".yaml"."""
    candidates = [Path(source), CONFIG_DIR / source, CONFIG_DIR / f"{source}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = ", ".join(sorted(p.stem for p in CONFIG_DIR.glob("*.yaml") if p.stem != "defaults"))
    raise ConfigError(f"configuration '{source}' is neither a file nor a name in {CONFIG_DIR}. Names there: {names}")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: found a {type(content).__name__} at the top, expected sections such as 'INPUT:'")
    return content


def _parse_override(text: str) -> dict[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"override '{text}' has no '='; write for example INPUT.NUM_FRAMES=16")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"override '{text}': the value is not valid YAML: {error}") from error
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return nested


def _merge(base: dict[str, Any], changes: Mapping[str, Any], *, where: str, prefix: str = "") -> None:
    """Write ``changes`` into ``base`` in place, refusing what the defaults do not name."""
    for key, value in changes.items():
        path = join_path(prefix, str(key))
        if path in LEGACY_KEYS:
            LEGACY_KEYS[path](path, where)
            continue
        if key not in base:
            raise ConfigError(f"{where}: unknown key '{path}'.{_suggest(str(key), base, prefix)}")
        if is_section(base[key], path):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{where}: '{path}' is {value!r}, expected a section with keys {', '.join(base[key])}"
                )
            _merge(base[key], value, where=where, prefix=path)
        else:
            base[key] = check_value(path, value, base[key], where=where)


def _suggest(key: str, base: Mapping[str, Any], prefix: str) -> str:
    close = difflib.get_close_matches(key.upper(), list(base), n=1)
    place = f"section '{prefix}'" if prefix else "the top level"
    hint = f" Did you mean '{join_path(prefix, close[0])}'?" if close else f" Keys of {place}: {', '.join(base)}."
    return hint + " configs/defaults.yaml documents every key."
