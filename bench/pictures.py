"""The pictures of docs/images, drawn from what was measured last, but for quick runs: `python -m bench.pictures`."""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from bench import report
from bench.paths import IMAGES

OURS, THEIRS = "#1f6f8b", "#b0b7bf"
LANES = {"first pass": "#8fb8c6", "decode": "#5b9bb0", "model": "#1f6f8b", "encode": "#d98c3f", "hash": "#b3662a",
         "publish": "#6a4c93"}  # fmt: skip


def main() -> None:
    """Draw each picture for which there are figures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    pyplot.rcParams.update({
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "white",
        "savefig.dpi": 110, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    })  # fmt: skip
    draw = {"workers": _workers, "memory": _memory, "timeline": _timeline}
    for name, picture in draw.items():
        result = report.read(name)
        if result is not None and not result["facts"]["quick"]:
            picture(result)
            pyplot.tight_layout()
            pyplot.savefig(IMAGES / f"{name}.png")
            pyplot.close()
            print(IMAGES / f"{name}.png")


def _workers(result: dict[str, Any]) -> None:
    bars: dict[str, float] = result["bars"]
    _, axes = pyplot.subplots(figsize=(6, 2.4))
    names = list(bars)[::-1]
    colors = [THEIRS if name.startswith("Demucs") else OURS for name in names]
    drawn = axes.barh(names, [bars[name] for name in names], color=colors)
    axes.bar_label(drawn, fmt="%.2f", padding=3)
    axes.set_xlabel("seconds of audio separated a second")
    axes.set_title(f"htdemucs on {result['facts']['cores']} cores, starting included")


def _memory(result: dict[str, Any]) -> None:
    _, axes = pyplot.subplots(figsize=(6, 3))
    sources = [(result, "htdemucs"), (report.read("memory_demo"), "demo")]
    styles = {"htdemucs": "-", "demo": "--"}
    for found, model in sources:
        if found is None:
            continue
        for who in dict.fromkeys(point["who"] for point in found["points"]):
            points = sorted((p["minutes"], p["bytes"] / 1e9) for p in found["points"] if p["who"] == who)
            color = "#c0392b" if who == "Demucs" else "#d98c3f" if "torch" in who else OURS
            axes.plot(*zip(*points, strict=True), styles[model], marker="o", color=color, label=f"{who}, {model}")
    axes.set_xlabel("length of the song, minutes")
    axes.set_ylabel("peak memory, GB")
    axes.set_ylim(bottom=0)
    axes.set_title("Memory by the length of the song")
    axes.legend(frameon=False, fontsize=8)


def _timeline(result: dict[str, Any]) -> None:
    marks = result["marks"]
    begun = marks["started"][0]
    spans = [*result["spans"], *_publishing(result["spans"], marks["completed"])]
    _, axes = pyplot.subplots(figsize=(8, 2.8))
    lanes = [lane for lane in LANES if any(span["lane"] == lane for span in spans)][::-1]
    for place, lane in enumerate(lanes):
        bars = [(span["from"] - begun, span["to"] - span["from"]) for span in spans if span["lane"] == lane]
        axes.broken_barh(bars, (place - 0.35, 0.7), color=LANES[lane])
    for at in marks["completed"]:
        axes.axvline(at - begun, color="#888", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_xlabel("seconds; dotted: a song is completed")
    share = next(row["ours"] for row in result["rows"] if row["what"].startswith("share"))
    axes.set_title(f"One worker through {len(marks['completed'])} songs: the model computes {share:.0f} % of the time")


def _publishing(spans: list[dict[str, Any]], completed: list[float]) -> list[dict[str, Any]]:
    """From the end of a song's last hash to the manager's word that it is completed."""
    ends = [span["to"] for span in spans if span["lane"] == "hash"]
    last = [max((end for end in ends if end <= at), default=at) for at in completed]
    return [{"lane": "publish", "from": begun, "to": at} for begun, at in zip(last, completed, strict=True)]


if __name__ == "__main__":
    main()
