"""Pages of runs of which the examples are made up."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from distill.evaluate.gallery import SHOWN
from distill.report.run import write_run_report

HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)", "\"'&amp;", "b" * 200)

# A grey pixel.
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAgg"
    "CBd81ytgAAAABJRU5ErkJggg=="
)


def some_examples(
    count: int = 40,
    names=HOSTILE,
    *,
    teacher: bool = True,
    seed: int = 0,
    picture: str = PICTURE,
) -> dict[str, Any]:
    """The content of a file of examples, of answers that are right three times out of four."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, len(names), count)
    answers = [
        [int(one), *(int(other) for other in rng.permutation(len(names))[:2])]
        for one in np.where(rng.random(count) < 0.75, label, rng.integers(0, len(names), count))
    ]
    sure = rng.uniform(0.4, 1, count)
    said = {"answers": answers, "probabilities": [[p, (1 - p) / 2, (1 - p) / 2] for p in sure]}
    places = rng.normal(size=(count, 2)).tolist()
    shown = list(range(min(count, SHOWN)))
    return {
        "split": "test",
        "of": count,
        "among": None,
        "labelled": True,
        "device": "1 cpu",
        "batch_size": 8,
        "name": [f"{HOSTILE[0]}/{n}.png" for n in range(count)],
        "label": label.tolist(),
        "images_per_second": 1234.0,
        **said,
        "map": places,
        "mapped": list(range(count)),
        "teachers": {
            "teacher": {"parameters": 10**6, "images_per_second": 100.0, "map": places, **said}
        }
        if teacher
        else {},
        "together": said if teacher else None,
        "kl": rng.random(count).tolist() if teacher else None,
        "classes": {str(n): name for n, name in enumerate(names)},
        "samples": shown,
        "mistakes": shown,
        "differ": shown if teacher else [],
        "pictures": {str(n): picture for n in shown},
    }


def write_page(workdir: Path, content: dict[str, Any]) -> Path:
    """The page of a run with these examples."""
    (workdir / "examples.json").write_text(json.dumps(content))
    return write_run_report(workdir)
