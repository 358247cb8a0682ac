"""What a finished model says of some held-out images, kept small for the page of its run.

`examples.json` in the workdir has, of each image, the answers of the model and of its teacher,
how far they are apart and where the images lie in a map of the embeddings, and small pictures of a
few. The page is drawn from it (`distill.report.examples`), without the model.
"""

import base64
import dataclasses
import functools
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from distill.data import DataConfig, Source, Subset
from distill.data.classes import among
from distill.data.examples import EvaluationViews
from distill.errors import UserError
from distill.evaluate.features import split_loader
from distill.json_files import write_json
from distill.losses import kl_divergence
from distill.metrics.classification import competing
from distill.nn import Params, VisionNetwork
from distill.parallel import distributed
from distill.parallel.compiling import jit_replicated, ordered_options
from distill.parallel.printed import say
from distill.subject import Subject, Teacher, combine, comparable

FILE = "examples.json"

ANSWERS = 3
"""Classes that are kept of each image, the most probable first."""
SHOWN = 18
"""Pictures of each selection: some images, the most confident mistakes, those on which the model
and its teacher differ most."""
MAPPED = 1000
"""Images in the map of embeddings, at most."""
SIDE = 96
"""The longest of a picture, in pixels."""


class Said(NamedTuple):
    """What is computed of a batch of B images, on the device."""

    classes: jax.Array
    """The K most probable, int32 [B, K]; K is 0 where a model has no classes."""
    probabilities: jax.Array
    """Theirs by softmax, among the classes that compete, float32 [B, K]."""
    embedding: jax.Array
    """float32 [B, D]."""


