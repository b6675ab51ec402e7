"""What a run wrote: entries, frames, instances per class, what was left out, what is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from scripts.prepare.plan import Converted, Plan
from stemseg.structures.annotations import StillImage, VideoSequence


class Summary:
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
        """Where the problems are listed."""
        return self.path.with_name(f"{self.path.stem}_problems.txt")

    def write_problems(self) -> None:
        """List the problems in their file; remove a list that an earlier run left where there are none."""
        if self.problems:
            self.problems_path.parent.mkdir(parents=True, exist_ok=True)
            self.problems_path.write_text("\n".join(self.problems) + "\n", encoding="utf-8")
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
