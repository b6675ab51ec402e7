"""Sound lists, images and configurations."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stemseg.config import CONFIG_DIR
from stemseg.config.yaml_reader import read_yaml
from stemseg.data.prepare import main as prepare
from stemseg.evaluation import main as evaluate
from stemseg.training import main as train
from tests.helpers import official_trees as trees
from tests.helpers.evaluation_samples import HEIGHT, WIDTH, box, id_map, write_sequence
from tests.trials.bench import Bench
from tests.trials.mutations import Mutation, text_mutations


def kitti_mots_lines(folder: Path) -> Bench:
    """A KITTI-MOTS txt as ground truth of an evaluation."""
    line = f"0 1001 1 {HEIGHT} {WIDTH} {box(2, 2, 9, 9)}"
    for name in ("truth", "found"):
        (folder / name).mkdir()
        (folder / name / "0002.txt").write_text(f"{line}\n1{line[1:]}\n")
    path = folder / "truth/0002.txt"
    fields = line.split()
    values = (
        "",
        "x",
        "-1",
        "1.5",
        "nan",
        "²",
        "99999999999999999999",
        "9" * 5000,
        "0",
        "3",
        "../x",
        "fo2ZPPPPPPPPPPPPPPPPP?",
        "P",
        "é",
    )
    lines = {
        f"field {i} = {value:.30}": " ".join([*fields[:i], value, *fields[i + 1 :]])
        for i in range(len(fields))
        for value in values
    } | {"seven fields": f"{line} 1", "twice": f"{line}\n{line}"}
    cases = [Mutation(name, f"{text}\n".encode(), tuple(name.split(" = ")), name) for name, text in lines.items()]
    return Bench(
        "KITTI-MOTS txt",
        path,
        evaluate.main,
        ["--dataset", "kittimots", "--results", folder / "found", "--gt", folder / "truth", "--workers", "1"],
        harmless={
            "field 0/*": lambda name: name.endswith(("= 0", "= 3")),
            "field 1/*": lambda name: name.endswith(("= 0", "= 3")),
        },
        named=["truth"],
        sound_texts=["cut in half"],
        mutations=cases,
        num_cases=100,
    )


def kitti_mots_seqmap(folder: Path) -> Bench:
    """A list of KITTI-MOTS' sequences."""
    kitti_mots_lines(folder)
    path = folder / "val.seqmap"
    path.write_text("0002 empty 0 1\n")
    texts = (
        "0002 empty 0 x",
        "0002 empty 0 -1",
        "0002 empty 0 ²",
        "0002 empty 0 " + "9" * 5000,
        "0003 empty 0 1",
        "../0002",
        "\n",
        "0002 empty 0 0",
        "é",
    )
    cases = [Mutation(text[:40], f"{text}\n".encode(), ("line",), text) for text in texts]
    return Bench(
        "list of sequences",
        path,
        evaluate.main,
        [
            "--dataset",
            "kittimots",
            "--results",
            folder / "found",
            "--gt",
            folder / "truth",
            "--workers",
            "1",
            "--sequences",
            path,
        ],
        mutations=cases,
        sound_texts=["cut in half", "last byte gone"],
        named=["--sequences", "0002", "found"],
    )


def davis_list(folder: Path) -> Bench:
    """A list of DAVIS' sequences, prepared."""
    trees.davis(folder)
    path = folder / "ImageSets/2017/val.txt"
    texts = ("../../up", "/etc", "nothing", "", "car\ncar", "nul\0", "..", "x" * 300, "é")
    cases = [Mutation(text[:40], f"{text}\n".encode(), ("line",), text) for text in texts]
    return Bench(
        "image set list",
        path,
        prepare.main,
        ["davis", folder, "-o", folder / "json", "--workers", "1", "--only", "val"],
        mutations=cases,
        named=["nothing", "davis_val", "x" * 300],
    )


def davis_pngs(folder: Path) -> Bench:
    """A PNG of DAVIS' ground truth, of an evaluation."""
    for name in ("truth", "found"):
        write_sequence(folder / name / "one", [id_map(_1=(2, 2, 9, 9)), id_map(_1=(3, 2, 9, 9))])
    path = folder / "truth/one/00000.png"
    return Bench(
        "PNG of ids",
        path,
        evaluate.main,
        ["--dataset", "davis", "--results", folder / "found", "--gt", folder / "truth", "--workers", "1"],
        mutations=list(damaged_images(path)),
        named=["'one'"],
        is_text=False,
        harmless={"bit": lambda flipped: True},
        num_cases=80,
    )


