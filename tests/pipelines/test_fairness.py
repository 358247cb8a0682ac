"""`distill fairness` as a user runs it."""

import json

import numpy as np
import pytest
from support import loaded_by_command, run_command

from distill.analysis.debiasing import compare
from distill.analysis.fairness import Cases
from distill.analysis.prediction_files import write_predictions
from distill.analysis.predictions import Predictions

COLUMNS = ("--score=p", "--target=y", "--group=s")


def drawn(count: int, seed: int) -> list[tuple[float, int, str]]:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        women = rng.random() < 0.4
        score = rng.beta(2, 3) if women else rng.beta(3, 2)
        rows.append((round(score, 6), int(rng.random() < score), "women" if women else "men"))
    return rows


VALIDATION, TEST = drawn(400, 0), drawn(300, 1)


def expected(**options) -> dict:
    test, validation = (
        Cases.of(p, y, [f"s={one}" for one in s])
        for p, y, s in (zip(*rows, strict=True) for rows in (TEST, VALIDATION))
    )
    return compare(test, validation, **options).as_json()


def write(file, rows, header="p,y,s"):
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def tables(tmp_path):
    return write(tmp_path / "test.csv", TEST), write(tmp_path / "val.csv", VALIDATION)


def assert_figures(told: dict, figures: dict):
    for name in ("count", "held_out", "before", "debiased"):
        assert told[name] == figures[name]


def test_two_files_of_anybodys_scores(tables, tmp_path):
    test, validation = tables
    out, page = tmp_path / "new" / "o.json", tmp_path / "o.html"
    done = run_command(
        *("fairness", f"--table={test}", f"--held_out={validation}", *COLUMNS),
        *("--bias=0,0.1", "--gamma=0.5", f"--json={out}", f"--html={page}"),
    )
    assert done.returncode == 0, done.stderr
    figures = expected(gamma=0.5, biases=(0, 0.1))
    told = json.loads(out.read_text("utf-8"))
    assert_figures(told, figures)
    assert (told["table"], told["held_out_table"]) == (str(test), str(validation))
    gap = figures["debiased"][0]["parity_gap"]
    assert f"{gap:.2%}" in done.stdout and "s=women" in done.stdout
    assert "What fairness costs" in page.read_text("utf-8")


def test_one_file_with_a_column_of_splits(tmp_path):
    rows = [(*row, "validation") for row in VALIDATION] + [(*row, "test") for row in TEST]
    file, out = write(tmp_path / "all.csv", rows, "p,y,s,split"), tmp_path / "o.json"
    done = run_command(
        "fairness", f"--table={file}", *COLUMNS, "--split_column=split", f"--json={out}"
    )
    assert done.returncode == 0, done.stderr
    assert_figures(json.loads(out.read_text("utf-8")), expected())


def test_predictions_of_celeba_with_its_lists(tmp_path):
    rows = [*VALIDATION, *TEST]
    score = np.array([row[0] for row in rows])
    names = [f"{number:06d}.jpg" for number in range(len(rows))]
    file = tmp_path / "p.npz"
    predictions = Predictions(
        scores=np.stack([1 - score, score], axis=1),
        scale="probabilities",
        class_names=("no", "Smiling"),
        labels=np.full(len(rows), -1),
        names=np.array([f"img_align_celeba/{name}" for name in names]),
    )
    write_predictions(file, predictions)
    attributes = "".join(
        f"{name} {'1' if y else '-1':>2} {'-1' if s == 'women' else '1':>2}\n"
        for name, (_, y, s) in zip(names, rows, strict=True)
    )
    lists = tmp_path / "list_attr_celeba.txt", tmp_path / "list_eval_partition.txt"
    lists[0].write_text(f"{len(rows)}\nSmiling Male\n{attributes}")
    lists[1].write_text(
        "".join(f"{name} {1 if n < len(VALIDATION) else 2}\n" for n, name in enumerate(names))
    )
    out = tmp_path / "o.json"
    done = run_command(
        *("fairness", f"--table={file}", "--positive=Smiling", "--target=Smiling", "--group=Male"),
        *(f"--attributes={lists[0]}", f"--partition={lists[1]}", f"--json={out}"),
    )
    assert done.returncode == 0, done.stderr
    told, figures = json.loads(out.read_text("utf-8")), expected()
    assert (told["count"], told["held_out"]) == (len(TEST), len(VALIDATION))
    assert told["table"] == f"{file} (test)"
    men, women = (figures["before"]["hard"]["groups"][f"s={one}"] for one in ("men", "women"))
    assert told["before"]["hard"]["groups"] == {"Male=-1": women, "Male=1": men}
    assert told["debiased"][0]["parity_gap"] == pytest.approx(figures["debiased"][0]["parity_gap"])


