"""Teachers of whom only what they said is there: which they were, and of what they said it."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from distill.config import resolve
from distill.data import Splits, Store
from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.moved import Claimed
from distill.runs.teachers import Score, TeacherConfig, fingerprints, load_teachers
from distill.runs.weights import described_network
from distill.subject import Teacher
from distill.tasks.matching.config import MatchingConfig
from distill.tasks.matching.function_matching import mix_views
from distill.tasks.matching.layers import layers_of_teacher
from distill.tasks.matching.targets import features_of
from distill.train.differences import differences
from distill.train.run import RunConfig
from distill.train.step import step_key


def describe_teachers(
    configs: Mapping[str, TeacherConfig],
    teachers: Mapping[str, Teacher],
    found: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """What is told of teachers that were asked: their configs, classes and fingerprints."""
    return {
        name: {
            "fingerprint": found[name],
            "weight": config.weight,
            "source": config.source,
            "step": config.step,
            "weights": None if config.weights is None else dataclasses.asdict(config.weights),
            "dtype": config.dtype,
            "quantize": config.quantize,
            "model": config.described(config.dtype),
            "classes": list(teachers[name].class_names),
            "order": None if (order := teachers[name].order) is None else list(order),
            "view": dataclasses.asdict(teachers[name].view),
        }
        for name, config in configs.items()
    }


def _differing(asked: Mapping[str, Any], config: TeacherConfig) -> str:
    """What of a teacher's config is another than of the one that was asked, in words."""
    now = {key: getattr(config, key) for key in ("step", "dtype", "quantize")}
    # Earlier versions did not say all of them.
    told = [
        f"{key} was {str(asked[key]).lower()} and is {str(value).lower()}"
        for key, value in now.items()
        if asked.get(key, value) != value
    ]
    return f" ({', '.join(told)})" if told else ""


def stored_teachers(
    store: Store, configs: Mapping[str, TeacherConfig], mesh: Mesh
) -> dict[str, Teacher]:
    """The networks of the teachers that were asked, by name; their parameters are not kept.

    Args:
      store: of what they said.
      configs: the teachers that the caller believes were asked, whose parameters are read and
        compared; none to take the store's word.
      mesh: to read them on.

    Raises:
      UserError: if they are others.
    """
    asked = store.contents.about["teachers"]
    if configs:
        if configs.keys() != asked.keys():
            raise UserError(
                f"the targets in {store.path} are of {_names(asked)}, not of {_names(configs)}"
            )
        _, params = load_teachers(configs, mesh)
        for name, found in fingerprints(configs, params).items():
            if found != asked[name]["fingerprint"]:
                raise UserError(
                    f"the targets in {store.path} are not those of the teacher in "
                    f"{configs[name].source}: its fingerprint is {found}, and that of the one "
                    f"that was asked (from {asked[name]['source']}) {asked[name]['fingerprint']}"
                    f"{_differing(asked[name], configs[name])}. Store targets of this teacher, or "
                    "name the right one"
                )
            if configs[name].weight != asked[name]["weight"]:
                raise UserError(
                    f"teacher {name} has the weight {configs[name].weight}, but "
                    f"{asked[name]['weight']} in {store.path}; use that or store targets anew"
                )
    return {
        name: Teacher(
            described_network(one["model"]).placed(mesh),
            one["weight"],
            tuple(one.get("classes") or ()),
            None if one.get("order") is None else tuple(one["order"]),
            resolve(EvaluationView, one.get("view", {})),
        )
        for name, one in asked.items()
    }


def stored_scores(store: Store) -> dict[str, Score]:
    """How good the teachers were; an older store does not say on how many images."""
    about = store.contents.about
    images = about.get("images", {})
    return {key: Score(accuracy, images.get(key, 0)) for key, accuracy in about["accuracy"].items()}