def images(folder: Path) -> Bench:
    """An image of a dataset, prepared."""
    trees.coco(folder)
    path = folder / "train2017/000000000001.jpg"
    return Bench(
        "JPEG",
        path,
        prepare.main,
        ["coco", folder, "-o", folder / "json", "--workers", "1"],
        mutations=list(damaged_images(path)),
        is_text=False,
        harmless={"bit": lambda flipped: True},
        num_cases=60,
    )


def damaged_images(path: Path) -> list[Mutation]:
    """An image cut off, with flipped bits, of another size, another kind or of too many pixels."""
    content = path.read_bytes()
    found = [Mutation(f"cut to {k}/8", content[: len(content) * k // 8], ("cut",)) for k in range(5)]
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(content), 40).tolist():
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(rng.integers(8))
        found.append(Mutation(f"bit of byte {position}", bytes(flipped), ("bit",)))
    header = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + b"IHDR"
    for side in (0, 2**31 - 1, 2**32 - 1, 20_000):
        bomb = header + 2 * side.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
        found.append(
            Mutation(
                f"PNG of {side} x {side}", bomb + zlib.crc32(bomb[12:]).to_bytes(4, "big") + content[33:], ("size",)
            )
        )
    found += [Mutation(m.name, m.content, ("kind",)) for m in text_mutations("hello")]
    return found


def configuration(folder: Path) -> Bench:
    """A configuration file, shown."""
    path = folder / "mine.yaml"
    path.write_text("INPUT:\n  NUM_FRAMES: 8\n")
    return Bench(
        "configuration",
        path,
        train.main,
        ["--show_config", "--cfg", path],
        mutations=_configurations(),
        num_cases=160,
        sound_texts=["empty", "null"],
        named=["YAML"],
        harmless={"value": lambda case: case},
    )


def _configurations() -> list[Mutation]:
    """A value of a wrong kind or size for every key of the defaults, and texts that are strange YAML."""
    texts = {
        "bomb": "a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "tag": "INPUT: !!python/object/apply:os.system [ls]\n",
        "key twice": "INPUT:\n  NUM_FRAMES: 8\n  NUM_FRAMES: 16\n",
        "list": "- 1\n",
        "tab": "INPUT:\n\tNUM_FRAMES: 8\n",
        "base of itself": "BASE: mine.yaml\n",
        "no base": "BASE: nothing\n",
        "base null": "BASE: [1]\n",
        "huge": "INPUT:\n  NUM_FRAMES: '" + "8" * 99_000 + "'\n",
        "too large": "#" + "x" * 200_000,
        "unknown key": "INPUT:\n  FRAMES: 8\n",
        "nested": "INPUT:\n" + "".join(" " * i + "a:\n" for i in range(1, 40)),
        "date": "INPUT: 2001-99-99\n",
        "merge": "<<: {INPUT: {NUM_FRAMES: 8}}\n",
        "section null": "INPUT:\n",
    }
    found = [Mutation(name, text.encode(), ("text",)) for name, text in texts.items()]
    values = (
        "null",
        "x",
        "[]",
        "{}",
        "true",
        "-1",
        ".nan",
        ".inf",
        "1e23",
        "-0.1",
        "[1]",
        "[-1, -1, -1]",
        "1e-4",
        "0",
        "100000",
        "{a: -1}",
    )
    for path, default in _leaves(read_yaml(CONFIG_DIR / "defaults.yaml")):
        for value in values:
            text = "".join(f"{'  ' * i}{key}:\n" for i, key in enumerate(path))[:-1] + f" {value}\n"
            found.append(Mutation(f"{'.'.join(path)}: {value}", text.encode(), ("value",), _is_like(value, default)))
    return found


def _leaves(values: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and key not in ("MIX", "SOURCES"):
            yield from _leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def _is_like(text: str, default: Any) -> bool:
    """Whether a value may be right where the default stands: of its kind, and a finite number from 0."""
    if text in (".nan", ".inf", "-1", "-0.1", "1e23"):
        return False
    kinds: dict[str, tuple[type, ...]] = {
        "x": (str, type(None)),
        "true": (bool,),
        "[1]": (list,),
        "1e-4": (float,),
        "null": (type(None),),
    }
    kinds |= {"0": (int, float), "100000": (int, float)}
    return type(default) in kinds.get(text, ())
