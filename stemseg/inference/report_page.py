"""``report.html``: one page that shows a run, with its videos, a time line and a table of the tracks, and links."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

from stemseg.structures.track_summary import TrackSummary, count_labels
from stemseg.utils.drawing import overlay_color
from stemseg.utils.files import write_text

EMBEDDED_BYTES = 24 * 2**20  # of videos and pictures that a page holds itself; what comes after is linked to
_TYPES = {".webm": "video/webm", ".jpg": "image/jpeg"}
_ROW, _LABEL, _CHART = 22, 150, 1000  # height of a time line's row, width of its labels and of its chart


@dataclass(frozen=True, kw_only=True)
class VideoReport:
    """The part of the page that shows one video.

    Attributes:
        title: its name.
        num_frames, height, width: of the video.
        fps: frames per second of ``video``.
        tracks: all tracks, best ranked first.
        min_score: tracks of less are not drawn in the pictures.
        video, sheet: overlays (.webm) and contact sheet (.jpg), where there are any.
        files: what else there is, by name.
    """

    title: str
    num_frames: int
    height: int
    width: int
    fps: float
    tracks: Sequence[TrackSummary]
    min_score: float
    video: Path | None = None
    sheet: Path | None = None
    files: Mapping[str, Path] = field(default_factory=dict)


def write_report(
    path: Path, videos: Sequence[VideoReport], *, details: Mapping[str, str], max_bytes: int = EMBEDDED_BYTES
) -> None:
    """Write the page of a run.

    Args:
        path: of the page; files are linked to relative to it.
        videos: what it shows, in order.
        details: how the results were made, by name.
        max_bytes: of videos and pictures that are put into the page itself, so that it can be sent as one file.
    """
    media = _Media(path.parent, max_bytes)
    title = videos[0].title if len(videos) == 1 else f"{len(videos)} videos"
    contents = "".join(f'<a href="#video{i}">{escape(video.title)}</a> ' for i, video in enumerate(videos))
    sections = "".join(_section(i, video, media) for i, video in enumerate(videos))
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in details.items())
    write_text(
        path,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} - segmented</title><style>{_STYLE}</style></head>\n<body><main>"
        f"<h1>{escape(title)}</h1>{f'<nav>{contents}</nav>' if len(videos) > 1 else ''}\n{sections}\n"
        f'<section><h2>How this was made</h2><table class="details">{rows}</table></section>'
        f"</main><script>{_SCRIPT}</script></body></html>\n",
    )


class _Media:
    """Puts files into the page as long as there is room, and links to the others."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._left = max_bytes

    def link(self, path: Path) -> str:
        """The address of a file, relative to the page."""
        return quote(Path(os.path.relpath(path, self._folder)).as_posix())

    def source(self, path: Path) -> str:
        """The address of a file, or the file itself."""
        size = path.stat().st_size
        if size > self._left:
            return self.link(path)
        self._left -= size
        return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _section(index: int, video: VideoReport, media: _Media) -> str:
    drawn = [track for track in video.tracks if track.score >= video.min_score]
    faint = len(video.tracks) - len(drawn)
    facts = [
        f"<b>{escape(count_labels(drawn))}</b>",
        f"{video.num_frames} frames",
        f"{video.width} × {video.height} pixels",
        f"{video.fps:.3g} frames per second",
    ]
    if faint:
        facts.append(f"{faint} fainter than score {video.min_score:g}: listed, not drawn")
    parts = [f"<h2>{escape(video.title)}</h2>", f'<p class="facts">{" · ".join(facts)}</p>']
    if video.video is not None and video.video.is_file():
        source = media.source(video.video)
        parts.append(f'<video controls loop muted playsinline data-fps="{video.fps:.6g}" src="{source}"></video>')
    if video.tracks:
        parts += [_time_line(video), _table(video)]
    if video.sheet is not None and video.sheet.is_file():
        parts.append(f'<img alt="frames of {escape(video.title)}" src="{media.source(video.sheet)}">')
    links = (f'<a href="{media.link(path)}">{escape(name)}</a>' for name, path in video.files.items())
    parts.append(f'<p class="links">{" · ".join(links)}</p>')
    return f'<section class="video" id="video{index}">{"".join(parts)}</section>\n'


def _time_line(video: VideoReport) -> str:
    """A row for each track, a bar for each stretch of frames that shows it; a click there goes to the frame."""
    height = _ROW * len(video.tracks) + 24
    rows = "".join(_row(i, track, video) for i, track in enumerate(video.tracks))
    return (
        f'<svg class="times" viewBox="0 0 {_LABEL + _CHART} {height}" data-frames="{video.num_frames}" '
        f'data-label="{_LABEL}" data-chart="{_CHART}">{_ticks(video, height)}{rows}'
        f'<line class="now" x1="{_LABEL}" x2="{_LABEL}" y1="0" y2="{height - 18}"/></svg>'
    )


