"""Every format is the model, in its own runtime, for whoever has only that."""

import dataclasses
import importlib.util
import json
import os

import jax
import numpy as np
import pytest
from exports import expected, pixels, runtimes_in_this_process, verifier
from support import exportable as model
from support import run_python

from distill.export import onnx, saved_model, timm
from distill.export.images import ImageExportable
from distill.export.versions import export_version

HEADS = {"stablehlo": "map", "tflite": "map", "onnx": "map", "hf": "cls"}
NEEDS = {"onnx": ("jax2onnx", "onnxruntime"), "hf": ("torch", "transformers")}


def runnable(form: str):
    absent = [name for name in NEEDS.get(form, ()) if importlib.util.find_spec(name) is None]
    return pytest.param(form, marks=pytest.mark.skipif(bool(absent), reason=f"needs {absent}"))


STABLEHLO = """
import json, pathlib, sys
sys.modules.update(dict.fromkeys(("distill", "flax", "tensorflow", "orbax")))
import jax, numpy as np
file = pathlib.Path(sys.argv[1]) / "model.jax_export"
model = jax.export.deserialize(bytearray(file.read_bytes()))
with np.load(sys.argv[2]) as images:
    np.savez(sys.argv[3], **{n: model.call(images[n])["logits"] for n in images})
print(json.dumps([model.platforms, [str(a) for a in model.in_avals]]))
"""

TFLITE = """
import json, sys
sys.modules.update(dict.fromkeys(("distill", "flax", "jax", "orbax")))
import numpy as np, tensorflow as tf
serve = tf.lite.Interpreter(sys.argv[1] + "/model.tflite").get_signature_runner("serving_default")
with np.load(sys.argv[2]) as images:
    np.savez(sys.argv[3], **{n: serve(images=images[n])["logits"] for n in images})
print(json.dumps([sorted(serve.get_input_details()), sorted(serve.get_output_details())]))
"""

ONNX = """
import json, sys
sys.modules.update(dict.fromkeys(("distill", "flax", "jax", "tensorflow", "orbax")))
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx")
with np.load(sys.argv[2]) as images:
    answers = {n: session.run(["logits"], {"images": images[n]})[0] for n in images}
np.savez(sys.argv[3], **answers)
print(json.dumps([json.loads(session.get_modelmeta().custom_metadata_map["class_names"])]))
"""

HF = """
import json, sys
sys.modules.update(dict.fromkeys(("distill", "flax", "jax", "tensorflow", "orbax")))
import numpy as np, torch
from transformers import AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained(sys.argv[1]).eval()
with np.load(sys.argv[2]) as images, torch.inference_mode():
    floats = {n: images[n].transpose(0, 3, 1, 2) / np.float32(127.5) - 1 for n in images}
    answers = {n: model(torch.from_numpy(x)).logits for n, x in floats.items()}
    np.savez(sys.argv[3], **{n: x.numpy() for n, x in answers.items()})
print(json.dumps([type(model).__name__, list(model.config.id2label.values())]))
"""

CLASSES = [f"class {number}" for number in range(5)]
SAID = {
    "stablehlo": (STABLEHLO, [["cpu", "cuda", "tpu"], ["uint8[batch,12,12,3]"]]),
    "tflite": (TFLITE, [["images"], ["embedding", "logits", "probabilities"]]),
    "onnx": (ONNX, [CLASSES]),
    "hf": (HF, ["ViTForImageClassification", CLASSES]),
}


@pytest.fixture(scope="module")
def wide():
    """Large enough for its products to be most of its bytes."""
    return model("map", width=64, mlp_dim=256)


@pytest.fixture(scope="module")
def both_tflites(wide, tmp_path_factory):
    """The wide model, in float32 and in int8."""
    with runtimes_in_this_process():
        return export_version(
            wide, "tflite", tmp_path_factory.mktemp("tflite"), verifier(wide, 100)
        )


