"""Claims: how seeds are compared, what is concluded, and that runs are done once and resumed."""

import concurrent.futures
import dataclasses
import json
import math
import zlib
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from benchmarks.claims import __main__ as command
from benchmarks.claims import beyond_accuracy, heads, performing, scaling, sizes
from benchmarks.claims.claim import Conclusion, claims
from benchmarks.claims.equals import equal
from benchmarks.claims.page import PAGES, render
from benchmarks.claims.performing import perform
from benchmarks.claims.runs import CHANGES, Finished, Run
from benchmarks.claims.small import pretraining
from benchmarks.claims.spread import difference, told
from distill.errors import Damaged, RunFailed
from distill.json_files import read_json, write_json


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_a_difference_is_sure_where_students_test_says_so(seeds):
    rng = np.random.default_rng(seeds)
    seen = set()
    for shift in np.linspace(-0.05, 0.05, 41):
        first, second = rng.normal(0.9 + shift, 0.02, seeds), rng.normal(0.9, 0.02, seeds)
        found = difference(first, second)
        one_sided = stats.ttest_rel(first, second, alternative="greater").pvalue < 0.05
        other_sided = stats.ttest_rel(first, second, alternative="less").pvalue < 0.05
        assert (found.surely_more, found.surely_less) == (one_sided, other_sided)
        low = stats.ttest_1samp(first - second, -0.02, alternative="greater").pvalue < 0.05
        high = stats.ttest_1samp(first - second, 0.02, alternative="less").pvalue < 0.05
        assert found.surely_within(0.02) == (low and high)
        seen.add((one_sided, other_sided))
    assert len(seen) > 1


def test_means_and_spreads_are_told_in_percent():
    assert told([0.91, 0.93, 0.95]) == "93.0 ± 2.0"
    assert difference([0.5, 0.7], [0.4, 0.4]).told() == "+20.0 ± 10.0"
    with pytest.raises(ValueError, match="two or more paired seeds, not 1 and 1"):
        difference([1.0], [1.0])
    with pytest.raises(ValueError, match="not 2 and 3"):
        difference([1.0, 2.0], [1.0, 2.0, 3.0])


def finished(accuracy):
    return Finished({"accuracy": accuracy}, [], diverged=False, cpu_seconds=1.0)


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        ((0.901, 0.899, 0.9), "holds"),
        ((0.85, 0.851, 0.849), "does not hold"),
        ((0.95, 0.951, 0.949), "does not hold"),
        ((0.99, 0.80, 0.9), "not visible here"),
    ],
)
def test_settings_are_equal_within_a_margin_or_not(others, verdict):
    found = {("one", seed): finished(0.9 + 0.001 * seed) for seed in range(3)}
    found |= {("other", seed): finished(one) for seed, one in enumerate(others)}
    measures = {"accuracy": lambda run: run.summary["accuracy"]}
    concluded = equal(found, measures, than="one", margin=0.02)
    assert concluded.verdict == verdict
    # That the one is better is no loss.
    no_loss = "holds" if max(others) < 0.9 else verdict
    assert equal(found, measures, than="one", margin=0.02, or_better=True).verdict == no_loss
    assert concluded.rows[0] == ("one", "90.1 ± 0.1") and "margin is 2 points" in concluded.because


def ends(runs):
    """The names of the first and the last, as resolving all takes half a minute."""
    first, *_, last = runs.values()
    return first.name, last.name


def test_every_claim_has_trainings_that_can_be_built_and_says_what_would_refute_it():
    known = claims()
    assert len(known) >= 15
    for claim in known.values():
        assert len({*ends(claim.runs((0, 1, 2)))}) == 2
        assert claim.refuted_by.endswith(".") and claim.source and claim.published
        assert (claim.broken_runs is None) == (not claim.broken)
    broken = [claim for claim in known.values() if claim.broken_runs]
    assert len(broken) >= 3
    for claim in broken:
        assert ends(claim.runs((0, 1, 2)))[1] != ends(claim.broken_runs((0, 1, 2)))[1]


