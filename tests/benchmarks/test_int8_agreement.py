"""What is said of a model in int8 beside itself."""

import numpy as np

from benchmarks.int8_agreement import answers, compared, drawn, scenes


def test_a_model_beside_itself_and_beside_another():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(8, 5)), rng.normal(size=(8, 3))
    assert compared(exact, exact) == ("100.00%", "0.0e+00", "1.000000 (1.000000)")
    other = -exact[0], np.stack([exact[1][0], *-exact[1][1:]])
    agreement, kl, cosines = compared(other, exact)
    assert agreement == "0.00%" and float(kl) > 0.1
    assert cosines == "-0.750000 (-1.000000)"


def test_what_is_drawn_tells_images_apart_in_batches_of_any_size():
    network, params = drawn("mu/16", 32)
    images = scenes(5, 32)
    logits, embeddings = answers(network, params, images, 2)
    assert logits.shape == (5, 1000) and len({*logits.argmax(-1)}) > 1
    whole = answers(network, params, images, 5)
    np.testing.assert_allclose(logits, whole[0], atol=1e-5)
    np.testing.assert_allclose(embeddings, whole[1], atol=1e-5)
