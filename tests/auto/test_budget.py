"""How long a run may be, from a text to steps."""

import pytest

from distill.auto.budget import Budget, read_budget
from distill.errors import UserError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("30m", Budget(seconds=1800)),
        ("1h30m", Budget(seconds=5400)),
        ("90s", Budget(seconds=90)),
        ("0.5h", Budget(seconds=1800)),
        ("2d", Budget(seconds=172800)),
        ("20epochs", Budget(epochs=20)),
        ("1 epoch", Budget(epochs=1)),
        ("0.5epochs", Budget(epochs=0.5)),
        ("50000images", Budget(images=50000)),
        ("50_000 images", Budget(images=50000)),
        ("50,000images", Budget(images=50000)),
        ("800steps", Budget(steps=800)),
        ("2 hours", Budget(seconds=7200)),
        ("1h 30 min", Budget(seconds=5400)),
    ],
)
def test_budgets_are_read(text, budget):
    assert read_budget(text) == budget


@pytest.mark.parametrize(
    "text", ["", "30", "30 minuets", "0m", "0epochs", "-5m", "m", "1.5images", "20epoch5", "1h 30"]
)
def test_what_is_no_budget_is_refused_with_examples(text):
    with pytest.raises(UserError, match=r"such as 90s, 30m, 2h or 1h30m.*20epochs"):
        read_budget(text)


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        # 10 s of 100 are spare, and a step takes 0.5 s.
        (Budget(seconds=100), 180),
        (Budget(seconds=5), 1),
        (Budget(steps=7), 7),
        # 100 images in batches of 8 are 12.5 batches.
        (Budget(epochs=3), 37),
        (Budget(images=81), 10),
        (Budget(seconds=100, most_epochs=2), 25),
        (Budget(seconds=100, most_epochs=200), 180),
    ],
)
def test_a_budget_is_so_many_steps(budget, steps):
    assert budget.length(0.5, 8, 100, spare=10) == steps
