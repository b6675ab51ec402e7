"""Runs plans: in parallel, entry by entry, all or nothing for each file, with everything that is wrong in one list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stemseg.data.prepare.plan import ConversionJob, Converted, Plan
from stemseg.structures.annotations import StillImage, VideoSequence, save_still_annotations, save_video_annotations
from stemseg.utils.errors import EXPECTED_ERRORS, DataError, StemsegError, in_a_line
from stemseg.utils.files import write_text
from stemseg.utils.parallel import map_in_processes
from stemseg.utils.text import shorten_list

_SHOWN_PROBLEMS = 50  # on the screen; the file holds all
_JOBS_IN_FLIGHT = 8  # for each worker; bounds the memory where converting is faster than writing


def run_plans(plans: Sequence[Plan], output_dir: Path, *, workers: int, skip_invalid: bool) -> list[ConversionSummary]:
    """Write every plan's file; a plan with problems writes nothing, or with ``skip_invalid`` its sound entries.

    Problems are listed in ``<file>_problems.txt`` beside the annotation file, which vanishes once there are none.

    Raises:
        DataError: after all plans were tried, with the problems of all of them.
    """
    summaries, problems = [], []
    for plan in plans:
        summary = ConversionSummary(output_dir / plan.filename, plan)
        try:
            _write(plan, summary, workers=workers, skip_invalid=skip_invalid)
        except _GivenUp:
            problems += [_placed(problem, plan) for problem in summary.problems]
        else:
            summaries.append(summary)
            if plan.finish is not None:
                plan.finish()
        summary.write_problems()
    if problems:
        raise DataError(_report(problems, summaries, output_dir))
    return summaries


def _placed(problem: str, plan: Plan) -> str:
    """A problem with the file that has it."""
    place = str(plan.source or plan.filename)
    return problem if problem.startswith(place) else f"{place}: {problem}"


class _GivenUp(StemsegError):
    """A plan has problems; they are in its summary."""


def _report(problems: Sequence[str], written: Sequence[ConversionSummary], output_dir: Path) -> str:
    lines = [f"found {len(problems)} problems:", shorten_list(problems, _SHOWN_PROBLEMS, separator="\n")]
    if len(problems) > _SHOWN_PROBLEMS:
        lines.append(f"All of them are in {output_dir}/*_problems.txt.")
    lines.append(f"Written: {', '.join(str(s.path) for s in written) or 'nothing'}.")
    lines.append("Repair the download and run the command again, or leave out entries with problems by --skip_invalid.")
    return "\n".join(lines)


def _write(plan: Plan, summary: ConversionSummary, *, workers: int, skip_invalid: bool) -> None:
    save = save_video_annotations if plan.kind == "videos" else save_still_annotations
    items: Iterator[Any] = _sound_items(plan, summary, workers, skip_invalid)  # all of the plan's kind
    save(summary.path, items, plan.category_labels)


def _sound_items(
    plan: Plan, summary: ConversionSummary, workers: int, skip_invalid: bool
) -> Iterator[VideoSequence | StillImage]:
    """The entries without problems; raises at the end, so that the file is given up, where there were problems."""
    for converted in tqdm(convert_all(plan, workers), total=len(plan.jobs), desc=plan.filename, unit=plan.kind[:-1]):
        summary.add(converted)
        if converted.item is not None and not converted.problems:
            yield converted.item
    if not summary.num_items and not summary.problems:
        summary.problems.append(f"there are no {plan.kind} to write, expected at least one with an object")
    if summary.problems and (not skip_invalid or not summary.num_items):
        raise _GivenUp(f"{plan.filename} was not written")


def convert_all(plan: Plan, workers: int) -> Iterator[Converted]:
    """Convert the plan's jobs in their order, in ``workers`` processes (in this one where it is 1)."""
    convert = partial(_convert_guarded, plan.convert)
    return map_in_processes(convert, plan.jobs, workers=workers, max_ahead=workers * _JOBS_IN_FLIGHT)


def _convert_guarded(convert: Callable[[ConversionJob], Converted], job: ConversionJob) -> Converted:
    """One damaged entry must not end the run: the others are still to be checked."""
    try:
        return convert(job)
    except EXPECTED_ERRORS as error:
        return Converted(None, [f"{job.name}: {in_a_line(error)}"], {})


class ConversionSummary:
    """Counts the entries of one annotation file while it is written; ``str()`` gives the report."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.problems = list(plan.problems)
        self.num_items = 0
        self.num_frames = 0
        self.num_masks = 0
        self.num_annotated = 0
        self.instances: Counter[int] = Counter()
        self.left_out: Counter[str] = Counter(plan.left_out)
        self._plan = plan

    def add(self, converted: Converted) -> None:
        """Count an entry, or take note of its problems."""
        self.problems += converted.problems
        self.left_out.update(converted.left_out)
        if converted.problems:
            self.left_out[f"{self._plan.kind} with problems"] += 1
        elif converted.item is not None:
            self._count(converted.item)

    @property
    def problems_path(self) -> Path:
        """The file that lists the problems."""
        return self.path.with_name(f"{self.path.stem}_problems.txt")

    def write_problems(self) -> None:
        """List the problems in their file; remove a list that an earlier run left where there are none."""
        if self.problems:
            write_text(self.problems_path, "\n".join(self.problems) + "\n")
        else:
            self.problems_path.unlink(missing_ok=True)

    def _count(self, item: VideoSequence | StillImage) -> None:
        self.num_items += 1
        if isinstance(item, StillImage):
            self.num_frames += 1
            self.num_annotated += 1
            self.num_masks += len(item.segmentations)
            self.instances.update(item.categories)
            return
        self.num_frames += len(item)
        self.num_annotated += item.is_annotated
        self.num_masks += sum(map(len, item.segmentations or ()))
        self.instances.update((item.categories or {}).values())

    def __str__(self) -> str:
        frames = f", {self.num_frames} frames" if self._plan.kind == "videos" else ""
        total = self.instances.total()
        lines = [f"{self.path}: {self.num_items} {self._plan.kind}{frames}, {total} instances, {self.num_masks} masks"]
        labels = self._plan.category_labels
        width = max((len(name) for name in labels.values()), default=0)
        lines += [f"  {labels[i]:<{width}} {count:>8}" for i, count in self.instances.most_common()]
        absent = [name for i, name in labels.items() if i not in self.instances]
        if total and absent:
            lines.append(f"  classes without an instance: {', '.join(absent)}")
        if not self.num_annotated:
            lines.append("  no ground truth: a test set")
        lines += [f"  left out: {count} {reason}" for reason, count in sorted(self.left_out.items())]
        if self.problems:
            lines.append(f"  problems: {len(self.problems)}, listed in {self.problems_path}")
        if self._plan.next_step:
            lines.append(f"  next: {self._plan.next_step}")
        return "\n".join(lines)
