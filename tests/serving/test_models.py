"""Models by their paths, each in its own runtime, on the same image files."""

import jax
import numpy as np
import pytest
import small_photos
from published import big_vision_arrays
from support import exportable

from distill.analysis.prediction_files import read_predictions
from distill.errors import Damaged, UserError
from distill.evaluate.of_images import OfImagesConfig
from distill.evaluation_view import EvaluationView
from distill.export import timm
from distill.export.verify import AGREEMENT, Checked
from distill.export.versions import export_version
from distill.runs.predicted import predict
from distill.serving.images import Shown, list_images, read_views
from distill.serving.loading import load_model

VIEW = EvaluationView(crop=0.75, filter="bicubic", resize="squash")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Image files, one of which cannot be decoded, and what JAX makes of the others."""
    return small_photos.flat(tmp_path_factory.mktemp("photos") / "flat", 6, damaged=1)


def written(model, form, directory):
    """A version that is not compared with JAX here."""

    def unchecked(artefact):
        return Checked(artefact.name, 0, 0.0, 1.0, None, {})

    return export_version(model, form, directory, unchecked, {"step": 7}).path


def in_jax(model, files):
    """What JAX makes of files, as they are to be shown."""
    shown = Shown(12, 3, model.view)
    views = [v.pixels for v in read_views(list_images(files), shown) if v.pixels is not None]
    with jax.default_matmul_precision("highest"):
        return jax.device_get(jax.jit(model.function())(model.params, np.stack(views)))


@pytest.mark.parametrize(
    ("form", "needs"),
    [
        ("stablehlo", "jax"),
        ("saved_model", "tensorflow"),
        pytest.param("tflite", "tensorflow", marks=pytest.mark.slow),
        ("onnx", "jax2onnx"),
        pytest.param("hf", "transformers", marks=pytest.mark.slow),
        pytest.param("timm", "timm_without_torchvision", marks=pytest.mark.slow),
    ],
)
def test_an_export_says_what_jax_says(form, needs, photos, tmp_path, capsys, monkeypatch):
    pytest.importorskip(needs)
    # What writes its files needs no torchvision.
    monkeypatch.setattr(timm, "require", lambda *names: None)
    model = exportable(view=VIEW)
    path = written(model, form, tmp_path / form)
    expected = in_jax(model, photos)
    found = load_model(str(path)).predict(photos)
    assert len(found) == 5 and list(found.unreadable) == [str(photos / "000.jpg")]
    assert found.class_names == tuple(f"class {n}" for n in range(5))
    for name in ("logits", "probabilities", "embedding"):
        np.testing.assert_allclose(getattr(found, name), expected[name], atol=1e-4, rtol=0)
    assert "left out" in capsys.readouterr().err
    # The newest version in the directory of all.
    assert load_model(str(tmp_path / form)).place == path


@pytest.mark.slow
def test_eight_bits_prefer_the_same_classes(photos, tmp_path):
    pytest.importorskip("tensorflow")
    model = exportable(view=VIEW)
    path = written(model, "tflite", tmp_path)
    found = load_model(str(path / "model_int8.tflite")).predict(photos)
    expected = in_jax(model, photos)["logits"]
    assert np.mean(found.logits.argmax(-1) == expected.argmax(-1)) >= AGREEMENT
    assert not np.array_equal(found.logits, expected)


def test_how_images_are_shown_is_read_of_the_export(tmp_path):
    view = EvaluationView(crop=0.6, resize="shortest", filter="lanczos", unseen=1, rounding="even")
    path = written(exportable(view=view, channels=1), "stablehlo", tmp_path)
    assert load_model(str(path)).shown == Shown(12, 1, view)


def test_a_model_without_classes_has_embeddings(photos, tmp_path):
    model = exportable(view=VIEW, num_classes=0)
    opened = load_model(str(written(model, "stablehlo", tmp_path)))
    assert opened.class_names == ()
    embedding = in_jax(model, photos)["embedding"]
    np.testing.assert_allclose(opened.embed(photos), embedding, atol=1e-5)
    with pytest.raises(UserError, match="has embeddings alone"):
        opened.evaluate("digits")


def test_a_run_says_of_files_what_it_says_of_its_split(teacher_workdir, tmp_path):
    images = OfImagesConfig(split="test")
    expected = read_predictions(predict(teacher_workdir, images, tmp_path / "p.npz"))
    from distill.data import open_source

    source = open_source("digits", "test", channels=1)
    arrays = [np.asarray(source.read(n)["image"]) for n in range(20)]
    model = load_model(str(teacher_workdir))
    found = model.predict(arrays, batch_size=7)
    np.testing.assert_allclose(found.logits, expected.scores[:20], atol=1e-5)
    # It was trained by a sigmoid for each class.
    np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(-found.logits)), atol=1e-6)
    assert found.names[:3] == ("0", "1", "2") and found.class_names == tuple("0123456789")
    assert "it sees" in repr(model)


def test_published_weights_are_loaded_and_evaluated(photos, tmp_path, capsys):
    np.savez(tmp_path / "vit.npz", **big_vision_arrays("original", "cls", classes=3))
    model = load_model(str(tmp_path / "vit.npz"), image_size=16)
    assert model.shown.size == 16 and model.embed(photos).shape == (5, 24)
    with pytest.raises(UserError, match="come without data; name some"):
        model.evaluate()
    with pytest.raises(UserError, match="say output"):
        model.export()
    data = small_photos.in_classes(tmp_path / "photos", 3)
    with pytest.raises(UserError, match="holds images without labels"):
        model.evaluate(str(photos))
    assert 0 <= model.evaluate(str(data))["data/accuracy"] <= 1


def test_an_export_is_evaluated_in_its_own_runtime(tmp_path):
    model = exportable(view=VIEW, num_classes=3)
    names = [*small_photos.CLASSES[::-1]]
    object.__setattr__(model, "class_names", names)
    data = small_photos.in_classes(tmp_path / "photos", 4)
    opened = load_model(str(written(model, "stablehlo", tmp_path / "export")))
    answers = opened.predict(data)
    pairs = zip(answers.names, answers.classes, strict=True)
    right = [name.split("/")[-2] == found for name, found in pairs]
    assert opened.evaluate(str(data)) == {"data/accuracy": np.mean(right)}
    with pytest.raises(UserError, match="is an export already"):
        opened.export("onnx")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("google/vit-base", "hf download google/vit-base --local-dir=weights/vit-base"),
        ("nowhere", "give the workdir of a run, or published weights"),
    ],
)
def test_a_model_that_is_not_there_says_what_to_type(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load_model(path)


def test_exports_of_several_formats_have_to_be_named(tmp_path):
    for form in ("onnx", "stablehlo"):
        (tmp_path / form / "1").mkdir(parents=True)
        (tmp_path / form / "1" / "export.json").write_text("{}")
    with pytest.raises(UserError, match=r"several formats; name one: .*stablehlo, .*onnx"):
        load_model(str(tmp_path))


def test_images_none_of_which_can_be_decoded_are_refused(tmp_path):
    model = load_model(str(written(exportable(), "stablehlo", tmp_path / "export")))
    with pytest.raises(UserError, match="none of 2 images can be decoded"):
        model.predict(small_photos.flat(tmp_path / "flat", 2, damaged=2))


def test_an_export_that_is_not_what_was_written_is_refused(tmp_path):
    path = written(exportable(channels=1), "stablehlo", tmp_path)
    # People write on the card.
    card = path / "MODEL_CARD.md"
    card.write_text(card.read_text("utf-8") + "more", "utf-8")
    load_model(str(path))

    program = path / "model.jax_export"
    content = bytearray(program.read_bytes())
    content[len(content) // 2] ^= 1
    program.write_bytes(content)
    with pytest.raises(Damaged, match=r"(?s)model\.jax_export has the CRC-32 .*delete .*checksums"):
        load_model(str(path))
    with pytest.raises(Damaged, match="Export it again"):
        load_model(str(program))
    content[len(content) // 2] ^= 1
    program.write_bytes(content)
    (path / "class_names.json").unlink()
    with pytest.raises(Damaged, match=r"class_names\.json is gone"):
        load_model(str(path))
    # As exports of earlier versions have it.
    (path / "checksums.json").unlink()
    load_model(str(path))
