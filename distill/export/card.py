"""MODEL_CARD.md: what an exported model is, where it comes from and how good it is."""

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distill.data.prompts import described
from distill.export.card_facts import kind_facts
from distill.export.dense import DenseExportable
from distill.export.images import ImageExportable
from distill.export.model import Exportable
from distill.export.stablehlo import promised_until
from distill.nn.fingerprint import fingerprint
from distill.runs.start import start_source

_USE = {
    "saved_model": "`tf.saved_model.load(DIRECTORY).signatures['serving_default']`, or TensorFlow "
    "Serving with the directory that the version lies in as `--model_base_path`.",
    "stablehlo": "`jax.export.deserialize`, with JAX alone; README.md beside this file has the "
    "lines.",
    "onnx": "`onnxruntime.InferenceSession('model.onnx')`, input `images`; the metadata's "
    "`class_names` is a JSON list.",
    "hf": "`transformers.AutoModelForImageClassification.from_pretrained(DIRECTORY)` and "
    "`AutoImageProcessor.from_pretrained(DIRECTORY)`.",
    "timm": "`timm.create_model('local-dir:DIRECTORY', pretrained=True)`.",
}

_USE_PAIR = (
    "`transformers.AutoModel.from_pretrained(DIRECTORY)` and "
    "`AutoImageProcessor.from_pretrained(DIRECTORY)`. Make ids of texts as above: transformers' "
    "tokenizers clean and pad otherwise unless told, with `padding='max_length'` at least."
)
_USE_TEXT_ONNX = "`onnxruntime.InferenceSession('model.onnx')`, input `ids`."

# By the artefact's name.
_TFLITE = {
    "TFLite": "`model.tflite` (float32)",
    "TFLite int8": "`model_int8.tflite` (8-bit weights)",
}

# What loads them from Hugging Face's hub.
_LIBRARIES = {"hf": "transformers", "timm": "timm"}

# What the first part of a metric's name says.
_MEASURED_ON = {
    "val": "the validation split",
    "views": "training images, cropped and mixed as in training",
    "test": "the test split",
    "fewshot": "linear regression on the frozen embedding of that many images a class",
    "knn": "that many nearest training images by the embedding",
    "probe": "logistic regression on the frozen embedding",
}


