"""The page of a comparison."""

from pages import Page

from distill.report.compared import write_comparison

KINDS = {"clean": ("split", "accuracy"), "fair": ("subgroups", "worst_accuracy")}


def _line(evaluation, kind, figure, share):
    figures = {figure: share} | ({"debiased/0.1/accuracy": share} if kind != "split" else {})
    return {
        "name": evaluation,
        "config": {"kind": kind},
        "metrics": {f"{evaluation}/{key}": value for key, value in figures.items()},
        "seconds": 1.0,
        "time": "now",
    }


def _model(name, share):
    return {
        "name": name,
        "model": f"runs/{name}",
        "evaluations": {key: _line(key, *kind, share) for key, kind in KINDS.items()},
    }


def _page(tmp_path, *models):
    result = {"models": models, "retained": {}, "other_images": {}}
    return write_comparison(result, tmp_path).read_text()


def test_in_short_the_ratio_comes_first_and_the_good_direction_is_said(tmp_path):
    page = _page(tmp_path, _model("big", 0.9), _model("small", 0.8))
    assert "<title>What is left of big in small</title>" in page
    short = page.partition(">In short</h2>")[2].partition("</section>")[0]
    header = ["small / big", "big", "small"]
    assert "<td></td>" + "".join(f'<th scope="col">{one}</th>' for one in header) in short
    assert "fair: worst accuracy<br><small>higher is better</small>" in short


def test_rows_of_debiasers_are_shown_on_demand(tmp_path):
    page = _page(tmp_path, _model("alone", 0.9))
    section = page.partition(">fair</h2>")[2].partition("</section>")[0]
    before, _, hidden = section.partition("<details>")
    assert "worst_accuracy" in before and "debiased/" not in before
    assert "debiased/0.1/accuracy" in hidden.partition("</details>")[0]
    assert page.count("<details>") == 1


def test_what_is_kept_of_the_first_model_is_seen_first(tmp_path):
    models = [_model("big <b>", 0.9), _model("small", 0.8)]
    kept = {"clean/accuracy": {"small": {"ratio": 0.8889, "interval": (0.85, 0.93)}}}
    result = {"models": models, "retained": kept, "other_images": {}}
    page = Page(write_comparison(result, tmp_path).read_text())
    assert "88.9%" in page.texts
    assert "of big <b>'s is kept (85.0% to 93.0%)" in page.texts


def test_curves_of_corruptions_and_of_confidence_are_each_models(tmp_path):
    bins = [{"mean_probability": 0.5, "mean_outcome": 0.25, "count": 3}]
    details = {
        "hard": ("corruptions", {"clean": 0.9, "accuracy": {"motion_blur": {"1": 0.8, "2": 0.5}}}),
        "sure": ("calibration", {"before": {"reliability": bins}}),
    }
    models = [
        {
            "name": name,
            "model": name,
            "evaluations": {
                key: _line(key, kind, "accuracy", 0.5) | {"details": of}
                for key, (kind, of) in details.items()
            },
        }
        for name in ("big", "small")
    ]
    page = Page(_page(tmp_path, *models))
    hard, sure = page.data
    assert (hard["x"], hard["series"][1]) == ([0, 1, 2], {"name": "small", "y": [0.9, 0.8, 0.5]})
    assert (sure["x"], sure["series"][0]) == ([0.5], {"name": "big", "y": [0.25]})