class Outputs(NamedTuple):
    """Of a network for B images."""

    logits: jax.Array
    """[B, C], of the model's classes; [B, 0] where they are others."""
    embedding: jax.Array
    """[B, D]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gallery:
    """Asks a model, and its teachers, of held-out images, and keeps what they say.

    Nothing of it changes a run: no parameter, no place in the data, no random number.
    """

    workdir: Path
    subject: Subject
    """Of the run."""
    images: Source
    """Held out, numbered as the model's classes are, where it has some."""
    split: str
    """What they are called."""
    most: int
    """Images, at equal distances."""
    teachers: Mapping[str, Teacher] = dataclasses.field(default_factory=dict)
    """Those that are there, in the order of the model's classes."""

    def __call__(self, params: Params, frozen: Any) -> None:
        """Writes `FILE`; what prevents it is said, and the run goes on.

        All processes must call it, and the primary writes.

        Args:
          params: of the model.
          frozen: of its teachers, by name.
        """
        began = time.perf_counter()
        try:
            found = self._examples(params, frozen)
        except UserError as error:
            # One process alone would keep the others waiting.
            if distributed.several():
                raise
            say(f"the page of the run has no examples: {error}")
            return
        if not distributed.is_primary():
            return
        try:
            write_json(self.workdir / FILE, found, checked=True, indent=None)
        except OSError as error:
            say(f"the page of the run has no examples: {self.workdir / FILE}: {error.strerror}")
            return
        seconds = time.perf_counter() - began
        say(f"{len(found['label']):,} {self.split} images answered for the page in {seconds:.1f}s")

    def _examples(self, params: Params, frozen: Any) -> dict[str, Any]:
        count = min(self.most, len(self.images))
        images = Subset(self.images, np.arange(count) * len(self.images) // count)
        asked = self._ask(images, params, frozen)
        if not len(asked["label"]):
            raise UserError(f"none of {count} images of {self.split} can be decoded")
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(asked)):
            raise UserError("what the model or its teacher says of some images is not finite")
        # The others' work is done.
        return self._described(images, asked) if distributed.is_primary() else asked

    def _ask(self, images: Source, params: Params, frozen: Any) -> dict[str, np.ndarray]:
        """All that is computed, image by image, and how long the networks take."""
        subject, some = self.subject, among(images)
        networks = {"": _asked(subject.network)}
        networks |= {name: _asked(one.network, one) for name, one in self.teachers.items()}
        weights = {"": params} | {name: frozen[name] for name in self.teachers}
        compared = comparable(subject.network, self.teachers)

        @functools.partial(jit_replicated, mesh=subject.mesh)
        def summary(outputs: Mapping[str, Outputs], batch: dict[str, jax.Array]):
            models = {
                # Numbers of other classes would mean nothing beside the model's.
                name: _said(
                    one if compared or not name else one._replace(logits=one.logits[:, :0]), some
                )
                for name, one in outputs.items()
            }
            found: dict[str, Any] = {"models": models}
            if compared:
                theirs = {name: one.logits for name, one in outputs.items() if name}
                logits = combine(theirs, self.teachers)
                found["together"] = _said(Outputs(logits, outputs[""].embedding), some)
                found["kl"] = kl_divergence(logits, outputs[""].logits)
            return found | {name: batch[name] for name in ("label", "index", "mask")}

        loader = split_loader(
            images,
            subject.data,
            subject.mesh,
            size=subject.view_size,
            batch_size=subject.batch_size,
            view=subject.view,
        )
        parts, seconds = [], {name: [] for name in networks}
        for batch in loader:
            jax.block_until_ready(batch)
            outputs = {}
            # The first call compiles; a single batch is asked twice.
            for _ in range(1 if parts else 2):
                for name, call in networks.items():
                    began = time.perf_counter()
                    outputs[name] = jax.block_until_ready(call(weights[name], batch["image"]))
                    seconds[name].append(time.perf_counter() - began)
            parts.append(jax.device_get(summary(outputs, batch)))
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        kept = joined.pop("mask").astype(bool)
        joined = jax.tree.map(lambda leaf: leaf[kept], joined)
        rates = {n: subject.batch_size / min(s[1:]) for n, s in seconds.items()}
        return joined | {"rates": rates}

    def _described(self, images: Source, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What the file holds, as JSON can hold it."""
        subject, models, rates = self.subject, asked["models"], asked["rates"]
        known = subject.class_names if subject.network.config.num_classes else ()
        names, some = known or images.class_names, among(images)
        label, index = asked["label"], asked["index"]
        mapped = np.arange(min(len(index), MAPPED)) * len(index) // min(len(index), MAPPED)
        order = (*self.teachers, "")
        maps = _maps([models[name].embedding[mapped] for name in order])
        found: dict[str, Any] = {
            "split": self.split,
            "source": subject.data.evaluation_source,
            "of": len(self.images),
            "among": None if some is None else len(some),
            "labelled": bool(images.class_names),
            "device": f"{subject.mesh.size} {subject.mesh.devices.flat[0].device_kind}",
            "batch_size": subject.batch_size,
            "name": [images.name(int(one)) for one in index],
            "label": label.tolist(),
            "images_per_second": round(rates[""], 1),
            **_answers(models[""]),
            "map": _rounded(maps[-1]),
            "mapped": mapped.tolist(),
            "teachers": {
                name: {
                    "parameters": one.network.parameter_count(),
                    "images_per_second": round(rates[name], 1),
                    "map": _rounded(place),
                    **_answers(models[name]),
                }
                for (name, one), place in zip(self.teachers.items(), maps[:-1], strict=True)
            },
            "together": _answers(asked["together"]) if "together" in asked else None,
            "kl": _rounded(asked["kl"]) if "kl" in asked else None,
        }
        found |= selections(label, models[""], asked.get("kl"))
        used = {*label.tolist(), *models[""].classes.ravel().tolist()} - {-1}
        if "together" in asked:
            used |= {*asked["together"].classes.ravel().tolist()}
        found["classes"] = {
            str(one): names[one] if one < len(names) else str(one) for one in sorted(used)
        }
        pictured = {one for name in SELECTIONS for one in found[name]}
        found["pictures"] = self._pictures(images, {one: int(index[one]) for one in pictured})
        return found

    def _pictures(self, images: Source, places: Mapping[int, int]) -> dict[str, Any]:
        """Small pictures of some images, as the model is shown them, for `src`."""
        subject = self.subject
        views = EvaluationViews(
            images, subject.data.view, subject.view_size, 1, (0,), evaluation=subject.view
        )
        return {str(one): picture(views[place]["image"]) for one, place in sorted(places.items())}


SELECTIONS = ("samples", "mistakes", "differ")


def selections(
    label: np.ndarray, said: Said, divergence: np.ndarray | None
) -> dict[str, list[int]]:
    """Which images are shown, by their places among N.

    `samples` are at equal distances, every other one first; `mistakes` those with a label of which
    the model is most confident and not right; `differ` those with the largest KL divergence from
    the teacher.

    Args:
      label: [N], −1 of an image without.
      said: of the model; of K = 0 classes it makes no mistakes.
      divergence: [N]; None where there is no teacher to compare with.
    """
    shown = min(len(label), SHOWN)
    even = [n * len(label) // shown for n in range(shown)]
    # A source may be in the order of its classes, and those that come first are seen first.
    picked = {"samples": even[::2] + even[1::2], "mistakes": [], "differ": []}
    if said.classes.shape[-1]:
        wrong = np.flatnonzero((label >= 0) & (said.classes[:, 0] != label))
        order = np.argsort(-np.asarray(said.probabilities)[wrong, 0], kind="stable")
        picked["mistakes"] = wrong[order][:SHOWN].tolist()
    if divergence is not None:
        picked["differ"] = np.argsort(-divergence, kind="stable")[:SHOWN].tolist()
    return picked


def picture(view: np.ndarray) -> str:
    """A view, uint8 [side, side, C], as a small picture: a URL that holds it."""
    view = view[..., 0] if view.shape[-1] in (1, 2) else view[..., :3]
    image, out = Image.fromarray(view), io.BytesIO()
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    kind = "PNG" if max(image.size) <= SIDE // 3 else "JPEG"
    image.save(out, kind, **({"quality": 75} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


def gallery_of(
    subject: Subject,
    workdir: Path,
    most: int | None,
    teachers: Mapping[str, Teacher] | None = None,
) -> Gallery | None:
    """That of a run's test images, or validation images where there are none.

    None of a run that holds none out, or is to have none.

    Args:
      subject: of the run, its images open.
      workdir: of the run.
      most: images; None is to have none.
      teachers: those that are there, by name.
    """
    opened, data = subject.opened, subject.data
    if opened is None or most is None:
        return None
    images, split = _held_out(data, opened.test, opened.validation)
    if images is None or split is None:
        return None
    return Gallery(
        workdir=workdir,
        subject=subject,
        images=images,
        split=split,
        most=most,
        teachers=teachers or {},
    )


def _held_out(
    data: DataConfig, test: Source | None, validation: Source | None
) -> tuple[Source | None, str | None]:
    return (validation, data.validation_split) if test is None else (test, data.test_split)


def _asked(network: VisionNetwork, teacher: Teacher | None = None):
    """A network's outputs of images, compiled."""

    @functools.partial(jax.jit, compiler_options=ordered_options(network.mesh))
    def call(params: Params, images: jax.Array) -> Outputs:
        output = network.apply(params, network.prepare(images))
        logits = output.logits if teacher is None else teacher.logits(output)
        return Outputs(logits, output.embedding)

    return call


def _said(outputs: Outputs, some: tuple[int, ...] | None) -> Said:
    logits, embedding = outputs.logits, outputs.embedding.astype(jnp.float32)
    most = min(ANSWERS, logits.shape[-1])
    if not most:
        empty = jnp.zeros((len(embedding), 0), jnp.float32)
        return Said(empty.astype(jnp.int32), empty, embedding)
    values, classes = jax.lax.top_k(jax.nn.softmax(competing(logits, some)), most)
    return Said(classes, values, embedding)


def _answers(said: Said) -> dict[str, Any]:
    """Classes and probabilities, none of a model without classes."""
    if not said.classes.shape[-1]:
        return {"answers": None, "probabilities": None}
    return {
        "answers": said.classes.tolist(),
        "probabilities": _rounded(np.asarray(said.probabilities)),
    }


def _rounded(values: np.ndarray) -> Any:
    """To four significant digits, which is what people read; None of what is not finite."""
    if values.ndim > 1:
        return [_rounded(one) for one in values]
    return [float(f"{one:.4g}") if np.isfinite(one) else None for one in values]


def _maps(embeddings: list[np.ndarray]) -> list[np.ndarray]:
    """The two directions in which each embedding, [N, D], varies most, [N, 2].

    Turned and mirrored so that like images are at like places: each map onto the first one
    (orthogonal Procrustes).
    """
    found: list[np.ndarray] = []
    for one in embeddings:
        centred = one.astype(np.float64) - one.mean(axis=0, dtype=np.float64)
        left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
        place = np.zeros((len(one), 2))
        kept = min(2, len(sizes))
        place[:, :kept] = left[:, :kept] * sizes[:kept]
        if not found:
            # A decomposition says nothing of signs.
            place *= np.where(place[np.abs(place).argmax(axis=0), [0, 1]] < 0, -1, 1)
        else:
            u, _, v = np.linalg.svd(place.T @ found[0])
            place = place @ (u @ v)
        found.append(place)
    return found
