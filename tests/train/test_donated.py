"""What a step is given away, and gradients summed over parts, in bytes of the compiled program."""

import jax
import optax
import pytest

from distill.config import resolve
from distill.data.batch_spec import abstract_batch
from distill.estimate.jobs import make_job
from distill.parallel import MeshConfig, batch_sharding, make_mesh
from distill.runs.distillation import DistillConfig
from distill.runs.pairs import PairTrainingConfig
from distill.runs.pretraining import PretrainConfig
from distill.tasks.classification import Classification, ClassificationConfig
from distill.train.state import abstract_state
from distill.train.step import Learner, compile_joint_step
from students import vit

SHAPE = dict(width=16, depth=2, mlp_dim=24, heads=2)
IMAGE = SHAPE | dict(family="vit", variant="mu/4", image_size=8, head="gap", num_classes=3)
PAIR = dict(
    family="pair",
    image=IMAGE | dict(num_classes=0),
    text=SHAPE | dict(vocab=40, length=5),
)
RUN = dict(
    data=dict(source="digits"),
    optimizer=dict(name="adafactor", learning_rate=1e-3, average_decay=0.9),
    schedule=dict(kind="cosine", warmup_steps=1),
    train=dict(batch_size=8, total_steps=2),
)
CAPTIONS = dict(path="nowhere.json", family="siglip2", length=5)
CONFIGS = {
    "pre-training": (PretrainConfig, dict(model=IMAGE)),
    "in microbatches": (
        PretrainConfig,
        dict(model=IMAGE, train=RUN["train"] | dict(microbatches=2)),
    ),
    "distillation": (
        DistillConfig,
        dict(model=IMAGE, teacher=dict(workdir="nowhere", model=IMAGE)),
    ),
    "a pair": (
        PairTrainingConfig,
        dict(
            model=PAIR,
            loss=dict(kind="softmax"),
            data=dict(source="digits", captions=CAPTIONS),
        ),
    ),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_new_state_takes_the_place_of_the_old(kind):
    schema, tree = CONFIGS[kind]
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    job = make_job(resolve(schema, RUN | tree), mesh, 2)
    step = compile_joint_step(
        {"one": job.learner},
        0,
        {"one": job.state},
        job.frozen,
        abstract_batch(job.examples, job.batch_size, batch_sharding(mesh)),
        microbatches=job.microbatches,
    )
    assert step.copied_bytes == 0


def _compiled(microbatches, optimizer):
    """A step of a model whose parameters are nearly all there is: two images of four patches."""
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    shape = dict(width=128, depth=2, mlp_dim=512, heads=2, image_size=8, channels=1)
    config = vit.configure("mu/4", **shape, num_classes=10, head="gap")
    network = vit.build(config).placed(mesh)
    state = abstract_state(network, optimizer)
    size, place = 2 * microbatches, batch_sharding(mesh)
    batch = {
        "image": jax.ShapeDtypeStruct((size, 8, 8, 1), "uint8", sharding=place),
        "label": jax.ShapeDtypeStruct((size,), "int32", sharding=place),
    }
    learner = Learner(Classification(network, ClassificationConfig()), optimizer)
    step = compile_joint_step(
        {"one": learner}, 0, {"one": state}, None, batch, microbatches=microbatches
    )
    parameters = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.params))
    return step, parameters


@pytest.mark.slow
def test_gradients_of_microbatches_are_summed_in_one_copy():
    steps = {parts: _compiled(parts, optax.sgd(0.1)) for parts in (1, 2, 4)}
    extra = {parts: step.extra_bytes / size for parts, (step, size) in steps.items()}
    # A part's gradients, and of several parts their sum; as many parts as one likes.
    assert extra[1] < 1.6 and extra[2] - extra[1] < 1.2
    assert abs(extra[4] - extra[2]) < 0.05


def test_what_a_step_cannot_reuse_is_counted():
    # A state whose type changes is put elsewhere: moments in bfloat16 come back in float32.
    def halved(params):
        return jax.tree.map(lambda leaf: leaf.astype("bfloat16"), params)

    odd = optax.GradientTransformation(
        halved,
        lambda grads, state, params: (grads, jax.tree.map(lambda g: g * 2.0, grads)),
    )
    step, parameters = _compiled(1, odd)
    assert 0.45 * parameters < step.copied_bytes < 0.55 * parameters
