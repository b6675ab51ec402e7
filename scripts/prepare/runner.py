"""Runs plans: in parallel, entry by entry, all or nothing for each file, with everything that is wrong in one list."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from scripts.prepare.plan import Converted, Job, Plan
from scripts.prepare.summary import Summary
from stemseg.structures.annotations import StillImage, VideoSequence, save_still_annotations, save_video_annotations
from stemseg.utils.errors import DataError, StemsegError

_SHOWN_PROBLEMS = 50  # on the screen; the file holds all
_JOBS_IN_FLIGHT = 8  # for each worker; bounds the memory where converting is faster than writing


def run_plans(plans: Sequence[Plan], output_dir: Path, *, workers: int, skip_invalid: bool) -> list[Summary]:
    """Write every plan's file; a plan with problems writes nothing, or with ``skip_invalid`` its sound entries.

    Problems are listed in ``<file>_problems.txt`` beside the annotation file, which vanishes once there are none.

    Raises:
        DataError: after all plans were tried, with the problems of all of them.
    """
    summaries, problems = [], []
    for plan in plans:
        summary = Summary(output_dir / plan.filename, plan)
        try:
            _write(plan, summary, workers=workers, skip_invalid=skip_invalid)
        except _GivenUp:
            problems += [f"{plan.filename}: {problem}" for problem in summary.problems]
        else:
            summaries.append(summary)
            if plan.finish is not None:
                plan.finish()
        summary.write_problems()
    if problems:
        raise DataError(_report(problems, summaries, output_dir))
    return summaries


class _GivenUp(StemsegError):
    """A plan has problems; they are in its summary."""


def _report(problems: Sequence[str], written: Sequence[Summary], output_dir: Path) -> str:
    lines = [f"found {len(problems)} problems:", *problems[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        lines.append(f"... and {len(problems) - _SHOWN_PROBLEMS} more; all of them are in {output_dir}/*_problems.txt")
    lines.append(f"Written: {', '.join(str(s.path) for s in written) or 'nothing'}.")
    lines.append("Repair the download and run the command again, or leave out entries with problems by --skip-invalid.")
    return "\n".join(lines)


def _write(plan: Plan, summary: Summary, *, workers: int, skip_invalid: bool) -> None:
    save = save_video_annotations if plan.kind == "videos" else save_still_annotations
    save(summary.path, _sound_items(plan, summary, workers, skip_invalid), plan.category_labels)


def _sound_items(
    plan: Plan, summary: Summary, workers: int, skip_invalid: bool
) -> Iterator[VideoSequence | StillImage]:
    """The entries without problems; raises at the end, so that the file is given up, where there were problems."""
    for converted in tqdm(convert_all(plan, workers), total=len(plan.jobs), desc=plan.filename, unit=plan.kind[:-1]):
        summary.add(converted)
        if converted.item is not None and not converted.problems:
            yield converted.item
    if not summary.num_items and not summary.problems:
        summary.problems.append(f"there are no {plan.kind} to write")
    if summary.problems and (not skip_invalid or not summary.num_items):
        raise _GivenUp(f"{plan.filename} was not written")


def convert_all(plan: Plan, workers: int) -> Iterator[Converted]:
    """Convert the plan's jobs in their order, in ``workers`` processes (in this one where it is 1)."""
    convert = partial(_convert_guarded, plan.convert)
    if workers <= 1:
        yield from map(convert, plan.jobs)
        return
    # fresh processes, not forks: this one may hold gigabytes of parsed JSON
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        waiting: deque[Future[Converted]] = deque()
        for job in plan.jobs:
            waiting.append(pool.submit(convert, job))
            if len(waiting) >= workers * _JOBS_IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _convert_guarded(convert: Callable[[Job], Converted], job: Job) -> Converted:
    """One damaged entry must not end the run: the others are still to be checked."""
    try:
        return convert(job)
    except (StemsegError, OSError) as error:
        return Converted(None, [f"{job.name}: {error}"], {})
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        return Converted(None, [f"{job.name}: damaged entry ({type(error).__name__}: {error})"], {})
