"""What keeps a model from a format is said, before anything is written."""

import dataclasses
import datetime
import importlib.util

import jax
import pytest
from exports import verifier
from support import exportable as model

from distill.errors import UserError
from distill.export import model as export_model
from distill.export import stablehlo
from distill.export.images import ImageExportable
from distill.export.model import ExportFailed
from distill.export.versions import check_format, export_version, obstacles
from teachers import vit_22b


@pytest.mark.parametrize(
    ("form", "head"), [("hf", "cls"), ("timm", "cls"), ("hf", "map"), ("timm", "map")]
)
def test_what_a_format_cannot_express_is_named(form, head):
    network = vit_22b.build(
        vit_22b.configure("22B/4", width=16, depth=1, heads=2, mlp_dim=32, image_size=8, head=head)
    )
    foreign = ImageExportable(
        network=network, params=network.init(jax.random.key(0)), class_names=[]
    )
    with pytest.raises(UserError, match=r"qk_norm=True, norm_center=False.*parallel=True") as error:
        check_format(form, foreign)
    assert ("head='map' (it has cls)" in str(error.value)) == ((form, head) == ("hf", "map"))
    assert "Those that can, in float32: saved_model, stablehlo, tflite, " in str(error.value)


@pytest.mark.parametrize("head", ["map", "gap"])
def test_heads_that_hugging_face_has_not_are_refused(head):
    with pytest.raises(UserError, match=rf"head='{head}' \(it has cls\)"):
        check_format("hf", model(head))


def test_a_plain_student_can_be_exported_everywhere():
    assert obstacles(model("cls").network) == {}


@pytest.mark.parametrize("form", ["tflite", "tflite_float32", "tflite_int8", "onnx"])
def test_dtypes_that_a_format_has_not_are_refused(form):
    with pytest.raises(UserError, match="not in bfloat16"):
        check_format(form, model(dtype="bfloat16"))


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exported = model()
    with pytest.raises(UserError, match=r"onnxruntime, which is not installed: pip install"):
        export_version(exported, "onnx", tmp_path / "out", verifier(exported))
    assert not (tmp_path / "out").exists()


def test_files_that_would_be_too_large_are_refused(monkeypatch):
    student = model()
    count = student.network.parameter_count()
    monkeypatch.setattr(export_model, "FLATBUFFER_BYTES", 4 * count)
    found = obstacles(student.network)
    assert list(found) == ["stablehlo", "tflite", "tflite_float32"]
    size = f"holds less than {4 * count:,} bytes, and the parameters have {4 * count:,}"
    assert all(size in obstacle for obstacle in found.values())
    assert found["stablehlo"].endswith("; with --dtype=bfloat16 they fit")
    monkeypatch.setattr(export_model, "FLATBUFFER_BYTES", count)
    assert obstacles(student.network).keys() == {*found, "tflite_int8"}
    assert "stablehlo" in obstacles(student.network, "bfloat16")
    monkeypatch.setattr(export_model, "FLATBUFFER_BYTES", 4 * count + 1)
    assert obstacles(student.network) == {}


@pytest.mark.parametrize(
    ("written", "until"),
    [
        ("2026-11-28", "2027-05-28"),
        ("2026-06-30", "2026-12-30"),
        ("2026-08-31", "2027-02-28"),
        ("2027-08-31", "2028-02-29"),
    ],
)
def test_jax_promises_to_read_a_file_for_six_months(written, until):
    assert str(stablehlo.promised_until(datetime.date.fromisoformat(written))) == until


def test_what_a_converter_raises_is_a_failure_of_its_export(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise NotImplementedError("no plugin for the primitive")

    monkeypatch.setattr(jax.export, "export", refuse)
    with pytest.raises(ExportFailed, match=r"the StableHLO export cannot be written: .*no plugin"):
        stablehlo.write(model(), tmp_path / "out")


@pytest.mark.parametrize("form", ["hf", "timm"])
@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"registers": 2}, "registers=2"),
        ({"position_embedding": "rotary"}, "position_embedding='rotary'"),
        ({"gated": True}, "gated=True"),
        ({"layer_scale": True}, "layer_scale=True"),
    ],
)
def test_choices_of_published_models_are_refused_where_a_plain_transformer_is_asked_for(
    form, choice, message
):
    network = model("cls").network
    config = dataclasses.replace(network.config, **choice)
    foreign = ImageExportable(network=config.build(), params={}, class_names=[])
    with pytest.raises(UserError, match=f"a plain one, without {message}"):
        check_format(form, foreign)
