"""Everything that documents name exists: links, commands, flags, configuration keys, files, variables, versions."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.environment import SUPPORTED
from stemseg.config import Config, load_config
from stemseg.datasets import DATASETS
from stemseg.modeling.weights import load_weights_file
from stemseg.training.loader import MicroBatchSampler
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.errors import CheckpointError
from tests.helpers.commands import console_commands, run_python
from tests.helpers.documents import DOCUMENTS, README, anchors, block, blocks, code_spans, commands, links, sections
from tests.helpers.paths import ROOT

TEXTS = {path.name: path.read_text(encoding="utf-8") for path in DOCUMENTS}
# extending.md names what it adds; its own test follows it
DESCRIBING = {name: text for name, text in TEXTS.items() if name != "extending.md"}
ALL_TEXT = "\n".join(DESCRIBING.values())
COMMANDS = sorted({command.text for text in DESCRIBING.values() for command in commands(text)})
SCRIPTS = re.compile(r"(?:scripts|stemseg)/[\w/]+\.py")
OTHER_PROGRAMS = ("pip install --extra-index-url", "tensorboard --logdir")
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 220


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path):
    for link in links(document):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}: headings give {sorted(anchors(target))}"


def test_every_document_is_found_from_the_readme():
    reachable, waiting = set(), [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        reachable.add(document)
        targets = {(document.parent / link.partition("#")[0]).resolve() for link in links(document)}
        waiting += [target for target in targets & set(DOCUMENTS) if target not in reachable]
    assert reachable == set(DOCUMENTS)


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """Output of ``--help`` of each script that a document names, prepare_dataset.py's subcommands together."""
    texts = {}
    named = {script for script in SCRIPTS.findall(ALL_TEXT) if "__main__" in (ROOT / script).read_text()}
    for script in sorted(named - {"scripts/test.py"}):  # which takes pytest's arguments
        subcommands = [[]]
        if script.endswith("prepare_dataset.py"):
            subcommands = [[name] for name in sorted({c.split()[2] for c in COMMANDS if script in c})]
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            assert all(run_python(script, [*subcommand, "--help"], ROOT) == 0 for subcommand in subcommands), script
        texts[script] = output.getvalue()
    return texts


def test_every_flag_in_a_command_exists(helps: dict[str, str]):
    for script, known in helps.items():
        for arguments in (command.split(script)[1] for command in COMMANDS if script in command):
            for flag in re.findall(r"(?<= )--?[a-z][\w-]*", arguments):
                assert has_flag(known, flag), f"{flag} in '{script}{arguments}'"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_flag_in_the_text_exists(document: Path, helps: dict[str, str]):
    known = "\n".join([*helps.values(), *OTHER_PROGRAMS])
    for code in code_spans(TEXTS[document.name]):
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", code):
            assert has_flag(known, flag), code


def has_flag(text: str, flag: str) -> bool:
    """Whether a text holds a flag, and not only a longer one."""
    return re.search(rf"(?<![\w-]){flag}(?![\w-])", text) is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_bash_understands_every_shell_block(document: Path):
    for script in (found.body for found in blocks(TEXTS[document.name]) if found.language == "bash"):
        result = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{result.stderr}\n{script}"


def test_every_configuration_key_exists():
    cfg = load_config()
    keys = set(re.findall(rf"\b((?:{'|'.join(cfg)})(?:\.[A-Z0-9_]+)+)", ALL_TEXT))
    assert len(keys) > 20
    for key in keys:
        value = cfg
        for part in key.split("."):
            assert isinstance(value, Config) and part in value, key
            value = value[part]


def test_every_file_and_variable_exists():
    made = ("mine.yaml", "config.yaml", "msra_r101.yaml", "ci.yml", ".pre-commit-config.yaml")
    for name in re.findall(r"(?<![\w./-])([a-z]\w*\.ya?ml)\b", ALL_TEXT):
        assert (ROOT / "configs" / name).is_file() or name in made, name
    for path in re.findall(r"`((?:scripts|configs|stemseg|tests|docs)/[\w./]+)`", ALL_TEXT):
        assert (ROOT / path).exists(), path
    for entry in DATASETS.values():
        if entry.variable:
            assert f"`${entry.variable}`" in README
            assert f"`{entry.variable}`" in TEXTS["datasets.md"]


