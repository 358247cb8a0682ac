"""The page of a comparison."""

from distill.report.compared import write_comparison

KINDS = {"clean": ("split", "accuracy"), "fair": ("subgroups", "worst_accuracy")}


def _model(name, share):
    def line(evaluation, kind, figure):
        figures = {figure: share} | ({"debiased/0.1/accuracy": share} if kind != "split" else {})
        return {
            "name": evaluation,
            "config": {"kind": kind},
            "metrics": {f"{evaluation}/{key}": value for key, value in figures.items()},
            "seconds": 1.0,
            "time": "now",
        }

    return {
        "name": name,
        "model": f"runs/{name}",
        "evaluations": {key: line(key, *kind) for key, kind in KINDS.items()},
    }


def _page(tmp_path, *models):
    result = {"models": models, "retained": {}, "other_images": {}}
    return write_comparison(result, tmp_path).read_text()


def test_in_short_the_ratio_comes_first_and_the_good_direction_is_said(tmp_path):
    page = _page(tmp_path, _model("big", 0.9), _model("small", 0.8))
    assert "<title>What is left of big in small</title>" in page
    short = page.partition("In short")[2].partition("<h2>")[0]
    assert "<th></th><th>small / big</th><th>big</th><th>small</th>" in short
    assert "fair: worst accuracy<br><small>higher is better</small>" in short


def test_rows_of_debiasers_are_shown_on_demand(tmp_path):
    page = _page(tmp_path, _model("alone", 0.9))
    section = page.partition("<h2>fair</h2>")[2].partition("<h2>")[0]
    before, _, hidden = section.partition("<details>")
    assert "worst_accuracy" in before and "debiased/" not in before
    assert "debiased/0.1/accuracy" in hidden.partition("</details>")[0]
    assert page.count("<details>") == 1
