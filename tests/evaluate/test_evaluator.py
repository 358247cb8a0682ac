"""What an evaluator counts, leaves out, refuses and says, whatever the batches."""

from unittest.mock import Mock

import jax
import numpy as np
import pytest

from distill.errors import RunFailed
from distill.evaluate import Evaluator
from distill.metrics import ConfusionMatrix, LinearCKA, Mean, label_metrics
from distill.parallel import IN_FLIGHT, in_flight

COUNT, CLASSES = 103, 7
LABEL_METRICS = ["accuracy", "calibration_error", "cross_entropy", "top5_accuracy"]


class Batches:
    """Goes over examples in batches of a size, padded with what would spoil every metric."""

    def __init__(self, examples, size):
        self.source = Mock(describe="image {}".format)
        self._examples, self._size = examples, size

    def __iter__(self):
        count = len(self._examples["label"])
        for start in range(0, count, self._size):
            rows = np.arange(start, start + self._size)
            there = rows < count
            yield {
                name: np.where(there.reshape(-1, *[1] * (x.ndim - 1)), x[rows % count], spoilt)
                for name, x, spoilt in (
                    ("logits", self._examples["logits"], np.nan),
                    ("other", self._examples["other"], np.nan),
                    ("label", self._examples["label"], 0),
                    ("mask", self._examples["mask"], False),
                    ("index", np.arange(count), -1),
                )
            }


def per_example(params, frozen, batch):
    logits, where = batch["logits"], batch["mask"]
    return label_metrics(logits, batch["label"], where=where) | {
        "agreement": Mean.of(logits.argmax(-1) == batch["other"].argmax(-1), where),
        "cka": LinearCKA.of(logits, batch["other"], where),
    }


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    return {
        "logits": (3 * rng.standard_normal((COUNT, CLASSES))).astype(np.float32),
        "other": rng.standard_normal((COUNT, CLASSES)).astype(np.float32),
        "label": rng.integers(0, CLASSES, COUNT),
        "mask": np.ones(COUNT, bool),
    }


def evaluate(examples, size=16):
    evaluator = Evaluator("val", Batches(examples, size), per_example)
    return evaluator, evaluator({})


def some(examples, rows):
    return {name: array[rows] for name, array in examples.items()}


def test_metrics_do_not_depend_on_how_images_are_batched(examples):
    _, expected = evaluate(examples, COUNT)
    assert list(expected) == [
        f"val/{name}" for name in sorted([*LABEL_METRICS, "agreement", "cka"])
    ]
    for size in (1, 3, 64, 200):
        evaluator, found = evaluate(examples, size)
        assert found == pytest.approx(expected, rel=2e-6)
        assert evaluator.counted == COUNT
        # Of counts there is no rounding.
        for name in ("val/accuracy", "val/top5_accuracy", "val/agreement"):
            assert found[name] == expected[name]


def test_a_metric_of_several_figures_says_what_there_is(examples, caplog):
    names = tuple("abcdefgh")

    def measured(params, frozen, batch):
        predictions = batch["logits"].argmax(-1)
        found = ConfusionMatrix.of(predictions, batch["label"], batch["mask"], names, "a label")
        return {"per_class": found}

    def evaluated(size):
        evaluator = Evaluator("val", Batches(examples, size), measured)
        return evaluator, evaluator({})

    # No image shows the class h.
    evaluator, found = evaluated(16)
    assert evaluator.missing == {"val/per_class/accuracy/h"}
    assert "val/per_class/accuracy/h missing: the images of val show nothing of it" in caplog.text
    right = examples["logits"].argmax(-1) == examples["label"]
    each = [right[examples["label"] == n].mean() for n in range(CLASSES)]
    assert [found[f"val/per_class/accuracy/{name}"] for name in names[:-1]] == each
    assert all(evaluated(size)[1] == found for size in (1, 64, 200))
    examples["label"][:] = -1
    evaluator, found = evaluated(16)
    assert found == {} and len(evaluator.missing) == len(names) + 2
    assert "val/per_class missing: none of 103 images has a label" in caplog.text


def test_sums_over_many_batches_lose_nothing():
    """Added in float32, 2²⁴ and a thousand ones are 2²⁴."""
    values = [2.0**24, *[1.0] * 1000]
    batches = [{"mask": np.ones(1, bool), "value": np.float32([v])} for v in values]
    mean = Evaluator("val", batches, lambda p, f, b: {"mean": Mean.of(b["value"], b["mask"])})
    assert mean({})["val/mean"] == sum(values) / len(values)


def test_images_that_cannot_be_decoded_do_not_count(examples):
    examples["mask"] = np.arange(COUNT) % 4 != 1
    evaluator, found = evaluate(examples)
    rows = np.flatnonzero(examples["mask"])
    _, expected = evaluate(some(examples, rows))
    assert found == pytest.approx(expected, rel=2e-6)
    assert evaluator.counted == len(rows)


