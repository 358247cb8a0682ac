"""What a model that is to be exported must be, before anything is compared with it."""

import jax
import numpy as np
import pytest
from exports import pixels
from support import exportable

from distill.export.model import ExportMismatch
from distill.export.verify import Samples, Verifier


def test_a_model_whose_outputs_are_not_numbers_is_refused():
    model = exportable()
    broken = jax.tree.map(lambda p: p * np.nan, model.params)
    model = type(model)(**{**vars(model), "params": broken})
    with pytest.raises(ExportMismatch, match="of the model is not finite for image 0 of random"):
        _ = Verifier(model, Samples({"images": pixels(3)})).expected


def test_images_without_a_label_do_not_count_in_the_accuracy():
    model, images = exportable(), pixels(6)
    right = Verifier(model, Samples({"images": images})).expected["logits"].argmax(-1)
    labels = np.where(np.arange(6) < 2, -1, right)
    labels[5] = (right[5] + 1) % 5
    assert Verifier(model, Samples({"images": images}, labels)).accuracy == 3 / 4
    assert Verifier(model, Samples({"images": images}, np.full(6, -1))).accuracy is None
