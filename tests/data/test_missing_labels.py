"""Images without a label among those that a run trains on labels with."""

import numpy as np
import pytest
from support import Unlabelled

from distill.data import DataConfig, Splits, TrainLoader, open_source
from distill.data import labels as module
from distill.errors import RunFailed, UserError


class Records(Unlabelled):
    """Takes the place of TFDS: to read all labels is to read all records."""

    @property
    def labels(self):
        raise AssertionError("read every record")


@pytest.fixture(scope="module")
def digits():
    return open_source("digits", "train", channels=1)


def check(source):
    Splits(source, None, None).check_all_labelled("pre-training")


def test_a_label_that_is_missing_is_an_error_that_names_the_image(digits):
    check(digits)
    message = f"pre-training learns from labels, but {digits.describe(1001)} has none, as have 1"
    with pytest.raises(UserError, match=message):
        check(Unlabelled(digits, {1001, 1003}))


def test_of_records_a_spread_sample_is_read(digits, monkeypatch):
    monkeypatch.setattr(module, "TfdsSource", Records)
    looked_at = np.arange(256) * 1197 // 256
    check(Records(digits, np.setdiff1d(np.arange(1197), looked_at)))
    for place in (0, looked_at[17], looked_at[-1]):
        with pytest.raises(UserError, match=f"{digits.describe(place)} has none.*256 of its 1,197"):
            check(Records(digits, {place}))


@pytest.mark.parametrize("needs_labels", [True, False])
def test_a_batch_with_one_stops_a_run_that_needs_labels(digits, needs_labels):
    loader = TrainLoader(
        Unlabelled(digits, {700}),
        DataConfig(threads=1),
        size=4,
        batch_size=399,
        seed=0,
        put=lambda batch: batch,
        needs_labels=needs_labels,
    )
    try:
        if needs_labels:
            with pytest.raises(RunFailed, match=f"{digits.describe(700)} has no label"):
                [next(loader) for _ in range(3)]
        else:
            assert sum(np.sum(next(loader)["label"] < 0) for _ in range(3)) == 1
    finally:
        loader.close()
