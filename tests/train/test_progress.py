"""What a person reads of a run while it runs."""

import re

import pytest

from distill.losses import known_terms
from distill.terminal import TERMINAL
from distill.train.progress import (
    Progress,
    _fitted,
    _Part,
    format_figure,
    format_headline,
    format_seconds,
    format_steps,
    short_name,
)

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.5, "1:00"),
        (3 * MINUTE + 20, "3:20"),
        (HOUR - 0.6, "59:59"),
        (HOUR - 0.4, "1:00:00"),
        (2 * HOUR + 5 * MINUTE, "2:05:00"),
        (DAY - 1, "23:59:59"),
        (DAY - 0.1, "1d 0h"),
        (3 * DAY + 4 * HOUR + 59 * MINUTE, "3d 4h"),
        (400 * DAY + 23 * HOUR, "400d 23h"),
    ],
)
def test_durations_are_read_in_their_own_units(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    "step, total, text",
    [
        (1, 10, "1/10 (10%)"),
        (500, 9999, "500/9,999 (5%)"),
        (12_345, 1_200_000, "12,345/1,200,000 (1.0%)"),
        (1_199_999, 1_200_000, "1,199,999/1,200,000 (99.9%)"),
        (1_200_000, 1_200_000, "1,200,000/1,200,000 (100.0%)"),
        (999, 1000, "999/1,000 (99%)"),
        (29, 100, "29/100 (29%)"),
    ],
)
def test_steps_of_long_runs_can_be_read(step, total, text):
    assert format_steps(step, total) == text


ROW = {"train/loss": 0.12345, "train/images_per_second": 40960.4, "train/data_wait": 0.034}


def test_a_line_tells_how_far_it_is_and_what_is_left(capsys):
    line = Progress("distill", 1_200_000, lambda step: (1_200_000 - step) / 4)
    line.show(204_000, {"student": ROW})
    assert capsys.readouterr().err == (
        "distill 204,000/1,200,000 (17.0%)  loss 0.1235  40,960 images/s  data wait 3%  "
        "ETA 2d 21h\n"
    )


def test_several_terms_are_told_as_what_they_add_to_the_loss(capsys):
    weights = {"kl": 0.5, "embedding_cosine": 2.0, "tokens_gram": 1e-4}
    terms = {"train/kl": 0.1, "train/embedding_cosine": 0.03, "train/tokens_gram": 0.5}
    line = Progress("distill", 10, lambda step: 0, {"a": weights, "b": {"kl": 1.0}})
    line.show(5, {"a": ROW | terms})
    told = "loss 0.1235  kl 0.0500  emb_cos 0.0600  tok_gram 5.0e-05  40,960"
    assert told in capsys.readouterr().err
    line.show(5, {"b": ROW | {"train/kl": 0.1}})
    assert "loss 0.1235  40,960" in capsys.readouterr().err
    line.show(5, {"a": ROW | terms, "b": ROW})
    assert "a 0.1235  kl 0.0500  emb_cos 0.0600  tok_gram 5.0e-05  b 0.1235  40,960" in (
        capsys.readouterr().err
    )


def test_short_names_tell_all_terms_apart():
    short = [short_name(term) for term in known_terms()]
    assert len(set(short)) == len(short)
    assert all(len(one) <= 13 for one in short)


@pytest.mark.parametrize(
    "scores, wanted, told",
    [
        (
            {"val/accuracy": 0.9, "val/top5_accuracy": 1, "val/agreement": 0.8, "val/cka": 0.7},
            None,
            "val/accuracy 0.9000  val/agreement 0.8000",
        ),
        (
            {"val/accuracy": 0.9, "val/top5_accuracy": 1, "view/kl": 0.5, "view/cka": 0.25},
            "val/top5_accuracy",
            "val/accuracy 0.9000  val/top5_accuracy 1.0000  view/kl 0.5000",
        ),
        ({"fewshot/5": 0.5, "fewshot/5/seed0": 0.4}, None, "fewshot/5 0.5000"),
        ({}, None, ""),
    ],
)
def test_of_an_evaluation_what_matters_is_told(scores, wanted, told):
    assert format_headline(scores, wanted) == told


def test_figures_are_read_as_people_write_them():
    assert format_figure("val/kl", 0.04281) == "0.0428"
    assert format_figure("probe/l2", 1e-5) == "1.0e-05"
    assert format_figure("parameters", 1_234_567) == "1,234,567"


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (80, "pretrain  ━━━━━━━━━━  50/600 (8%)  loss 2.1000  900 images/s  ETA 12s"),
        (60, "pretrain  ━━━━━━━━━━  50/600 (8%)  loss 2.1000  ETA 12s"),
        (45, "pretrain  50/600 (8%)  loss 2.1000  ETA 12s"),
        (40, "pretrain  50/600 (8%)  loss 2.1000"),
    ],
)
def test_a_narrow_terminal_keeps_what_matters(width, shown, monkeypatch):
    monkeypatch.setattr(TERMINAL, "can_show", lambda text: True)
    parts = [_Part("50/600 (8%)"), _Part("loss 2.1000"), _Part("900 images/s", 3)]
    line = _fitted("pretrain", 1.0, [*parts, _Part("ETA 12s", 1)], width)
    assert re.sub(r"━+", "━" * 10, line) == shown
