"""Tiny folder trees of every dataset's official download, with the masks that went into them."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from stemseg.data.categories import load_category_space

HEIGHT, WIDTH = 24, 40
CLASSES_2019 = list(load_category_space("youtube_vis").names.values())
CLASSES_OVIS = list(load_category_space("ovis").names.values())

# a person and a dog with their official ids, and the other categories that the loaders ask for
COCO_CLASSES = {1: "person", 18: "dog"}
COCO_CLASSES.update(
    enumerate(sorted(set(load_category_space("davis").sources["coco"]["keep"]) - {"person", "dog"}), start=100)
)


def id_map(seed, ids, height=HEIGHT, width=WIDTH):
    """Ragged regions of the given ids on background 0, [H, W] int; every id has pixels."""
    rng = np.random.default_rng(seed)
    out = np.zeros((height, width), dtype=np.int64)
    for i, value in enumerate(ids):
        left = (i * width) // len(ids)
        right = ((i + 1) * width) // len(ids)
        block = rng.random((height, right - left)) < 0.7
        block[height // 2, 0] = True
        out[:, left:right][block] = value
    return out


def write_image(path, seed=0, height=HEIGHT, width=WIDTH):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)


def write_palette_png(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette([value for i in range(256) for value in (i, 255 - i, i // 2)])
    image.save(path)


def write_16bit_png(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids.astype(np.uint16)).save(path)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def edit_json(path, change):
    content = json.loads(Path(path).read_text())
    change(content)
    Path(path).write_text(json.dumps(content))


def compressed(mask):
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def uncompressed(mask):
    flat = np.asarray(mask, dtype=bool).flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def davis(root):
    """Two training sequences, one of them with a void region, and one of validation. Returns id maps by sequence."""
    truth = {}
    for split, names in (("train", ["bear", "two-dogs"]), ("val", ["car"])):
        list_file = root / f"ImageSets/2017/{split}.txt"
        list_file.parent.mkdir(parents=True, exist_ok=True)
        list_file.write_text("\n".join(names) + "\n")
        for name in names:
            truth[name] = [id_map(len(name) + t, [1, 2][: 1 + (len(name) + t) % 2]) for t in range(3)]
            for t, ids in enumerate(truth[name]):
                write_image(root / f"JPEGImages/480p/{name}/{t:05d}.jpg", t)
                shown = ids.copy()
                if name == "bear":
                    shown[0, :5] = 255
                    ids[0, :5] = 0
                write_palette_png(root / f"Annotations_unsupervised/480p/{name}/{t:05d}.png", shown)
    return truth


def youtube_vis(root, names=CLASSES_2019, layout="2019", train=(7, 3)):
    """Videos for training, and 5 without annotations. Returns {video: {official id: (category, masks or None)}}."""
    truth, videos, annotations = {}, [], []
    folder = {"2019": "{}/JPEGImages", "2021": "{}/JPEGImages", "ovis": "{}"}[layout]
    categories = [{"id": i, "name": name, "supercategory": "object"} for i, name in enumerate(names, start=1)]
    for video in train:
        videos.append(_video_entry(root / folder.format("train"), video))
        maps = [id_map(video * 10 + t, [100 + video, 200 + video]) for t in range(3)]
        for category, official in ((4, 100 + video), (len(names), 200 + video)):
            masks = [ids == official if t or category != 4 else None for t, ids in enumerate(maps)]
            truth.setdefault(video, {})[official] = (category, masks)
            encode = compressed if video == 7 else uncompressed
            entry = {"id": official, "video_id": video, "category_id": category, "iscrowd": 0}
            entry["segmentations"] = [None if mask is None else encode(mask) for mask in masks]
            annotations.append(entry)
    val = [_video_entry(root / folder.format("valid"), 5)]
    files = {"2019": "{}.json", "2021": "{}/instances.json", "ovis": "annotations_{}.json"}[layout]
    write_json(
        root / files.format("train"), {"videos": videos, "categories": categories, "annotations": annotations[::-1]}
    )
    write_json(root / files.format("valid"), {"videos": val, "categories": categories, "annotations": None})
    return truth


def _video_entry(folder, video):
    names = [f"{video:04x}/{t:05d}.jpg" for t in range(3)]
    for t, name in enumerate(names):
        write_image(folder / name, t)
    return {"id": video, "height": HEIGHT, "width": WIDTH, "length": 3, "file_names": names}


def kitti_mots(root, sequences, form="png"):
    """Cars, pedestrians and ignore regions. Returns id maps by sequence."""
    truth = {}
    for number, name in enumerate(sequences):
        truth[name] = [id_map(number * 7 + t, [1003, 2001, 10000] if t else [1003]) for t in range(3)]
        lines = []
        for t, ids in enumerate(truth[name]):
            write_image(root / f"training/image_02/{name}/{t:06d}.png", t)
            if form == "png":
                write_16bit_png(root / f"instances/{name}/{t:06d}.png", ids)
            lines += mots_lines(t, ids)
        if form == "txt":
            (root / "instances_txt").mkdir(exist_ok=True)
            (root / f"instances_txt/{name}.txt").write_text("\n".join(lines) + "\n")
    return truth


def mots_lines(frame, ids):
    values = [int(v) for v in np.unique(ids) if v]
    return [f"{frame} {v} {v // 1000} {HEIGHT} {WIDTH} {compressed(ids == v)['counts']}" for v in values]


def motschallenge(root):
    """Sequence 0002, three frames from number 1. Returns its id maps."""
    truth = [id_map(70 + t, [2005, 10000]) for t in range(3)]
    for t, ids in enumerate(truth, start=1):
        write_image(root / f"train/MOTS20-02/img1/{t:06d}.jpg", t)
        gt = root / "train/MOTS20-02/gt/gt.txt"
        gt.parent.mkdir(parents=True, exist_ok=True)
        with gt.open("a") as file:
            file.write("\n".join(mots_lines(t, ids)) + "\n")
    return truth


def coco(root):
    """One image with two polygons, an uncompressed RLE and a crowd; one with a crowd alone; one without anything.

    Returns the first image's masks [3, H, W], its crowd [H, W].
    """
    names = ["000000000001.jpg", "000000000002.jpg", "000000000003.jpg"]
    for i, name in enumerate(names):
        write_image(root / "train2017" / name, i)
    polygons = [[2, 2, 10, 2, 10, 12, 2, 12], [14, 3, 20, 3, 17, 15]]
    ragged = id_map(3, [1]) > 0
    crowd = np.zeros((HEIGHT, WIDTH), dtype=bool)
    crowd[10:20, 5:35] = True
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 18, "iscrowd": 0, "segmentation": polygons},
        {"id": 2, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[30, 1, 38, 1, 38, 20, 30, 20]]},
        {"id": 3, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": uncompressed(ragged & ~crowd)},
        {"id": 4, "image_id": 1, "category_id": 1, "iscrowd": 1, "segmentation": uncompressed(crowd)},
        {"id": 5, "image_id": 2, "category_id": 1, "iscrowd": 1, "segmentation": uncompressed(crowd)},
    ]
    content = {
        "images": [{"id": i, "file_name": n, "height": HEIGHT, "width": WIDTH} for i, n in enumerate(names, start=1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in COCO_CLASSES.items()],
    }
    write_json(root / "annotations/instances_train2017.json", content)
    rasterized = [_rasterize(polygons), _rasterize([[30, 1, 38, 1, 38, 20, 30, 20]]), ragged & ~crowd]
    return np.stack(rasterized), crowd


def _rasterize(polygons):
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, HEIGHT, WIDTH))) > 0


def pascal_voc(root):
    """Two listed images. Returns (object ids, class of each object) by name."""
    truth = {}
    for i, name in enumerate(["2007_000032", "2007_000033"]):
        objects = id_map(i, [1, 2, 255])
        classes = {1: 15, 2: 7 + i}
        class_map = np.select([objects == 1, objects == 2, objects == 255], [15, 7 + i, 255])
        write_image(root / f"JPEGImages/{name}.jpg", i)
        write_palette_png(root / f"SegmentationObject/{name}.png", objects)
        write_palette_png(root / f"SegmentationClass/{name}.png", class_map)
        truth[name] = (objects, classes)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/trainval.txt").write_text("\n".join(truth) + "\n")
    return truth


MAPILLARY_LABELS = [
    {"name": "animal--bird", "readable": "Bird", "instances": True},
    {"name": "construction--flat--road", "readable": "Road", "instances": False},
    {"name": "human--person", "readable": "Person", "instances": True},
    {"name": "void--unlabeled", "readable": "Unlabeled", "instances": False},
    *(
        {"name": f"object--{name}", "readable": name, "instances": True}
        for name in ["Car", *load_category_space("kitti_mots").sources["mapillary"]["ignore"]]
    ),
]


def mapillary(root, form="instances"):
    """A large and a small image. Returns {name: map of 256 x label + instance}; label 2 is a person, 3 unlabeled."""
    truth = {}
    write_json(root / "config.json", {"labels": MAPILLARY_LABELS})
    for part, name, height, width in (("training", "big", 60, 80), ("validation", "small", 20, 26)):
        ids = id_map(len(name), [256, 2 * 256 + 1, 2 * 256 + 2, 1, 3 * 256], height, width)
        ids[ids == 0] = 256
        truth[name] = ids
        write_image(root / f"{part}/images/{name}.jpg", len(name), height, width)
        if form == "instances":
            write_16bit_png(root / f"{part}/instances/{name}.png", ids)
        else:
            _write_panoptic(root / f"{part}/panoptic", name, ids)
    return truth


def _write_panoptic(folder, name, ids):
    """Segment ids of more than 16 bits; unlabeled pixels are 0, and the second person is a crowd."""
    segment_ids = np.where(ids == 3 * 256, 0, ids + 70000)
    colors = np.stack([segment_ids % 256, segment_ids // 256 % 256, segment_ids // 65536], axis=2).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colors).save(folder / f"{name}.png")
    segments = [
        {"id": int(v) + 70000, "category_id": int(v) // 256 + 1, "iscrowd": int(v == 2 * 256 + 2)}
        for v in np.unique(ids) if v != 3 * 256
    ]  # fmt: skip
    categories = [
        {"id": i, "name": entry["readable"], "isthing": int(entry["instances"])}
        for i, entry in enumerate(MAPILLARY_LABELS, start=1)
    ]
    annotations = [{"image_id": name, "file_name": f"{name}.png", "segments_info": segments}]
    write_json(folder / "panoptic_2018.json", {"annotations": annotations, "categories": categories})
