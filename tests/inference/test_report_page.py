"""The page that shows a run: what stands in it, what is embedded and what is linked to."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from stemseg.inference.report_page import VideoReport, write_report
from stemseg.structures.track_summary import TrackSummary
from stemseg.utils.drawing import overlay_color

VOID = {"meta", "img", "line"}


class Page(HTMLParser):
    """The page's elements as (tag, attributes), its text, and whether they are nested well."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


def track(number: int, label: str, score: float, frames: list[int]) -> TrackSummary:
    return TrackSummary(number, label, score, frames, [50] * len(frames), np.zeros((len(frames), 4)))


def report(folder: Path, title: str = "clip") -> VideoReport:
    (folder / "overlays").mkdir(exist_ok=True)
    (folder / "overlays" / f"{title}.webm").write_bytes(b"video" * 100)
    (folder / "overlays" / f"{title}.jpg").write_bytes(b"sheet" * 100)
    tracks = [track(1, "<dog>", 1.0, [0, 1, 2, 7, 8]), track(2, "cat", 0.01, [3])]
    return VideoReport(
        title=title, num_frames=10, height=20, width=50, fps=25.0, tracks=tracks, min_score=0.05,
        video=folder / "overlays" / f"{title}.webm", sheet=folder / "overlays" / f"{title}.jpg",
        files={"results & more": folder / "results #1.json"},
    )  # fmt: skip


def test_the_page_shows_video_time_line_table_and_links(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", [report(tmp_path)], details={"model": "laptop"})
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    text = " ".join(page.texts)
    for expected in ("1 <dog>", "10 frames", "50 × 20 pixels", "1 fainter than score 0.05", "laptop", "50 px (5 %)"):
        assert expected in text
    assert "dog" not in {tag for tag, _ in page.elements}  # names are escaped
    bars = page.all("rect")
    red, green, blue = overlay_color(1)
    assert [bar["fill"] for bar in bars].count(f"#{red:02x}{green:02x}{blue:02x}") == 2  # a stretch each
    assert [float(bar["width"]) for bar in bars] == [300, 200, 100]  # 3, 2 and 1 of 10 frames
    assert page.all("video")[0]["data-fps"] == "25"
    assert [a["href"] for a in page.all("a")] == ["results%20%231.json"]
    assert {row.get("class") for row in page.all("tr")} == {None, "faint"}


@pytest.mark.parametrize(("room", "embedded"), [(10_000, [True, True]), (600, [True, False]), (0, [False, False])])
def test_what_is_too_large_is_linked_to(tmp_path: Path, room: int, embedded: list[bool]) -> None:
    write_report(tmp_path / "report.html", [report(tmp_path)], details={}, max_bytes=room)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    sources = [page.all("video")[0]["src"], page.all("img")[0]["src"]]
    assert [source.startswith("data:") for source in sources] == embedded
    for source, is_in in zip(sources, embedded, strict=True):
        assert is_in or (tmp_path / source).is_file()
    if embedded[0]:
        assert sources[0].startswith("data:video/webm;base64,dmlkZW")


def test_several_videos_share_a_page(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", [report(tmp_path, "a"), report(tmp_path, "b")], details={})
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [section.get("id") for section in page.all("section")] == ["video0", "video1", None]
    assert [a["href"] for a in page.all("a")][:2] == ["#video0", "#video1"]


def test_a_video_without_objects_and_pictures_has_a_page_too(tmp_path: Path) -> None:
    empty = VideoReport(title="x", num_frames=3, height=2, width=2, fps=10, tracks=[], min_score=0)
    write_report(tmp_path / "report.html", [empty], details={})
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "no objects" in " ".join(page.texts)
    assert not page.all("video") and not page.all("svg") and not page.all("img")