@pytest.mark.slow
@pytest.mark.parametrize("form", [runnable(form) for form in HEADS])
def test_an_export_runs_without_this_project(form, tmp_path, request):
    if form == "tflite":
        exported, version = map(request.getfixturevalue, ("wide", "both_tflites"))
    else:
        exported = model(HEADS[form])
        version = export_version(exported, form, tmp_path / "out", verifier(exported))
    assert version.path.name == "1"
    assert version.checked[0].difference <= 1e-4

    script, said = SAID[form]
    images = {str(size): pixels(size) for size in (1, 3, 33)}
    np.savez(tmp_path / "in.npz", **images)
    done = run_python(
        *("-I", "-c", script, version.path, tmp_path / "in.npz", tmp_path / "out.npz"),
        env=os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == said
    with np.load(tmp_path / "out.npz") as outputs:
        for size, batch in images.items():
            logits = expected(exported, batch).logits
            np.testing.assert_allclose(outputs[size], logits, atol=1e-4)
    card = (version.path / "MODEL_CARD.md").read_text()
    assert card.startswith("---\nlicense:")
    assert "12×12, 3 channels" in card
    described = json.loads((version.path / "export.json").read_text())
    assert described["format"] == form
    assert [one["name"] for one in described["checked"]] == [one.name for one in version.checked]


@pytest.mark.slow
def test_int8_is_smaller_and_prefers_the_same_classes(both_tflites):
    whole, int8 = both_tflites.checked
    # Weights of 1 byte in place of 4, but for what is not a product.
    assert int8.bytes < 0.5 * whole.bytes
    assert int8.difference > whole.difference
    assert int8.agreement >= 0.99


def with_an_outlier(exported: ImageExportable) -> ImageExportable:
    """The same function, one channel of which is a thousand times larger on its way."""
    params = jax.tree.map(np.array, exported.params)
    blocks = params["encoder"]["blocks"]
    for norm, kernels in {
        "attention_norm": [blocks["attention"][name] for name in ("query", "key", "value")],
        "mlp_norm": [blocks["mlp"]["input"]],
    }.items():
        for parameter in blocks[norm].values():
            parameter[:, 3] *= 1000
        for one in kernels:
            one["kernel"][:, 3] /= 1000
    return dataclasses.replace(exported, params=params)


@pytest.mark.slow
@pytest.mark.usefixtures("runtimes_in_this_process")
def test_an_int8_that_is_another_model_is_left_out_and_float32_is_there(tmp_path):
    exported = with_an_outlier(model("map", width=64, mlp_dim=256))
    version = export_version(exported, "tflite", tmp_path, verifier(exported))
    assert [one.name for one in version.checked] == ["TFLite"]
    (error,) = version.failed
    assert "the TFLite int8 export agrees with JAX on" in str(error)
    assert (version.path / "model.tflite").exists()
    assert not (version.path / "model_int8.tflite").exists()
    card = (version.path / "MODEL_CARD.md").read_text()
    assert "`model.tflite` (float32) with any" in card and "model_int8" not in card


@pytest.mark.slow
@pytest.mark.usefixtures("runtimes_in_this_process")
@pytest.mark.parametrize(
    ("form", "file", "exact"),
    [("tflite_float32", "model.tflite", True), ("tflite_int8", "model_int8.tflite", False)],
)
def test_one_tflite_can_be_had_without_the_other(form, file, exact, tmp_path):
    exported = model("map")
    version = export_version(exported, form, tmp_path, verifier(exported))
    assert [path.name for path in version.path.glob("*.tflite")] == [file]
    assert (version.path / "class_names.txt").read_text().split("\n")[0] == "class 0"
    assert (version.checked[0].difference <= 1e-4) == exact


@pytest.mark.slow
@pytest.mark.parametrize("form", [runnable("onnx")])
def test_onnx_holds_the_weights_once(form, tmp_path):
    import onnx as reader

    # One of its tensors has more than a megabyte.
    exported = model("map", width=64, mlp_dim=4200)
    onnx.write(exported, tmp_path / "out")
    (file,) = (tmp_path / "out").iterdir()
    size = 4 * exported.network.parameter_count()
    assert size < file.stat().st_size < 1.2 * size
    written = reader.load(file)
    assert [one.version for one in written.opset_import] == [onnx.OPSET] == [18]
    # That of ONNX 1.13, which ONNX Runtime 1.14 reads.
    assert written.ir_version == 8
    assert "Loop" not in {node.op_type for node in written.graph.node}


@pytest.mark.slow
@pytest.mark.usefixtures("runtimes_in_this_process")
@pytest.mark.parametrize("form", [runnable("onnx")])
def test_onnx_of_a_model_too_large_for_its_file_has_its_weights_beside_it(
    form, tmp_path, monkeypatch
):
    monkeypatch.setattr(onnx, "_MOST_BYTES", 100_000)
    exported = model("map")
    version = export_version(exported, form, tmp_path, verifier(exported))
    graph, weights = (version.path / name for name in (onnx.FILE, onnx.WEIGHTS))
    assert graph.stat().st_size < 50_000 < 4 * exported.network.parameter_count()
    assert version.checked[0].bytes == graph.stat().st_size + weights.stat().st_size
    assert version.checked[0].difference <= 1e-4
    described = json.loads((version.path / "export.json").read_text())
    assert described["requires"] == {"opset": 18, "onnxruntime": ">=1.14"}
    assert "It needs opset 18, onnxruntime >=1.14." in (version.path / "MODEL_CARD.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("runtimes_in_this_process")
@pytest.mark.parametrize("form", [runnable("stablehlo"), runnable("hf")])
def test_bfloat16_is_half_the_size(form, tmp_path):
    exported = model("cls", width=64, mlp_dim=256)
    half = dataclasses.replace(exported, dtype="bfloat16")
    checked = export_version(half, form, tmp_path, verifier(exported)).checked[0]
    # Anything in float32 takes four bytes a parameter at least.
    assert checked.bytes < 0.6 * 4 * exported.network.parameter_count()
    assert 1e-4 < checked.difference < 0.3


@pytest.mark.slow
@pytest.mark.usefixtures("runtimes_in_this_process")
@pytest.mark.parametrize("form", [runnable("stablehlo"), runnable("hf")])
def test_a_student_without_classes_exports_its_embedding(form, tmp_path):
    exported = model("cls", num_classes=0)
    checked = export_version(exported, form, tmp_path, verifier(exported)).checked[0]
    assert checked.difference <= 1e-4
    assert checked.accuracy is None


@pytest.mark.slow
@pytest.mark.usefixtures("runtimes_in_this_process")
@pytest.mark.parametrize("form", [runnable("hf")])
@pytest.mark.parametrize(
    "choices",
    [
        dict(channels=1, qkv_bias=False),
        dict(
            position_embedding="sincos2d",
            norm_bias=False,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
    ],
)
def test_hugging_face_takes_every_plain_student(form, choices, tmp_path):
    exported = model("cls", **choices)
    version = export_version(exported, form, tmp_path, verifier(exported))
    assert version.checked[0].difference <= 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("runtimes_in_this_process")
@pytest.mark.parametrize(
    ("head", "choices"),
    [("map", {}), ("gap", dict(channels=1)), ("cls", dict(position_embedding="sincos2d"))],
)
def test_timm_takes_every_head(head, choices, tmp_path, monkeypatch):
    pytest.importorskip("timm_without_torchvision")
    monkeypatch.setattr(timm, "require", lambda *names: None)
    exported = model(head, **choices)
    version = export_version(exported, "timm", tmp_path, verifier(exported))
    assert version.checked[0].difference <= 1e-4


def test_timms_names_and_shapes():
    # As timm 1.0.31 names them in vit_base_patch16_siglip_224, at this size.
    found = timm.tensors(model("map"))
    assert {name: tensor.shape for name, tensor in found.items() if "blocks.1" not in name} == {
        "pos_embed": (1, 9, 32),
        "patch_embed.proj.weight": (32, 3, 4, 4),
        "patch_embed.proj.bias": (32,),
        "blocks.0.norm1.weight": (32,),
        "blocks.0.norm1.bias": (32,),
        "blocks.0.attn.qkv.weight": (96, 32),
        "blocks.0.attn.qkv.bias": (96,),
        "blocks.0.attn.proj.weight": (32, 32),
        "blocks.0.attn.proj.bias": (32,),
        "blocks.0.norm2.weight": (32,),
        "blocks.0.norm2.bias": (32,),
        "blocks.0.mlp.fc1.weight": (128, 32),
        "blocks.0.mlp.fc1.bias": (128,),
        "blocks.0.mlp.fc2.weight": (32, 128),
        "blocks.0.mlp.fc2.bias": (32,),
        "norm.weight": (32,),
        "norm.bias": (32,),
        "attn_pool.latent": (1, 1, 32),
        "attn_pool.q.weight": (32, 32),
        "attn_pool.q.bias": (32,),
        "attn_pool.kv.weight": (64, 32),
        "attn_pool.kv.bias": (64,),
        "attn_pool.proj.weight": (32, 32),
        "attn_pool.proj.bias": (32,),
        "attn_pool.norm.weight": (32,),
        "attn_pool.norm.bias": (32,),
        "attn_pool.mlp.fc1.weight": (128, 32),
        "attn_pool.mlp.fc1.bias": (128,),
        "attn_pool.mlp.fc2.weight": (32, 128),
        "attn_pool.mlp.fc2.bias": (32,),
        "head.weight": (5, 32),
        "head.bias": (5,),
    }


@pytest.mark.slow
def test_the_warm_up_request_is_one_that_tf_serving_reads(tmp_path):
    import tensorflow as tf
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from tensorflow.core.framework import tensor_pb2

    file = tmp_path / "requests"
    images = pixels(2)
    saved_model.write_warmup(file, {"images": images})
    # The messages of tensorflow_serving/apis: prediction_log, predict and model, as far as used.
    text = descriptor_pb2.FieldDescriptorProto
    declared = descriptor_pb2.FileDescriptorProto(name="warmup.proto", package="t", syntax="proto3")
    for name, fields in {
        "ModelSpec": [("name", 1, None), ("signature_name", 3, None)],
        "PredictRequest": [("model_spec", 1, "ModelSpec"), ("inputs", 2, "Entry")],
        "Entry": [("key", 1, None), ("value", 2, bytes)],
        "PredictLog": [("request", 1, "PredictRequest")],
        "PredictionLog": [("predict_log", 6, "PredictLog")],
    }.items():
        message = declared.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number, label=text.LABEL_OPTIONAL)
            added.type = text.TYPE_STRING if kind is None else text.TYPE_BYTES
            if isinstance(kind, str):
                added.type, added.type_name = text.TYPE_MESSAGE, f".t.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(declared)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.PredictionLog"))
    (record,) = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    request = kind.FromString(record).predict_log.request
    assert request.model_spec.signature_name == "serving_default"
    assert request.inputs.key == "images"
    tensor = tf.make_ndarray(tensor_pb2.TensorProto.FromString(request.inputs.value))
    np.testing.assert_array_equal(tensor, images)
