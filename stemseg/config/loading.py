"""A configuration from files and overrides: ``configs/defaults.yaml`` names every key, the others change values.

A file says ``BASE: davis_1`` where it differs from another one; it then holds the differences alone. There is no global
configuration: :func:`load_config` returns one, and ``build_*`` functions read it.
"""

from __future__ import annotations

import copy
import difflib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemseg.config.combinations import check_combinations
from stemseg.config.schema import DERIVED_KEYS, LEGACY_KEYS, check_value, derive_values
from stemseg.config.tree import Config, is_section, join_path
from stemseg.config.yaml_reader import parse_yaml, read_yaml
from stemseg.utils.errors import ConfigError
from stemseg.utils.text import shown

BASE_KEY = "BASE"
_GIVEN = "the given configuration"
_PACKAGE_DIR = Path(__file__).resolve().parents[1]
# a clone keeps the files beside the package; a plain `pip install .` puts them inside it
CONFIG_DIR = next((d for d in (_PACKAGE_DIR.parent / "configs", _PACKAGE_DIR / "configs") if d.is_dir()), _PACKAGE_DIR)


def load_config(source: str | Path | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()) -> Config:
    """Load the defaults, change them by a file, after those that it is based on, and by overrides; check the result.

    Args:
        source: a bare name in ``configs/`` ("davis_1" or "davis_1.yaml"), a path, the values themselves as plain
            dictionaries (a model's file holds its own), or None for the defaults alone.
        overrides: "KEY.SUBKEY=value" strings, the value in YAML syntax, applied last.

    Raises:
        ConfigError: unknown key, wrong type or impossible value or combination; names file, key, found and expected.
    """
    defaults = _read_defaults()
    values = copy.deepcopy(dict(defaults))
    for name, content in _contents(source):
        _merge(values, content, defaults, where=name)
    for override in overrides:
        _merge(values, _parse_override(override), defaults, where=_override_name(override))
    where = _GIVEN if isinstance(source, Mapping) else "defaults.yaml" if source is None else str(source)
    where = f"{where} with its overrides" if overrides else where
    derive_values(values, where=where)
    cfg = Config(values)
    check_combinations(cfg, where=where)
    return cfg


def _contents(source: str | Path | Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    """Changes of the defaults, in order: names for messages, and values."""
    if source is None:
        return []
    if isinstance(source, Mapping):
        return [(_GIVEN, source)]
    return [(str(path), content) for path, content in _with_bases(find_config(source))]


@functools.cache  # parsing it is most of the work
def _read_defaults() -> Mapping[str, Any]:
    return read_yaml(CONFIG_DIR / "defaults.yaml")


def find_config(source: str | Path, *, folder: Path | None = None) -> Path:
    """The file that ``source`` means: an existing path, else a name in ``configs/`` with or without ".yaml".

    Args:
        folder: where relative paths start; None: the current folder.

    Raises:
        ConfigError: where there is no such file; lists the names.
    """
    here = folder or Path()
    try:
        for candidate in (here / source, CONFIG_DIR / source, CONFIG_DIR / f"{source}.yaml", here / f"{source}.yaml"):
            if candidate.is_file():
                return candidate
    except (OSError, ValueError):  # longer than a name can be, or with a zero byte
        pass
    names = ", ".join(sorted(p.stem for p in CONFIG_DIR.glob("*.yaml") if p.stem != "defaults"))
    raise ConfigError(
        f"configuration {shown(str(source))} is neither a file nor a name in {CONFIG_DIR}. Names there: {names}"
    )


def _with_bases(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The contents of a file and of those that it is based on, the last one's base first.

    Raises:
        ConfigError: where a base does not exist, or a file is based on itself.
    """
    files: list[tuple[Path, dict[str, Any]]] = []
    while True:
        content = read_yaml(path)
        base = content.pop(BASE_KEY, None)
        files.insert(0, (path, content))
        if base is None:
            return files
        if not isinstance(base, str):
            raise ConfigError(f"{path}: '{BASE_KEY}' is {shown(base)}, expected a name in configs/ or a file")
        try:
            path = find_config(base, folder=path.parent)
        except ConfigError as error:
            raise ConfigError(f"{path}: '{BASE_KEY}': {error}") from error
        if any(path.samefile(known) for known, _ in files):
            chain = " -> ".join(str(p) for p in (*(known for known, _ in reversed(files)), path))
            raise ConfigError(f"'{BASE_KEY}' goes in a circle: {chain}")


def _parse_override(text: str) -> dict[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"{_override_name(text)} has no '='; write for example INPUT.NUM_FRAMES=16")
    nested: Any = parse_yaml(value, name=_override_name(text))
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return nested


def _override_name(text: str) -> str:
    return f"override {shown(text)}"


def _merge(
    base: dict[str, Any], changes: Mapping[str, Any], defaults: Mapping[str, Any], *, where: str, prefix: str = ""
) -> None:
    """Write ``changes`` into ``base`` in place, refusing what neither the defaults nor published files name."""
    for key, value in changes.items():
        path = join_path(prefix, str(key))
        if path in LEGACY_KEYS:
            LEGACY_KEYS[path](path, where)
        elif path in DERIVED_KEYS:
            base[key] = check_value(path, value, DERIVED_KEYS[path].example, where=where)
        elif key not in defaults and not (isinstance(value, Mapping) and _holds_legacy_keys(path)):
            raise ConfigError(f"{where}: unknown key {shown(path)}.{_suggest(str(key), defaults, prefix)}")
        elif is_section(defaults.get(key, {}), path):
            section = defaults.get(key, {})
            if not isinstance(value, Mapping):
                names = ", ".join(section)
                raise ConfigError(f"{where}: '{path}' is {shown(value)}, expected a section with keys {names}")
            _merge(base.get(key, {}), value, section, where=where, prefix=path)
        else:
            base[key] = check_value(path, value, defaults[key], where=where)


def _holds_legacy_keys(path: str) -> bool:
    return any(key.startswith(f"{path}.") for key in LEGACY_KEYS)


def _suggest(key: str, defaults: Mapping[str, Any], prefix: str) -> str:
    if key == BASE_KEY:
        return " It belongs to the top of a configuration file."
    close = difflib.get_close_matches(key.upper()[:100], list(defaults), n=1)
    place = f"section '{prefix}'" if prefix else "the top level"
    hint = f" Did you mean '{join_path(prefix, close[0])}'?" if close else f" Keys of {place}: {', '.join(defaults)}."
    return f"{hint} {CONFIG_DIR / 'defaults.yaml'} documents every key."
