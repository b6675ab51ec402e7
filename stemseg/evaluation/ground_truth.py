"""Ground truth that metrics compare with: annotated videos of any file, and the choice of those to evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stemseg.structures.annotations import VideoAnnotations, VideoSequence
from stemseg.structures.tracks import VideoTracks, unique_frame_names
from stemseg.utils.errors import DataError
from stemseg.utils.files import read_text
from stemseg.utils.text import shorten, shorten_list, shown


@dataclass(frozen=True)
class GroundTruthTrack:
    """One annotated object through a video.

    Attributes:
        instance_id: the object's id within its video.
        category_id: category in the dataset's ids.
        segmentations: compressed RLE counts at the video's size, or None where the object is not visible, per frame.
        is_crowd: a region of many objects: what matches it counts neither for nor against.
        area: mean area in pixels over the frames where it is visible, as the file states it; None: that of the masks.
    """

    instance_id: int
    category_id: int
    segmentations: list[str | None]
    is_crowd: bool = False
    area: float | None = None


@dataclass(frozen=True)
class GroundTruthVideo:
    """One annotated video: its id as text, image size in pixels, relative image path of each frame, its objects."""

    id: str
    height: int
    width: int
    image_paths: list[str]
    tracks: list[GroundTruthTrack] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.image_paths)

    @property
    def frame_names(self) -> list[str]:
        """Name of each frame without folder and extension; its number where frames of several folders share a name."""
        return unique_frame_names([Path(path).stem for path in self.image_paths])


@dataclass(frozen=True)
class GroundTruth:
    """All annotated videos of a file: where it was read, category names by id, videos in the file's order."""

    source: Path
    category_labels: dict[int, str]
    videos: list[GroundTruthVideo]


def ground_truth_from_annotations(annotations: VideoAnnotations) -> GroundTruth:
    """The standard JSON's videos as ground truth.

    Raises:
        DataError: where a sequence has no annotations, as in the public part of a validation or test set.
    """
    videos = [_video(sequence, annotations.source) for sequence in annotations]
    return GroundTruth(annotations.source, annotations.category_labels, videos)


def check_categories(truth: GroundTruth, results: Iterable[VideoTracks], where: Path) -> None:
    """Refuse categories without a name in the ground truth: their objects and tracks would count for nothing.

    Args:
        where: of the results, for messages.

    Raises:
        DataError: naming video, object and category.
    """
    known = f"of its categories {shorten_list(sorted(truth.category_labels))}"
    for video in truth.videos:
        for track in video.tracks:
            if track.category_id not in truth.category_labels:
                raise DataError(
                    f"{truth.source}: video {video.id}, instance {track.instance_id} is of category "
                    f"{track.category_id}, expected one {known}; correct the file"
                )
    for result in results:
        for found in result.tracks:
            if found.category_id not in truth.category_labels:
                raise DataError(
                    f"{where}: video {result.sequence_id}, track {found.track_id} is of category {found.category_id}, "
                    f"which {truth.source} lacks, expected one {known}. Were the results made for another dataset? "
                    "--class_agnostic measures without regard to classes"
                )


def unannotated_error(source: Path, what: str) -> DataError:
    """The error for ground truth whose annotations are not public."""
    return DataError(
        f"{source}: {what} has no annotations, so AP, J and F can't be computed locally. The annotations of "
        "the public YouTube-VIS and OVIS validation sets and of DAVIS test-dev are kept by the organizers: upload the "
        "results.zip that inference wrote to the evaluation server that the dataset's page links (YouTube-VIS: "
        "https://youtube-vos.org/dataset/vis, OVIS: https://songbai.site/ovis, DAVIS: https://davischallenge.org). To "
        "measure locally, hold out a part of the training set: stemseg-prepare with --split makes one"
    )


def _video(sequence: VideoSequence, source: Path) -> GroundTruthVideo:
    if sequence.categories is None or sequence.segmentations is None:
        raise unannotated_error(source, f"sequence '{sequence.id}'")
    tracks = [
        GroundTruthTrack(instance_id, category, [frame.get(instance_id) for frame in sequence.segmentations])
        for instance_id, category in sequence.categories.items()
    ]
    return GroundTruthVideo(str(sequence.id), sequence.height, sequence.width, sequence.image_paths, tracks)


def read_sequence_names(texts: Sequence[str]) -> dict[str, int | None]:
    """Sequence names, and the number of the last frame where a list file states it.

    Args:
        texts: names; or one path of a text file with a name per line (DAVIS ImageSets), or with lines
            "name empty first last" (KITTI-MOTS seqmap).

    Raises:
        DataError: where a file of that name holds no sequence.
    """
    if len(texts) != 1 or not _is_file(texts[0]):
        return dict.fromkeys(texts)
    lines = [line.split() for line in read_text(texts[0]).splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{texts[0]} names no sequence; expected a name in each line")
    return {fields[0]: _last_frame(fields, texts[0]) if len(fields) == 4 else None for fields in lines}


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than a name can be, or with a zero byte
        return False


def _last_frame(fields: Sequence[str], where: str) -> int:
    if not (fields[3].isascii() and fields[3].isdigit() and len(fields[3]) <= 6):
        raise DataError(f"{where}: last frame of {fields[0]} is {shown(fields[3])}, expected a number from 0 to 999999")
    return int(fields[3])


def check_sequences(known: Iterable[str], found: Iterable[str], wanted: Iterable[str] | None, where: Path) -> list[str]:
    """The names to evaluate, in the order of the ground truth.

    Args:
        known: sequences of the ground truth.
        found: sequences of the results.
        wanted: names to evaluate; None: all of the ground truth.
        where: of the results, for messages.

    Raises:
        DataError: where the results hold an unknown sequence or lack one, or a wanted one is unknown.
    """
    known, found = list(known), list(found)
    unknown = [name for name in found if name not in known]
    if unknown:
        raise DataError(
            f"{where} holds results of {_some(unknown)}, which the ground truth lacks; it has {_some(known)}. Were the "
            "results made for another split or dataset?"
        )
    wanted = None if wanted is None else list(wanted)
    names = known if wanted is None else [name for name in known if name in wanted]
    strange = [] if wanted is None else [name for name in wanted if name not in known]
    if strange:
        raise DataError(f"--sequences names {_some(strange)}, which the ground truth lacks; it has {_some(known)}")
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"{where} has no results of {_some(missing)}; segment these too, or name those to evaluate with --sequences"
        )
    return names


def _some(names: Sequence[str]) -> str:
    return shorten_list(f"'{shorten(name, 80)}'" for name in names)
