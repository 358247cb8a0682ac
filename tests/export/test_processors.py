"""What exports for PyTorch's libraries say of preprocessing does what an evaluation does."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image
from support import exportable

from distill.data.views import evaluation_view
from distill.evaluation_view import EvaluationView
from distill.export import hf, timm
from teachers.pretrained import open_published

PHOTOGRAPH = load_sample_image("china.jpg")[:301, :407]
VIEWS = [
    EvaluationView(),
    EvaluationView(crop=0.9, filter="bicubic"),
    EvaluationView(crop=1.0, filter="lanczos"),
    EvaluationView(crop=1.0, resize="squash", filter="bicubic"),
    EvaluationView(crop=0.8, resize="squash"),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_hugging_faces_processor_makes_what_an_evaluation_shows(tmp_path, view, channels):
    transformers = pytest.importorskip("transformers")
    model = exportable(channels=channels, view=view, mean=(0.4,), std=(0.2,))
    hf.write(model, tmp_path / "hf")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "hf", backend="pil")
    image = Image.fromarray(PHOTOGRAPH).convert("RGB" if channels == 3 else "L")
    options = {} if channels == 3 else {"input_data_format": "channels_last"}
    pixels = image if channels == 3 else np.asarray(image)[..., None]
    found = processor(pixels, return_tensors="np", **options)["pixel_values"]
    shown = evaluation_view(np.asarray(image).reshape(301, 407, channels), 12, view)
    wanted = np.asarray(model.network.prepare(shown[None]))
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), wanted, atol=1e-5)


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("form", [hf, timm], ids=["hf", "timm"])
def test_a_model_that_comes_back_is_shown_what_it_was_shown(tmp_path, form, view):
    model = exportable(view=view, mean=(0.4, 0.3, 0.2), std=(0.2,))
    form.write(model, tmp_path / "export")
    found = open_published(tmp_path / "export")
    for name in ("resize", "filter"):
        assert getattr(found.view, name) == getattr(view, name)
    # Of transformers' two whole numbers, the share may differ.
    assert found.view.resized(301, 407, 12) == view.resized(301, 407, 12)
    config = found.network.config
    assert config.image_size == 12
    np.testing.assert_allclose(config.mean, (0.4, 0.3, 0.2))
    np.testing.assert_allclose(config.std, (0.2, 0.2, 0.2))