def model_card(model: Exportable, description: Mapping[str, Any]) -> str:
    """The card, Markdown with the front matter that Hugging Face's hub reads.

    Args:
      model: the model.
      description: as export.json has it. Its `about` may hold `name`, `workdir`, `step`, `weights`
        (which of the run's), `model` (as its run recorded it), `licence`, `data`, `recipe`,
        `metrics`, `checked_on`, `published` (where weights were read from), `teachers`, `targets`,
        `start` and `branched_from`. Without `teachers`, empty if there were none, or `published`,
        the lineage is unknown.
    """
    about = description["about"]
    licence = about.get("licence") or "unknown"
    form = description["format"]
    embeds = not _classifies(model) and model.kind not in ("pair", "dense")
    student = {
        "model": _model(about.get("model")),
        "parameters": f"{model.network.parameter_count():,}",
        **kind_facts(model, form),
        "zero-shot": about.get("zeroshot") and described(about["zeroshot"]),
        "run": about.get("workdir"),
        "step": about.get("step"),
        "weights": about.get("weights"),
        # A run that learns from it records the same.
        "fingerprint": f"`{fingerprint(model.params, about['model'])}`"
        if about.get("model")
        else None,
    }
    sections = [
        _front_matter(model, form, licence),
        f"# {about.get('name', 'Model card')}",
        _list(student),
        "## How to use it",
        f"{_use(model, description)} Format `{form}`, {description['dtype']}.",
        _requirements(description),
        *(_hugging_face_notes(model) if form == "hf" else ()),
        *_signature(description["signature"]),
        "## Where it comes from",
        _lineage(about),
        "## Data",
        _list(about.get("data")),
        "## Recipe",
        _list(about.get("recipe")),
        "## Metrics",
        *_metrics(about),
        f"This export, run on {about.get('checked_on', 'random pixels')} and compared with JAX in "
        f"float32 ({_compared(model, embeds)}); milliseconds of a batch on the CPU of the machine "
        "that exported it:",
        _table(description["checked"], embeds),
        "## Licence",
        f"{licence}. "
        + ("Say it with `--licence=`. " if licence == "unknown" else "")
        + "What the data and the teachers' weights allow is for you to check.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(model: Exportable, form: str, licence: str) -> str:
    lines = [
        # The hub's names of licences are in lower case.
        f"license: {json.dumps(licence.lower())}",
        f"pipeline_tag: {_task(model)}",
        "tags: [vision, knowledge-distillation]",
    ]
    if form in _LIBRARIES:
        lines.append(f"library_name: {_LIBRARIES[form]}")
    return "\n".join(["---", *lines, "---"])


def _classifies(model: Exportable) -> bool:
    return isinstance(model, ImageExportable) and model.network.config.num_classes > 0


def _compared(model: Exportable, embeds: bool) -> str:
    """What the table's figures are."""
    if embeds:
        return "worst difference of a value of the embedding, mean cosine of the embeddings"
    if model.kind == "dense":
        return (
            "worst difference of a score or depth, share of the pixels with the same class, or a "
            "depth to 1%"
        )
    best = "the same more similar text" if model.kind == "pair" else "the same first class"
    return f"worst difference of a logit, share of the images with {best}"


def _task(model: Exportable) -> str:
    """As Hugging Face's hub calls it."""
    if model.kind == "image":
        return "image-classification" if _classifies(model) else "image-feature-extraction"
    if isinstance(model, DenseExportable):
        return "image-segmentation" if model.network.config.depth is None else "depth-estimation"
    return "feature-extraction" if model.kind == "text" else "zero-shot-image-classification"


def _use(model: Exportable, description: Mapping[str, Any]) -> str:
    form = description["format"]
    if model.kind == "pair":
        return _USE_PAIR
    if form == "onnx" and model.kind == "text":
        return _USE_TEXT_ONNX
    if form in _USE:
        return _USE[form]
    files = " or ".join(_TFLITE[one["name"]] for one in description["checked"])
    return (
        f"{files} with any TensorFlow Lite interpreter, signature `serving_default`; the batch is "
        "free, but not 0."
    )


def _requirements(description: Mapping[str, Any]) -> str:
    if description["format"] == "stablehlo":
        until = promised_until(datetime.date.fromisoformat(description["written"]))
        return (
            f"Written on {description['written']} with jax {description['jax']}. JAX promises that "
            f"releases of the six months after that one read it, until {until} at most."
        )
    requires = description["requires"].items()
    return f"It needs {', '.join(f'{name} {what}' for name, what in requires)}." if requires else ""


def _hugging_face_notes(model: Exportable) -> Iterable[str]:
    if model.kind == "image" and not _classifies(model):
        yield "It has no labels: what it returns as `logits` is the embedding."
    if model.network.config.channels == 1:
        yield (
            'Give the processor grey images (`image.convert("L")`). `pipeline()` makes them RGB, '
            'and fails with "mean must have 3 elements".'
        )


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
        what = [_model(teacher.get("model"))]
        if teacher.get("parameters"):
            what.append(f"{teacher['parameters']:,} parameters")
        what.append(str(teacher.get("source")))
        if teacher.get("step") is not None:
            what.append(f"step {teacher['step']}")
        known = teacher.get("fingerprint")
        what.append(f"fingerprint `{known}`" if known else "fingerprint not recorded")
        lines.append(
            f"- {'teacher' if name == 'teacher' else f'teacher {name}'}: {', '.join(what)}"
        )
    if about.get("published"):
        lines.append(f"- published weights, read from {about['published']}")
    if about.get("targets"):
        lines.append(f"- the teachers' answers were replayed from {about['targets']}")
    if about.get("start"):
        lines.append(f"- it started from the model in {start_source(about['start'])}")
    if about.get("branched_from"):
        lines.append(f"- its run branched off {about['branched_from']}")
    if not lines and about.get("teachers") is None:
        return "Not recorded."
    return "\n".join(lines) or "Trained without teacher, from nothing."


def _model(model: Mapping[str, Any] | None) -> str:
    if not model:
        return "unknown"
    if "tower" in model:
        return f"a head with {model['head']['outputs']} outputs on {_model(model['tower'])}"
    if "family" in model:
        return f"{model['family']} {model['variant']}"
    # Of published weights, it is recorded what their network is.
    return " and ".join(
        f"{'text tower' if 'vocab' in tower else 'ViT'} of width {tower['width']} and depth "
        f"{tower['depth']}"
        for tower in (model.get("image", model), model.get("text"))
        if tower
    )


def _metrics(about: Mapping[str, Any]) -> Iterable[str]:
    metrics = about.get("metrics") or {}
    if metrics and about.get("weights", "last") != "last":
        yield f"When these weights, the {about['weights']}, were kept:"
    elif metrics:
        yield "At the end of its training:"
    yield _list(metrics)
    kinds = dict.fromkeys(name.partition("/")[0] for name in metrics)
    known = [f"`{kind}/`: {_MEASURED_ON[kind]}" for kind in kinds if kind in _MEASURED_ON]
    if known:
        yield f"{'; '.join(known)}."


def _list(values: Mapping[str, Any] | None) -> str:
    shown = {name: value for name, value in (values or {}).items() if value not in (None, "", [])}
    lines = (f"- {name}: {_text(value)}" for name, value in shown.items())
    return "\n".join(lines) or "Not recorded."


def _text(value: Any) -> str:
    """A value of a config: figures without rounding's last digits, rules as name and value."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(
            _rule(one) if isinstance(one, list | tuple) else _text(one) for one in value
        )
    return str(value)


def _rule(pair: Sequence[Any]) -> str:
    pattern, *values = pair
    return f"`{pattern}` {_text(values)}"


def _table(checked: Iterable[Mapping[str, Any]], embeds: bool) -> str:
    rows = [
        f"| {one['name']} | {one['bytes']:,} | {one['difference']:.1e} | "
        f"{format(one['agreement'], '.4f' if embeds else '.2%')} | "
        f"{'—' if one['accuracy'] is None else format(one['accuracy'], '.2%')} | "
        + " | ".join(
            f"{one['milliseconds'][size]:.1f}" if size in one["milliseconds"] else "—"
            for size in ("1", "32")
        )
        + " |"
        for one in checked
    ]
    agrees = "cosine" if embeds else "agrees"
    header = f"| format | bytes | difference | {agrees} | accuracy | ms, batch 1 | ms, batch 32 |"
    return "\n".join([header, "|---|---|---|---|---|---|---|", *rows])


def _shape(shape: Iterable[int | None]) -> str:
    batch, *sides = shape
    assert batch is None
    named = iter(("height", "width"))
    return f"[{', '.join(['batch', *(str(s or next(named)) for s in sides)])}]"