def test_a_run_is_told_by_all_that_it_depends_on():
    one = pretraining({"model.width": 8}, seed=0)
    assert one.name == pretraining({"model.width": 8}, seed=0).name
    others = [
        pretraining({"model.width": 8}, seed=1),
        pretraining({"model.width": 16}, seed=0),
        pretraining({"model.width": 8}, seed=0, changed="without_qk_norm"),
        dataclasses.replace(one, pipeline="finetune", uses=(("start.workdir", one),)),
        dataclasses.replace(one, compiled_for="v4:2x2x1"),
    ]
    assert len({one.name, *(other.name for other in others)}) == 6


def test_the_page_is_what_the_results_say():
    assert (PAGES / "papers.md").read_text(encoding="utf-8") == render(PAGES, claims())


def small(seed, **overrides):
    return pretraining(
        {
            "model.width": 8,
            "model.depth": 1,
            "data.source": "scenes?digits=1&images=200",
            "data.eval_source": "scenes?digits=1&images=64",
            "train.total_steps": 4,
            "schedule.warmup_steps": 1,
            **overrides,
        },
        seed=seed,
    )


@pytest.mark.slow
def test_what_was_done_is_not_done_again_and_time_that_is_over_begins_nothing(tmp_path, capfd):
    start = small(0)
    later = Run(pipeline="finetune", config=small(1).config, uses=(("start.workdir", start),))
    assert not perform([later], tmp_path, jobs=2, seconds=0.0)
    assert start.finished(tmp_path) is None
    assert perform([later, small(2)], tmp_path, jobs=2, seconds=None)
    assert "claims: 3 of 3 runs" in capfd.readouterr().err
    found = later.finished(tmp_path)
    assert not found.diverged and found.summary["steps"] == 4 and found.cpu_seconds > 0
    assert found.curve("train/loss")[0] == [1, 4]
    assert perform([later, start], tmp_path, jobs=2, seconds=0.0)
    diverging = small(3, **{"optimizer.learning_rate": 1e18, "optimizer.name": "sgd"})
    assert perform([diverging], tmp_path, jobs=1, seconds=None)
    assert diverging.finished(tmp_path).diverged


@pytest.mark.slow
def test_what_no_config_says_can_be_done_otherwise(tmp_path):
    optimizers = {"adam_in_float32": "adam", "published_adafactor": "adafactor"}
    changed = {
        name: dataclasses.replace(
            small(0, **{"optimizer.name": optimizers.get(name, "adam"), "model.qk_norm": True}),
            changed=name,
        )
        for name in CHANGES
    }
    as_it_is = [dataclasses.replace(run, changed="") for run in changed.values()]
    assert perform([*changed.values(), *as_it_is], tmp_path, jobs=2, seconds=None)
    for run in changed.values():
        usual = dataclasses.replace(run, changed="").finished(tmp_path).curve("train/grad_norm")
        assert run.finished(tmp_path).curve("train/grad_norm") != usual


@pytest.mark.slow
def test_a_run_of_the_grid_has_every_figure_that_claims_are_judged_by(tmp_path):
    whole = sizes.run(8, 700, 0)
    train = dict.fromkeys(("total_steps", "log_every", "eval_every", "checkpoint_every"), 4)
    short = {
        "train": {**whole.config["train"], **train},
        "schedule": {**whole.config["schedule"], "warmup_steps": 1},
    }
    run = dataclasses.replace(whole, config={**whole.config, **short})
    assert perform([run], tmp_path, jobs=1, seconds=None)
    found = run.finished(tmp_path)
    measures = (sizes.upstream, sizes.downstream, beyond_accuracy.corrupted)
    measures += (beyond_accuracy.calibration_error, beyond_accuracy.gap, beyond_accuracy.worst)
    shares = [measure(found) for measure in measures]
    assert all(0 <= one <= 1 for one in shares) and len(set(shares)) > 3


@pytest.mark.slow
@pytest.mark.usefixtures("tpu_compiler")
@pytest.mark.skipif(find_spec("libtpu") is None, reason="needs libtpu (the extra plan)")
def test_a_step_that_is_compiled_for_a_slice_says_what_memory_it_takes(tmp_path):
    trained = small(0, **{"train.batch_size": 64})
    one = dataclasses.replace(trained, compiled_for="v5e:2x2")
    one.perform(tmp_path)
    found = one.finished(tmp_path)
    assert found.summary["temporary_bytes"] > 64 * 16 * 16 * 3 / 4 and found.rows == []
    assert trained.finished(tmp_path) is None


