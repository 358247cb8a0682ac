"""MODEL_CARD.md: what an exported model is, where it comes from and how good it is."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from distill.export.model import Exportable

_USE = {
    "saved_model": "`tf.saved_model.load(DIRECTORY).signatures['serving_default']`, or TensorFlow "
    "Serving with the directory that the version lies in as `--model_base_path`.",
    "stablehlo": "`jax.export.deserialize`, with JAX alone; README.md beside this file has the "
    "lines.",
    "tflite": "`model.tflite` (float32) or `model_int8.tflite` (8-bit weights) with any TensorFlow "
    "Lite interpreter, signature `serving_default`; the batch is free.",
    "onnx": "`onnxruntime.InferenceSession('model.onnx')`, input `images`; the metadata's "
    "`class_names` is a JSON list.",
    "hf": "`transformers.AutoModelForImageClassification.from_pretrained(DIRECTORY)` and "
    "`AutoImageProcessor.from_pretrained(DIRECTORY)`.",
    "timm": "`timm.create_model('local-dir:DIRECTORY', pretrained=True)`.",
}


def model_card(model: Exportable, description: Mapping[str, Any]) -> str:
    """The card, Markdown with the front matter that Hugging Face's hub reads.

    Args:
      model: the model.
      description: as export.json has it. Its `about` may hold `workdir`, `step`, `licence`, `data`,
        `model`, `recipe`, `metrics`, `teachers`, `start` and `branched_from`.
    """
    about, config = description["about"], model.network.config
    licence = about.get("licence") or "unknown"
    height, width, channels = model.image_shape
    student = {
        "model": _model(about.get("model")),
        "parameters": f"{model.network.parameter_count():,}",
        "shape": f"width {config.width}, depth {config.depth}, MLP {config.mlp_dim}, "
        f"{config.heads} heads, patches of {config.patch_size}×{config.patch_size}, head "
        f"`{config.head}`",
        "images": f"{height}×{width}, {channels} channel{'s' if channels > 1 else ''}, "
        f"(x/255 − mean)/std with mean {_numbers(config.mean)} and std {_numbers(config.std)}",
        "classes": config.num_classes or "none: it returns an embedding",
        "run": about.get("workdir"),
        "step": about.get("step"),
    }
    sections = [
        _front_matter(description, licence, bool(config.num_classes)),
        f"# {about.get('name', 'Model card')}",
        _list(student),
        "## How to use it",
        f"{_USE[description['format']]} Format `{description['format']}`, {description['dtype']}.",
        *_signature(description["signature"]),
        "## Where it comes from",
        _lineage(about),
        "## Data",
        _list(about.get("data")),
        "## Recipe",
        _list(about.get("recipe")),
        "## Metrics",
        "At the end of its training:",
        _list(about.get("metrics")),
        f"This export, run on {about.get('checked_on', 'random pixels')} and compared with JAX in "
        "float32 (worst difference of a logit, share of the images with the same first class); "
        "milliseconds of a batch on the CPU of the machine that exported it:",
        _table(description["checked"]),
        "## Licence",
        f"{licence}. "
        + ("Say it with `--licence=`. " if licence == "unknown" else "")
        + "What the data and the teachers' weights allow is for you to check.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(description: Mapping[str, Any], licence: str, classifies: bool) -> str:
    library = {"hf": "transformers", "timm": "timm", "saved_model": "tf-keras"}
    lines = [
        f"license: {json.dumps(licence)}",
        f"pipeline_tag: {'image-classification' if classifies else 'image-feature-extraction'}",
        "tags: [vision, knowledge-distillation]",
    ]
    if description["format"] in ("hf", "timm"):
        lines.append(f"library_name: {library[description['format']]}")
    return "\n".join(["---", *lines, "---"])


def _signature(signature: Mapping[str, Any] | None) -> Iterable[str]:
    if signature is None:
        return
    rows = [
        f"| {kind[:-1]} | `{name}` | {dtype} | {_shape(shape)} |"
        for kind in ("inputs", "outputs")
        for name, (dtype, shape) in signature[kind].items()
    ]
    yield "\n".join(["| | name | dtype | shape |", "|---|---|---|---|", *rows])


def _lineage(about: Mapping[str, Any]) -> str:
    lines = []
    for name, teacher in (about.get("teachers") or {}).items():
        what = _model(teacher.get("model"))
        fingerprint = teacher.get("fingerprint") or "not recorded"
        lines.append(
            f"- {'teacher' if name == 'teacher' else f'teacher {name}'}: {what}, "
            f"{teacher.get('source')}, fingerprint `{fingerprint}`"
        )
    if about.get("targets"):
        lines.append(f"- the teachers' answers were replayed from {about['targets']}")
    if about.get("start"):
        lines.append(f"- it started from the model in {about['start']['workdir']}")
    if about.get("branched_from"):
        lines.append(f"- its run branched off {about['branched_from']}")
    return "\n".join(lines) or "Trained without teacher, from nothing."


def _model(model: Mapping[str, Any] | None) -> str:
    return f"{model['family']} {model['variant']}" if model else "unknown"


def _list(values: Mapping[str, Any] | None) -> str:
    shown = {name: value for name, value in (values or {}).items() if value not in (None, "", [])}
    return "\n".join(f"- {name}: {value}" for name, value in shown.items()) or "Not recorded."


def _table(checked: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        f"| {one['name']} | {one['bytes']:,} | {one['difference']:.1e} | {one['agreement']:.2%} | "
        f"{'—' if one['accuracy'] is None else format(one['accuracy'], '.2%')} | "
        + " | ".join(f"{one['milliseconds'][size]:.1f}" for size in ("1", "32"))
        + " |"
        for one in checked
    ]
    header = "| format | bytes | difference | agrees | accuracy | ms, batch 1 | ms, batch 32 |"
    return "\n".join([header, "|---|---|---|---|---|---|---|", *rows])


def _shape(shape: Iterable[int | None]) -> str:
    return "[" + ", ".join("batch" if side is None else str(side) for side in shape) + "]"


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