def _row(i: int, track: TrackSummary, video: VideoReport) -> str:
    color, y = _hex(track.id), i * _ROW
    dim = ' class="faint"' if track.score < video.min_score else ""
    bars = "".join(
        f'<rect x="{_x(first, video):.1f}" y="{y + 4}" width="{max(2, _x(last + 1, video) - _x(first, video)):.1f}" '
        f'height="{_ROW - 8}" rx="3" fill="{color}"><title>{track.id} {escape(track.label)}: frames {first} to {last}'
        "</title></rect>"
        for first, last in track.stretches
    )
    text = f'<text x="{_LABEL - 8}" y="{y + 16}" text-anchor="end">{track.id} {escape(track.label[:18])}</text>'
    return f"<g{dim}>{text}{bars}</g>"


def _ticks(video: VideoReport, height: int) -> str:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**3, 10**4, 10**9) if video.num_frames <= 12 * s)
    return "".join(
        f'<line class="tick" x1="{_x(f, video):.1f}" x2="{_x(f, video):.1f}" y1="0" y2="{height - 18}"/>'
        f'<text class="tick" x="{_x(f, video):.1f}" y="{height - 4}">{f}</text>'
        for f in range(0, video.num_frames, step)
    )


def _x(frame: int, video: VideoReport) -> float:
    return _LABEL + _CHART * frame / max(video.num_frames, 1)


def _table(video: VideoReport) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("", "id", "class", "score", "frames", "from - to", "mean area"))
    rows = "".join(_track_row(track, video) for track in video.tracks)
    return f'<table class="tracks"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _track_row(track: TrackSummary, video: VideoReport) -> str:
    area = sum(track.areas) / max(len(track.areas), 1)
    share = 100 * area / (video.height * video.width)
    span = f"{track.frames[0]} - {track.frames[-1]}" if track.frames else "-"
    cells = (
        f'<i class="swatch" style="background:{_hex(track.id)}"></i>', str(track.id), escape(track.label),
        f"{track.score:.2f}", str(len(track.frames)), span, f"{area:,.0f} px ({share:.2g} %)",
    )  # fmt: skip
    dim = ' class="faint"' if track.score < video.min_score else ""
    return f"<tr{dim}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _hex(number: int) -> str:
    red, green, blue = overlay_color(number)
    return f"#{red:02x}{green:02x}{blue:02x}"


_STYLE = """
:root{color-scheme:light dark;--ground:#fff;--text:#1b1b1f;--quiet:#66666e;--line:#dcdce2;--card:#f6f6f9}
@media(prefers-color-scheme:dark){:root{--ground:#16161a;--text:#ececf1;--quiet:#9b9ba6;--line:#34343c;--card:#1f1f25}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--text);font:16px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px 20px 60px}h1{font-size:28px;margin:0 0 8px}h2{font-size:20px;margin:0}
section{margin:20px 0;padding:18px;background:var(--card);border:1px solid var(--line);border-radius:12px}
nav a{margin-right:14px}.facts,.links{color:var(--quiet);margin:2px 0 12px}.facts b{color:var(--text)}a{color:#3f6fe0}
video,img,svg{display:block;width:100%;border-radius:8px;margin:0 0 14px}video{background:#000;max-height:70vh}
.times{cursor:pointer;overflow:visible}.times text{fill:var(--text);font-size:14px}.times .tick{stroke:var(--line)}
.times text.tick{fill:var(--quiet);stroke:none;font-size:12px}.now{stroke:var(--text);stroke-width:2}
.times rect{stroke:rgba(0,0,0,.35);stroke-width:.5}.faint{opacity:.45}
table{border-collapse:collapse;width:100%;margin:0 0 14px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 10px;border-bottom:1px solid var(--line)}th{color:var(--quiet);font-weight:500}
.tracks td:nth-child(n+4),.tracks th:nth-child(n+4){text-align:right}.details th{width:180px;vertical-align:top}
.swatch{display:inline-block;width:18px;height:18px;border-radius:4px;border:1px solid #0005;vertical-align:-3px}
"""
_SCRIPT = """
for (const section of document.querySelectorAll("section.video")) {
  const video = section.querySelector("video"), chart = section.querySelector("svg.times");
  if (!video || !chart) continue;
  const now = chart.querySelector(".now"), fps = Number(video.dataset.fps), frames = Number(chart.dataset.frames);
  const label = Number(chart.dataset.label), width = Number(chart.dataset.chart);
  const show = () => {
    const x = label + width * Math.min(1, video.currentTime * fps / frames);
    now.setAttribute("x1", x); now.setAttribute("x2", x);
    if (!video.paused) requestAnimationFrame(show);
  };
  for (const event of ["play", "seeked", "timeupdate"]) video.addEventListener(event, show);
  chart.addEventListener("click", (event) => {
    const box = chart.getBoundingClientRect(), x = (event.clientX - box.left) * (label + width) / box.width;
    const frame = Math.floor((x - label) / width * frames);
    if (frame >= 0 && frame < frames) video.currentTime = (frame + 0.5) / fps;
  });
}
"""
