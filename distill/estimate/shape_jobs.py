"""The training steps of a config's model in many shapes, compiled as a search asks for them."""

import dataclasses
import os
from typing import Any

import jax
from jax.sharding import Mesh

from distill import config as configs
from distill.errors import UserError
from distill.estimate.jobs import make_job
from distill.estimate.plan import Job, plan_step, state_bytes
from distill.estimate.shape_log import ShapeLog
from distill.estimate.shapes import Found, Shape, ShapeSearch
from distill.estimate.topology import Topology
from distill.nn import count_flops
from distill.parallel.compiling import compiler_options
from distill.references import evaluated
from distill.runs.pretraining import PretrainConfig
from distill.train.run import blame

# Of what `describe` says: answers of another compiler, or of one told otherwise, are others.
COMPILER = ("topology", "jax", "libtpu", "compiler_options", "libtpu_flags")
# Keys of the config that follow from the flags.
_DECIDED = {
    "model.variant": "--patch",
    "model.width": "--widths",
    "model.depth": "--depths",
    "model.mlp_dim": "--mlp_ratios",
    "model.heads": "--head_dims",
    "train.batch_size": "--batch",
}


def searched_config(spec: str, overrides: dict[str, str], patch: int, batch: int) -> PretrainConfig:
    """The config whose model takes the shapes.

    Args:
      spec: of the file.
      overrides: of its keys.
      patch: side of a patch in pixels.
      batch: global.

    Raises:
      UserError: if overrides say what the search decides, or the config is wrong.
    """
    for key in sorted(overrides.keys() & _DECIDED.keys()):
        raise UserError(f"--config.{key} is what the search decides; use {_DECIDED[key]}")
    tree = configs.load_file(spec)
    letter = str(evaluated(tree, []).get("model", {}).get("variant", "")).partition("/")[0]
    decided = {"model.variant": f"{letter}/{patch}", "train.batch_size": str(batch)}
    # One replica over all devices, unless the command line says otherwise.
    mesh = {"mesh.data": "1", "mesh.fsdp": "-1"}
    return configs.resolve(PretrainConfig, tree, mesh | overrides | decided)


def shaped(config: PretrainConfig, shape: Shape) -> PretrainConfig:
    """The config with a model of this shape."""
    with blame("config.model"):
        return dataclasses.replace(
            config, model=dataclasses.replace(config.model, **dataclasses.asdict(shape))
        )


def _job(config: PretrainConfig, shape: Shape, mesh: Mesh) -> Job:
    """What training a model of this shape would compile."""
    # The schedule's length changes nothing but constants.
    return make_job(shaped(config, shape), mesh, steps=None)


def _compile(config: PretrainConfig, shape: Shape, topology: Topology, mesh: Mesh) -> Found:
    """Plans the training step of a model of this shape."""
    job = _job(config, shape, mesh)
    plan = plan_step(job, topology, mesh)
    network = job.network.with_attention("plain")
    image = jax.ShapeDtypeStruct((1, *network.config.image_shape), "float32")
    return Found(
        shape=shape,
        parameters=network.parameter_count(),
        flops=count_flops(network.apply, network.abstract_params, image).total,
        bytes_per_chip=plan.memory.total * topology.chip.per_chip,
        step_seconds=plan.cost.seconds if plan.cost else None,
        images_per_second=plan.images_per_second if plan.cost else None,
        mfu=plan.mfu if plan.cost else None,
        unestimated_kernels=plan.unestimated_kernels,
        compile_seconds=plan.compile_seconds,
    )


def open_search(
    config: PretrainConfig, topology: Topology, mesh: Mesh, budget: int, log: ShapeLog
) -> ShapeSearch:
    """The search over shapes of a config's model, which goes on from what is in the log."""
    return ShapeSearch(
        lambda shape: log.add(_compile(config, shape, topology, mesh)),
        lambda shape: state_bytes(_job(config, shape, mesh)) * topology.chip.per_chip,
        budget,
        known=log.found,
        starting=log.announce,
    )


def describe(config: PretrainConfig, topology: Topology, mesh: Mesh, patch: int) -> dict[str, Any]:
    """What is compiled for what, as JSON has it."""
    libtpu = " ".join(topology.devices[0].client.platform_version.split())
    return {
        "topology": topology.name,
        "chips": topology.chips,
        "patch_size": patch,
        "image_size": config.model.image_size,
        "batch_per_chip": config.train.batch_size // topology.chips,
        "optimizer": config.optimizer.name,
        "remat": config.model.remat,
        "jax": jax.__version__,
        "libtpu": libtpu,
        "compiler_options": compiler_options(mesh),
        "libtpu_flags": os.environ.get("LIBTPU_INIT_ARGS", ""),
    }
