"""The read-only tree that a configuration is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from stemseg.utils.errors import ConfigError
from stemseg.utils.files import write_text

# keys whose value is a mapping that the user fills, not a section of keys
FREE_FORM_KEYS = frozenset({"DATA.MIX", "DATA.COPY_PASTE.SOURCES"})


class Config(Mapping[str, Any]):
    """A read-only tree of configuration values with attribute access: ``cfg.INPUT.NUM_FRAMES``."""

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        children = {
            k: Config(v, join_path(path, k)) if is_section(v, join_path(path, k)) else v for k, v in values.items()
        }
        object.__setattr__(self, "_values", children)
        object.__setattr__(self, "_path", path)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        try:
            return self._values[key]
        except KeyError:
            raise ConfigError(f"the configuration has no key '{join_path(self._path, key)}'") from None

    def __setattr__(self, key: str, value: Any) -> None:
        raise ConfigError(
            f"configurations are read-only; to change '{join_path(self._path, key)}' load one with an override"
        )

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple:  # lets data-loading workers receive a configuration
        return Config, (self.to_dict(), self._path)

    def to_dict(self) -> dict[str, Any]:
        """A deep copy as plain dictionaries and lists."""
        return _plain(self)

    def to_yaml(self) -> str:
        """Every value as YAML text; a file of it is loaded back to an equal configuration."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def save(self, path: str | Path) -> None:
        """Write :meth:`to_yaml` to a file."""
        write_text(path, self.to_yaml())


def is_section(value: Any, path: str) -> bool:
    """Whether the value at ``path`` ("DATA.MIX") is a section of keys, and not a value of its own."""
    return isinstance(value, Mapping) and path not in FREE_FORM_KEYS


def join_path(prefix: str, key: str) -> str:
    """The path of ``key`` within the section ``prefix``; "" is the top."""
    return f"{prefix}.{key}" if prefix else key


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
