"""The files in configs/: what each resolves to is frozen, and each holds what differs alone."""

import json
from pathlib import Path

import pytest
import yaml

from stemseg.config import CONFIG_DIR, load_config
from stemseg.config.loading import BASE_KEY
from stemseg.config.tree import FREE_FORM_KEYS

# of each file before there was BASE (commit a296116): every value of the defaults, and what differs from them
FROZEN = json.loads((Path(__file__).parents[1] / "golden" / "resolved_configs.json").read_text(encoding="utf-8"))


def leaves(values, prefix=""):
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and path not in FREE_FORM_KEYS:
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


@pytest.mark.parametrize("name", FROZEN)
def test_every_file_resolves_to_what_it_was(name):
    expected = {**FROZEN["defaults"], **FROZEN[name]}
    found = dict(leaves(load_config(name).to_dict()))
    assert {path: found[path] for path in expected} == expected


@pytest.mark.parametrize("path", sorted(CONFIG_DIR.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_holds_only_what_differs_from_its_base(path):
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    base = content.pop(BASE_KEY, None)
    if path.stem == "defaults":
        return
    before, after = (dict(leaves(load_config(source).to_dict())) for source in (base, path))
    assert not [key for key, _ in leaves(content) if before[key] == after[key]]