def views_shown(
    config: RunConfig, matching: MatchingConfig, splits: Splits, size: int
) -> dict[str, Any]:
    """Everything that decides what teachers are shown, and in which order, as JSON can hold it."""
    data = config.data
    shown = {
        "seed": config.seed,
        "train": {"batch_size": config.train.batch_size},
        "data": {
            "source": data.source,
            "classes": list(data.classes),
            "train_split": data.train_split,
            "train_images": data.train_images,
            "decoder": data.decoder,
            "view": {key: _listed(value) for key, value in dataclasses.asdict(data.view).items()},
        },
        "matching": {
            key: getattr(matching, key)
            for key in ("teacher_view", "mixup", "cutmix", "per_example", "several_teachers")
        },
        "images to train on": len(splits.train),
        "fingerprint of these images": splits.train.fingerprint,
        "classes": list(splits.class_names),
        "side of the views": size,
    }
    if data.mixture:
        parts = {name: dataclasses.asdict(part) for name, part in data.mixture.items()}
        shown["data"]["mixture"] = parts
    if data.shrink:
        shown["data"]["shrink"] = data.shrink
    if data.exif_orientation:
        shown["data"]["exif_orientation"] = True
    if matching.several_teachers == "average":
        shown["matching"]["temperature"] = matching.temperature
    return shown


def layers_said(matching: MatchingConfig, teachers: Iterable[str]) -> dict[str, Any]:
    """Which layers' tokens teachers are asked for, as JSON can hold it; empty if for none."""
    if "layers" not in matching.losses.features:
        return {}
    layers = {name: list(layers_of_teacher(matching, name)) for name in teachers}
    return {"layers": {"normed": matching.layers_normed, "of": layers}}


def check_store(
    store: Store, config: RunConfig, matching: MatchingConfig, splits: Splits, size: int
) -> None:
    """Checks that what teachers said is of the views this run trains on, and what its loss needs.

    Raises:
      UserError: naming everything that differs.
    """
    about = store.contents.about
    there, here = about["views"], views_shown(config, matching, splits, size)
    # Earlier versions did not record all of it.
    here = {key: value for key, value in here.items() if key in there}
    before = {"filter": "bilinear", "eval_resize": "shortest"} | there["data"]["view"]
    there = there | {"data": {"decoder": "pillow"} | there["data"] | {"view": before}}
    there = Claimed.read(store.path).aligned(there, here)
    if different := differences(there, here):
        listing = "\n".join(
            f"  {key}: {old!r} there, {new!r} now" for key, (old, new) in different.items()
        )
        raise UserError(
            f"the targets in {store.path} are of other views than this run's\n{listing}\n"
            "Distil with the config they were stored with, or store targets with this one"
        )
    _check_draws(store, config, matching, size)
    missing = set(matching.losses.features) - features_of(store.contents.arrays)
    if missing:
        raise UserError(
            f"config.matching.losses compares {', '.join(sorted(missing))}, which {store.path} "
            "does not hold; store targets with these losses"
        )
    layers = layers_said(matching, about["teachers"])
    if different := differences({key: about.get(key) for key in layers}, layers):
        listing = ", ".join(
            f"{key}: {old} there, {new} now" for key, (old, new) in different.items()
        )
        raise UserError(
            f"config.matching compares other layers of the teachers than {store.path} holds "
            f"({listing}); compare these, or store targets anew"
        )
    raw = matching.losses.of_logits
    if raw and about["format"]["top_k"] is not None:
        raise UserError(
            f"{', '.join(raw)} compares logits, but of most classes {store.path} holds only how "
            "probable they are together; use kl, or store all logits (config.store.top_k=none)"
        )


def _check_draws(store: Store, config: RunConfig, matching: MatchingConfig, size: int) -> None:
    """Checks on the first batch that mixtures are drawn as they were; JAX may change how."""
    batch_size = config.train.batch_size
    there = np.array([store.read(position)["share"] for position in range(batch_size)])
    views = jnp.zeros((batch_size, size, size, 1), jnp.uint8)
    here = mix_views(matching, step_key(config.seed, 0), views).weights
    # Another chip may round another way.
    if not np.allclose(there, here, atol=1e-3):
        raise UserError(
            f"images are no longer mixed as when the targets in {store.path} were stored, with jax "
            f"{store.contents.about['jax']}; use that version, or store targets anew"
        )


def _names(teachers: Mapping[str, Any]) -> str:
    return ", ".join(sorted(teachers))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