def test_backbones_of_the_configurations_are_documented():
    for path in (ROOT / "configs").glob("*.yaml"):
        weights = load_config(path).MODEL.BACKBONE.PRETRAINED_WEIGHTS
        assert weights is None or path.stem == "laptop" or f"`{weights}`" in TEXTS["training.md"], path


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.startswith("torchrun ") and "training/main.py" in c and "..." not in c]
)
def test_processes_can_share_the_batch(command: str):
    count = int(re.search(r"--nproc_per_node (\d+)", command)[1])
    overrides = command.partition("--set ")[2].split()
    cfg = load_config(re.search(r"--cfg (\S+)", command)[1], overrides).TRAINING
    published = load_config(re.search(r"--cfg (\S+)", command)[1]).TRAINING
    sampler = MicroBatchSampler(
        first_iteration=0,
        last_iteration=1,
        batch_size=cfg.BATCH_SIZE,
        micro_batch_size=cfg.MAX_SAMPLES_PER_GPU,
        process=ProcessInfo(count - 1, count, count - 1),
    )
    assert len(list(sampler)) == cfg.BATCH_SIZE // count // cfg.MAX_SAMPLES_PER_GPU
    factor = cfg.BATCH_SIZE / published.BATCH_SIZE
    assert pytest.approx(factor * published.INITIAL_LR) == cfg.INITIAL_LR
    for name in ("MAX_ITERATIONS", "LR_EXP_DECAY_START", "LR_EXP_DECAY_STEPS"):
        assert cfg[name] == published[name] / factor


def test_python_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = block(TEXTS["datasets.md"], "python")
    masks = "import numpy as np; masks = np.ones((3, 480, 640), dtype=np.uint8)\n"
    exec(compile(masks + code, "datasets.md", "exec"), {})
    assert (tmp_path / "train.json").is_file()


def test_versions_agree():
    """Of Python in the workflow, setup.py and the environment's maker; of this package; of ruff."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    pythons = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    low, high = SUPPORTED
    assert pythons == [f"3.{minor}" for minor in range(low[1], high[1] + 1)]
    assert pythons == re.findall(r"Python :: (3\.\d+)", SETUP)
    assert f"Python {pythons[0]} to {pythons[-1]}" in README
    assert workflow["jobs"]["test"]["steps"][-1]["run"].startswith(".ci/run")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f'version="{citation["version"]}"' in SETUP
    assert f"## {citation['version']} ({citation['date-released']})" in TEXTS["CHANGELOG.md"]
    hook = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]
    low, high = re.search(r"ruff>=([\d.]+),<([\d.]+)", SETUP).groups()
    as_numbers = [[int(part) for part in version.split(".")] for version in (low, hook["rev"][1:], high)]
    assert as_numbers == sorted(as_numbers)


def test_the_papers_are_cited_alike():
    bibliography = (ROOT / "docs/citation.bib").read_text(encoding="utf-8").replace("{", "").replace("}", "")
    references = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    assert len(references) == bibliography.count("title  ")
    for reference in references:
        assert f"= {reference['title']},\n" in bibliography
        assert f"= {reference['year']}\n" in bibliography
        for author in reference["authors"]:
            assert f"{author['family-names']}," in bibliography or not author["family-names"].isascii()


def test_console_commands_exist():
    existing = dict(console_commands())
    named = set(re.findall(r"`(stemseg-[\w-]+)", README + TEXTS["CHANGELOG.md"]))
    assert named == set(existing)
    for name in named:
        assert callable(importlib.import_module(existing[name]).main)


def test_missing_weights_lead_to_the_links(tmp_path: Path):
    with pytest.raises(CheckpointError, match="the README's section 'Links'"):
        load_weights_file(tmp_path / "davis.pth")
    addresses = re.findall(r"<(https://\S+)>", sections(README)["Links"])
    assert len(addresses) == len(set(addresses)) >= 5