def test_images_without_a_label_are_left_out_of_what_compares_with_labels(examples, caplog):
    examples["label"][10:22] = -1
    evaluator, found = evaluate(examples)
    labelled = np.flatnonzero(examples["label"] >= 0)
    _, alone = evaluate(some(examples, labelled))
    for name in LABEL_METRICS:
        assert found[f"val/{name}"] == pytest.approx(alone[f"val/{name}"], rel=2e-6)
        assert evaluator.counts[f"val/{name}"] == COUNT - 12
    both = examples["logits"].argmax(-1) == examples["other"].argmax(-1)
    assert found["val/agreement"] == both.mean()
    assert evaluator.counted == evaluator.counts["val/cka"] == COUNT
    listed = ", ".join(f"val/{name}" for name in LABEL_METRICS)
    expected = f"12 of 103 images of val lack a label: left out of {listed}"
    assert caplog.messages == [expected]
    evaluator({})
    assert caplog.messages == [expected]


def test_what_nothing_can_be_said_of_is_left_out_and_said(examples, caplog):
    examples["label"][:] = -1
    evaluator, found = evaluate(examples)
    assert list(found) == ["val/agreement", "val/cka"]
    assert evaluator.missing == {f"val/{name}" for name in LABEL_METRICS}
    [message] = caplog.messages
    assert message.endswith("val/top5_accuracy missing: none of 103 images has a label")


def test_where_every_image_is_corrupt_everything_is_missing(examples, caplog):
    examples["mask"][:] = False
    evaluator, found = evaluate(examples)
    assert found == {} and evaluator.counted == 0 and len(evaluator.missing) == 6
    [message] = caplog.messages
    assert message.endswith("val/top5_accuracy missing: no image of val can be decoded")


@pytest.mark.parametrize("size", [1, 16, 128])
@pytest.mark.parametrize("row", [0, 37, 102])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_refused_by_their_first_image(examples, row, size, value):
    examples["logits"][row:, 3] = value
    with pytest.raises(RunFailed, match=rf"val/cross_entropy.* of image {row} is not finite"):
        evaluate(examples, size)


def test_outputs_for_images_that_do_not_count_may_be_anything(examples):
    examples["mask"][5] = False
    examples["logits"][5] = np.nan
    assert np.isfinite(evaluate(examples)[1]["val/cross_entropy"])


@pytest.mark.parametrize("among", [(0, 2, 5), (6, 1, 2, 3, 4, 5), (4, 3)])
def test_classes_that_compete_are_as_a_model_of_these_classes_alone(examples, among):
    rng = np.random.default_rng(1)
    within = rng.integers(0, len(among), COUNT)
    sliced = examples | {"logits": examples["logits"][:, among], "label": within}

    def competing(params, frozen, batch):
        return label_metrics(batch["logits"], batch["label"], among, where=batch["mask"])

    whole = examples | {"label": np.asarray(among)[within]}
    found = Evaluator("val", Batches(whole, 16), competing)({})
    _, expected = evaluate(sliced)
    assert found == pytest.approx({name: expected[name] for name in found}, rel=2e-6)
    assert list(found) == [f"val/{name}" for name in LABEL_METRICS]
    # An image of another class is none that these could be right about.
    whole["label"][0] = next(c for c in range(CLASSES) if c not in among)
    one_less = Evaluator("val", Batches(whole, 16), competing)
    rest = Evaluator("val", Batches(some(whole, np.arange(1, COUNT)), 16), competing)
    assert one_less({}) == pytest.approx(rest({}), rel=2e-6)
    assert one_less.counts["val/accuracy"] == COUNT - 1 and one_less.counted == COUNT


def test_no_more_than_a_few_batches_are_handed_to_the_device_at_once(examples, monkeypatch):
    """Between two fetches one batch is dispatched, and never more than a few wait."""
    waiting, most = 0, []
    measure, fetch = Evaluator._measure, jax.device_get

    def dispatched(*args):
        nonlocal waiting
        waiting += 1
        most.append(waiting)
        return measure(*args)

    def fetched(value):
        nonlocal waiting
        waiting -= 1
        return fetch(value)

    monkeypatch.setattr(Evaluator, "_measure", dispatched)
    monkeypatch.setattr(jax, "device_get", fetched)
    evaluate(examples, size=4)
    assert len(most) == 26 and waiting == 0 and max(most) == IN_FLIGHT + 1


def test_what_is_dispatched_is_handed_on_in_order_and_not_all_at_once():
    dispatched = []

    def dispatch():
        for number in range(9):
            dispatched.append(number)
            yield number

    ahead = [len(dispatched) - number for number in in_flight(dispatch())]
    assert ahead == [3, 3, 3, 3, 3, 3, 3, 2, 1]
    assert list(in_flight(iter(()))) == []


def test_what_is_handed_on_is_done_whether_or_not_anybody_fetches_it(monkeypatch):
    """The caller need not wait for what it gets: that bounds how much runs at once."""
    done, running, most = [], 0, 0
    monkeypatch.setattr(jax, "block_until_ready", lambda one: done.append(one) or one)

    def dispatch():
        nonlocal running, most
        for number in range(9):
            running += 1
            most = max(most, running - len(done))
            yield number

    for number in in_flight(dispatch()):
        assert done[-1] == number
    assert done == list(range(9)) and most == IN_FLIGHT + 1