def test_the_memory_of_a_class_token_is_told_beside_accuracies_of_heads():
    sizes = {"attention (MAP)": 100, "mean": 90, "class token": 125}
    found = {(head, heads.COMPILED): summarised(temporary_bytes=n) for head, n in sizes.items()}
    for head in sizes:
        for seed in range(3):
            figures = {"test/accuracy": 0.8 + 0.01 * seed, "fewshot/10": 0.7, "parameters": 9}
            found[head, seed] = summarised(**figures)
    concluded = heads.conclude(found)
    assert concluded.verdict == "holds" and concluded.here.endswith("25% more memory")
    assert len({len(concluded.header), *map(len, concluded.rows)}) == 1


def summarised(**figures):
    return Finished(figures, [], diverged=False, cpu_seconds=1.0)


class MadeUp(dict):
    """Any figure, a half and more, drawn by its name and the run's."""

    def __init__(self, run):
        self.run = run

    def __missing__(self, name):
        return 0.5 + zlib.crc32(repr((self.run, name)).encode()) % 1000 / 2500


def concluded_and_drawn(claim, summaries):
    """As the command keeps and draws it."""
    rows = [{"step": 10.0, "extremes/attention_logit": 3.0}]
    found = {
        key: Finished(summary, rows, diverged=False, cpu_seconds=1.0)
        for key, summary in summaries.items()
    }
    concluded = claim.conclude(found)
    kept = json.loads(json.dumps(dataclasses.asdict(concluded)))
    claim.draw(Conclusion(**kept), Figure())
    return concluded


@pytest.mark.parametrize("name", claims())
def test_whatever_runs_come_to_something_is_concluded_of_them(name):
    claim = claims()[name]
    made = {key: MadeUp(key) for key in claim.runs((0, 1, 2))}
    concluded = concluded_and_drawn(claim, made)
    assert len({len(concluded.header), *map(len, concluded.rows)}) == 1
    assert concluded.because.endswith(".") and concluded.here


def test_errors_by_the_law_are_told_to_follow_it():
    claim = claims()["scaling_law"]
    smallest = min(scaling.compute(*key[:2]) for key in claim.runs((0,)))

    def accuracy(width, steps, seed):
        spent = scaling.compute(width, steps) / smallest
        # A model that is too small or too large for what is spent is off the frontier.
        best = max(8, 8 * (spent / 8) ** 0.25)
        off = 1 + 0.2 * math.log2(width / best) ** 2
        return 1 - (0.8 * off * (spent + 0.5) ** -0.3 + 0.02) * (1 + 0.001 * seed)

    made = {key: {"test/accuracy": accuracy(*key)} for key in claim.runs((0, 1, 2))}
    concluded = concluded_and_drawn(claim, made)
    assert concluded.verdict == "holds"
    assert "16 takes over from 8" in concluded.because
    smaller = {
        key: {"test/accuracy": 1 - (scaling.compute(*key[:2]) / smallest) ** -0.3 * key[0] / 8}
        for key in made
    }
    concluded = concluded_and_drawn(claim, smaller)
    assert concluded.verdict == "holds in part"
    assert "of 8 and 16 it is 8 throughout" in concluded.because
    level = {key: {"test/accuracy": 0.5 + 0.001 * key[2]} for key in made}
    assert concluded_and_drawn(claim, level).verdict != "holds"


def test_the_command_says_which_claims_there_are(capsys):
    assert command.main(["--list"]) == 0
    assert "qk_norm" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        command.main(["qk_nrom"])
    assert ended.value.code == 2 and "there are" in capsys.readouterr().err
    for wrong in ("--seeds=1", "--seeds=101", f"--workdir={__file__}"):
        with pytest.raises(SystemExit) as ended:
            command.main([wrong])
        assert ended.value.code == 2
    capsys.readouterr()
    with pytest.raises(SystemExit):
        command.main(["--budget=20epochs"])
    assert "no time; expected such as 25m" in capsys.readouterr().err


