"""The workdir of a run as it trains, written by hand."""

import json
from pathlib import Path

CONFIG = {"train": {"batch_size": 50, "total_epochs": 3}, "data": {"source": "digits"}}


def row(step: int, rate: float = 100.0, **more: float) -> dict[str, float]:
    """A line of metrics."""
    return {"step": step, "train/loss": 1 / step, "train/images_per_second": rate, **more}


def write(path: Path, *rows: dict[str, float], rest: str = "") -> None:
    """Writes metrics.jsonl, at its end what is not a whole line."""
    lines = "".join(json.dumps(one) + "\n" for one in rows)
    (path / "metrics.jsonl").write_text(lines + rest)


def begin(path: Path, *rows: dict[str, float]) -> None:
    """A run of 60 steps that has logged some."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "data.json").write_text(json.dumps({"train": {"images": 1000, "fingerprint": "0"}}))
    write(path, *(rows or (row(1), row(20))))
