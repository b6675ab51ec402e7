"""The categories of a dataset that are trained, and as what: the maps in ``category_maps/``, matched by name.

Ids are never trusted alone: an annotation file says which name each of its ids has, and a file whose names don't fit
the map is an error, never a silent remap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stemseg.config import Config
from stemseg.datasets import CUSTOM, find_dataset
from stemseg.utils.errors import ConfigError, DataError

_MAPS_DIR = Path(__file__).resolve().parent / "category_maps"
_CLASS_AGNOSTIC = "davis"
_ANY = "*"


@dataclass(frozen=True)
class CategoryRule:
    """The use of the instances of one dataset, by category.

    Attributes:
        targets: training category of each category id of the annotation file; ids that are missing are left out.
        known: every category id that the file names; an instance of another one is a mistake in the file.
        default: training category of every id that is not in ``targets`` (class-agnostic training), or None.
        ignored: category ids whose instances become an ignore region.
        min_instance_area: pixels of the original image; smaller instances become an ignore region.
        max_instances: of one still image; the largest train, the rest becomes an ignore region. None: no limit.
    """

    targets: Mapping[int, int]
    known: frozenset[int]
    default: int | None = None
    ignored: frozenset[int] = frozenset()
    min_instance_area: int = 0
    max_instances: int | None = None

    def target(self, category_id: int, where: str) -> int | None:
        """The training category of an instance; None where it is left out or, if ``ignored``, an ignore region.

        Raises:
            DataError: where the annotation file does not name the category.
        """
        if category_id in self.ignored:
            return None
        if category_id not in self.known and self.default is None:
            raise DataError(
                f"{where}: category {category_id} is not in the file's category_labels (found {sorted(self.known)}); "
                "add its name there or correct the id"
            )
        return self.targets.get(category_id, self.default)


@dataclass(frozen=True)
class CategorySpace:
    """The categories that a model is trained on.

    Attributes:
        name: the mode it belongs to.
        names: category names by id, from 1.
        synonyms: other spellings of those names.
        sources: for each dataset that has a map of its own, that map as it stands in the YAML file; "*": for the rest.
    """

    name: str
    names: Mapping[int, str]
    synonyms: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def rule(self, dataset: str, labels: Mapping[int, str], source: Path) -> CategoryRule:
        """The map of a dataset's categories into this space.

        Args:
            dataset: its id in the registry.
            labels: category names by id, as its annotation file gives them.
            source: that file, for error messages.

        Raises:
            DataError: where the file's names don't fit the map.
        """
        entry = self.sources.get(dataset, self.sources.get(_ANY))
        if entry is not None:
            return self._mapped_rule(entry, labels, f"{source} ('{dataset}' in mode '{self.name}')")
        if self.name == CUSTOM and dataset != CUSTOM:
            targets = self._shared_categories(labels, source)
        else:
            targets = self._own_categories(dataset, labels, source)
        return CategoryRule(targets, frozenset(labels))

    def _mapped_rule(self, entry: Mapping[str, Any], labels: Mapping[int, str], where: str) -> CategoryRule:
        ids = self._ids()
        keep = {_normal(name): ids[_normal(target)] for name, target in entry["keep"].items()}
        ignore = {_normal(name) for name in entry.get("ignore", ())}
        default = keep.pop(_ANY, None)
        self._require_known([*keep, *ignore], labels, where)
        found = {i: self._spelling(name, [*keep, *ignore]) for i, name in labels.items()}
        return CategoryRule(
            targets={i: keep[name] for i, name in found.items() if name in keep},
            known=frozenset(labels),
            default=default,
            ignored=frozenset(i for i, name in found.items() if name in ignore),
            min_instance_area=entry.get("min_instance_area", 0),
            max_instances=entry.get("max_instances"),
        )

    def _require_known(self, wanted: Iterable[str], labels: Mapping[int, str], where: str) -> None:
        """Every category that the map names must be in the file, or its instances would vanish unnoticed."""
        wanted = list(wanted)
        present = {self._spelling(name, wanted) for name in labels.values()}
        missing = [name for name in wanted if name not in present]
        if missing:
            raise DataError(
                f"{where}: the file's category_labels lack {', '.join(missing)}; found {_listing(labels)}. If a "
                f"category has another name there, add it to 'synonyms' in {_MAPS_DIR.name}/{self.name}.yaml"
            )

    def _own_categories(self, dataset: str, labels: Mapping[int, str], source: Path) -> dict[int, int]:
        """The map of a dataset in its own space: the same names, and unless it is a custom one also the same ids."""
        ids, by_name_only = self._ids(), dataset == CUSTOM
        targets: dict[int, int] = {}
        for i, name in labels.items():
            target = ids.get(self._spelling(name, ids))
            if target is None or (target != i and not by_name_only):
                own = f"'{self.names[i]}'" if i in self.names else f"no category but 1 to {len(self.names)}"
                expected = _listing(self.names) if by_name_only else own
                raise DataError(
                    f"{source}: category {i} is '{name}', expected {expected} (mode '{self.name}'). Either the "
                    "file holds another dataset, or its spelling is missing from 'synonyms' in "
                    f"{_MAPS_DIR.name}/{self.name}.yaml"
                )
            targets[i] = target
        return targets

    def _shared_categories(self, labels: Mapping[int, str], source: Path) -> dict[int, int]:
        """The categories of another dataset whose names a custom space has too; the others are left out."""
        ids = self._ids()
        shared = {i: ids[_normal(name)] for i, name in labels.items() if _normal(name) in ids}
        if not shared:
            raise DataError(
                f"{source}: none of its categories has the name of one of the custom dataset ({_listing(self.names)}); "
                "take the dataset out of DATA.MIX, or train class-agnostic with INPUT.NUM_CLASSES=2"
            )
        return shared

    def _ids(self) -> dict[str, int]:
        return {_normal(name): i for i, name in self.names.items()}

    def _spelling(self, name: str, wanted: Iterable[str]) -> str:
        """The one of ``wanted`` that ``name`` means, itself or through the synonyms; else its normal form."""
        normal = _normal(name)
        if normal in wanted:
            return normal
        synonyms = {_normal(other): _normal(ours) for other, ours in self.synonyms.items()}
        return synonyms.get(normal, normal)


class ResultClass(NamedTuple):
    """A class of a model: its name, and the id that a dataset has for it, or None."""

    name: str
    result_id: int | None


def match_classes(
    names: Mapping[int, str], labels: Mapping[int, str], synonyms: Mapping[str, str], where: str
) -> dict[int, ResultClass]:
    """A model's classes by the ids that a dataset has for the same names.

    Args:
        names: of the model's classes, by id.
        labels: of the dataset, by id; where it has a single class "object", that is each of the model's.
        synonyms: other spellings.
        where: the dataset's file, for messages.

    Raises:
        ConfigError: where no class has the name of one of the dataset's; shows both.
    """
    if [_normal(label) for label in labels.values()] == ["object"]:
        return {i: ResultClass(name, next(iter(labels))) for i, name in names.items()}
    spellings = {_normal(a): _normal(b) for pair in synonyms.items() for a, b in (pair, pair[::-1])}
    ids = {_normal(label): i for i, label in labels.items()}
    found = {
        i: ResultClass(name, ids.get(_normal(name), ids.get(spellings.get(_normal(name), ""))))
        for i, name in names.items()
    }
    if all(c.result_id is None for c in found.values()):
        raise ConfigError(
            f"{where} and the model have no class in common, by name. The file has {_listing(labels)}; the model has "
            f"{_listing(names)}. Take a model of this dataset; or where they mean the same, rename the file's "
            "category_labels"
        )
    return found


def all_synonyms() -> dict[str, str]:
    """Other spellings of category names, of all maps."""
    maps = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(_MAPS_DIR.glob("*.yaml"))]
    return {other: ours for content in maps for other, ours in (content["synonyms"] or {}).items()}


def load_category_space(mode: str) -> CategorySpace:
    """The categories of a training mode whose entry in the registry names a file of ``category_maps/``.

    Raises:
        ConfigError: where there is none.
    """
    path = _MAPS_DIR / f"{find_dataset(mode).category_map}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in _MAPS_DIR.glob("*.yaml")))
        raise ConfigError(f"mode '{mode}' has no category map {path}; there are maps for: {names}")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return CategorySpace(mode, content["categories"], content["synonyms"] or {}, content["sources"])


def build_category_space(cfg: Config, custom_labels: Mapping[int, str] | None) -> CategorySpace:
    """The category space of a configuration: class-agnostic with two classes, else that of ``TRAINING.MODE``.

    Args:
        custom_labels: categories of DATA.CUSTOM's file, which define the space of mode "custom".

    Raises:
        ConfigError: where ``INPUT.NUM_CLASSES`` is not the number of categories + 1.
    """
    mode = _CLASS_AGNOSTIC if cfg.INPUT.NUM_CLASSES == 2 else cfg.TRAINING.MODE
    space = _custom_space(custom_labels) if mode == CUSTOM else load_category_space(mode)
    if len(space.names) + 1 != cfg.INPUT.NUM_CLASSES:
        raise ConfigError(
            f"'INPUT.NUM_CLASSES' is {cfg.INPUT.NUM_CLASSES}, but 'TRAINING.MODE' '{cfg.TRAINING.MODE}' has "
            f"{len(space.names)} categories and the background: set it to {len(space.names) + 1}, or to 2 for "
            "class-agnostic training"
        )
    return space


def _custom_space(labels: Mapping[int, str] | None) -> CategorySpace:
    if labels is None:
        raise ConfigError("'TRAINING.MODE' is 'custom', but 'DATA.MIX' does not name the dataset 'custom'")
    if sorted(labels) != list(range(1, len(labels) + 1)):
        raise ConfigError(
            f"the category ids of DATA.CUSTOM.TRAIN_JSON are {sorted(labels)}, expected 1 to {len(labels)} without gaps"
        )
    if not labels:
        raise ConfigError(
            "DATA.CUSTOM.TRAIN_JSON names no category; name them in its 'category_labels', or train class-agnostic "
            "with INPUT.NUM_CLASSES=2"
        )
    names = Counter(map(_normal, labels.values()))
    if len(names) < len(labels):
        raise ConfigError(
            f"DATA.CUSTOM.TRAIN_JSON names the category '{names.most_common(1)[0][0]}' twice, expected every name "
            "once; rename one of the two"
        )
    return CategorySpace(CUSTOM, dict(labels))


def _normal(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ")


def _listing(labels: Mapping[int, str]) -> str:
    return ", ".join(f"{i} {name}" for i, name in sorted(labels.items()))