def test_a_conclusion_is_a_row_and_a_section_of_the_page(tmp_path):
    claim = claims()["blocks"]
    concluded = Conclusion(
        verdict="holds", because="It does.", here="0 points", header=("", "x"), rows=[("a", "1")]
    )
    folder = tmp_path / "papers"
    folder.mkdir()
    kept = dataclasses.asdict(concluded) | {
        "runs": 3,
        "cpu_minutes": 2.4,
        "date": "2026-01-01",
        "machine": "one",
    }
    write_json(folder / "blocks.json", kept)
    write_json(folder / "blocks_broken.json", kept | {"verdict": "does not hold"})
    for stem in ("blocks", "blocks_broken"):
        (folder / f"{stem}.png").touch()
    page = render(tmp_path, {"blocks": claim})
    assert "| 0 points | **holds** | 2 |" in page and f"## {claim.title}" in page
    assert "| a | 1 |" in page and "**does not hold**" in page
    (folder / "blocks.png").unlink()
    with pytest.raises(Damaged, match=r"blocks\.png is missing"):
        render(tmp_path, {"blocks": claim})
    (folder / "blocks.json").write_text("{}")
    with pytest.raises(Damaged, match="is no conclusion"):
        render(tmp_path, {"blocks": claim})


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """The command on one claim, whose trainings have come to something, and where it writes."""
    monkeypatch.setattr(command, "perform", lambda *_, **__: True)
    monkeypatch.setattr(command, "PAGES", tmp_path)
    ended = {"diverged": False}

    def finished(run, root):
        return Finished(MadeUp(run.name), [], diverged=ended["diverged"], cpu_seconds=6.0)

    monkeypatch.setattr(Run, "finished", finished)
    return tmp_path, ended


def test_what_is_judged_is_written_with_a_checksum(judged):
    pages, _ = judged
    assert command.main(["probing"]) == 0
    kept = json.loads((pages / "papers" / "probing.json").read_bytes())
    assert kept["checksum"] and (pages / "papers" / "probing.png").stat().st_size > 1000
    # What fine-tuning starts from is what is probed.
    assert kept["runs"] == 12 and kept["cpu_minutes"] == 1.2
    assert "A linear probe" in (pages / "papers.md").read_text()
    file = pages / "papers" / "probing.json"
    file.write_text(file.read_text().replace(kept["verdict"], "proven"))
    with pytest.raises(Damaged):
        command.main(["--page"])


def test_trainings_that_others_start_from_count(judged):
    pages, _ = judged
    assert command.main(["locked"]) == 0
    assert read_json(pages / "papers" / "locked.json")["runs"] == 12


def test_of_other_seeds_nothing_is_written(judged, capsys):
    pages, _ = judged
    assert command.main(["probing", "--seeds=2"]) == 0
    assert "is left as it is" in capsys.readouterr().out
    assert not list(pages.iterdir())


def test_nothing_is_concluded_of_what_diverged(judged):
    _, ended = judged
    ended["diverged"] = True
    with pytest.raises(RunFailed, match=r"probing: the run pretrain-.* not finite"):
        command.main(["probing"])


def test_what_says_how_a_run_ended_is_known_to_be_damaged(tmp_path):
    run = pretraining({"model.width": 8}, seed=0)
    (tmp_path / run.name).mkdir()
    for content in ("[]", "{}", "{"):
        (tmp_path / run.name / "claims.json").write_text(content)
        with pytest.raises(Damaged, match=run.name):
            run.finished(tmp_path)


def test_why_a_run_could_not_be_made_comes_back_as_a_text(tmp_path):
    run = pretraining({"data.source": "folder:nowhere"}, seed=0)
    said = performing._perform(run, tmp_path)
    assert "nowhere" in said
    ended = concurrent.futures.Future()
    ended.set_result(said)
    with pytest.raises(RunFailed, match=rf"{run.name}: .*nowhere"):
        performing._check_done(ended, run.name, tmp_path)
    ended = concurrent.futures.Future()
    ended.set_exception(BrokenProcessPool())
    with pytest.raises(RunFailed, match="a process ended before its run did"):
        performing._check_done(ended, run.name, tmp_path)