def test_predictions_with_a_csv_beside_their_images(tmp_path):
    score = np.array([row[0] for row in TEST])
    predictions = Predictions(
        scores=np.stack([1 - score, score], axis=1),
        scale="probabilities",
        class_names=("no", "yes"),
        labels=np.array([row[1] for row in TEST]),
        names=np.array([f"yes/{number}.jpg" for number in range(len(TEST))]),
    )
    write_predictions(tmp_path / "p.parquet", predictions)
    rows = [(f"{number}.jpg", row[2]) for number, row in enumerate(TEST)]
    beside = write(tmp_path / "people.csv", rows, "image,s")
    done = run_command(
        *("fairness", f"--table={tmp_path / 'p.parquet'}", "--positive=yes", "--group=s"),
        *(f"--attributes={beside}", f"--json={tmp_path / 'o.json'}"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "o.json").read_text())["before"] == expected()["before"]


def test_without_held_out_cases_the_score_alone_is_measured(tables):
    done = run_command("fairness", f"--table={tables[0]}", *COLUMNS)
    assert done.returncode == 0 and "debiased" not in done.stdout
    assert "nothing is debiased without other cases" in done.stderr


def test_the_command_needs_no_jax(tables):
    heavy = {"jax", "flax", "orbax", "grain", "tensorflow", "matplotlib", "pandas"}
    assert not heavy & loaded_by_command("fairness", f"--table={tables[0]}", *COLUMNS)


def test_small_groups_are_warned_of(tmp_path):
    few = write(tmp_path / "few.csv", TEST[:50])
    done = run_command("fairness", f"--table={few}", *COLUMNS)
    assert "warning: " in done.stderr and "figures of fewer than 100" in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bias=1.5"], "--bias has 1.5; expected number from 0 to 1 each"),
        (["--gamma=0"], "expected number from 1e-06 to 1e+06"),
        (["--group=t"], "no column 't'"),
        (["--held_out=VAL", "--split_column=s"], "give --held_out or a split"),
        (["--held_out=TEST"], "--held_out is --table"),
        (["--split_column=s"], "no row has 'test' in the column 's'"),
        (["--positive=x"], "--positive is for predictions"),
        (["--held_out=OTHER"], "the group s=men is none of s=boys, s=women"),
        (["--held_out=BROKEN"], "broken.csv, line 3: p is 'nan'; expected a number from 0 to 1"),
    ],
)
def test_what_a_user_can_mend_is_one_message(tables, tmp_path, flags, message):
    places = {
        "TEST": tables[0],
        "VAL": tables[1],
        "OTHER": write(tmp_path / "other.csv", [(0.5, 1, "boys"), (0.5, 0, "women")]),
        "BROKEN": write(tmp_path / "broken.csv", [(0.5, 1, "men"), ("nan", 0, "women")]),
    }
    for name, place in places.items():
        flags = [flag.replace(f"={name}", f"={place}") for flag in flags]
    done = run_command("fairness", f"--table={tables[0]}", *COLUMNS, *flags)
    assert done.returncode == 2 and message in done.stderr, done.stderr
