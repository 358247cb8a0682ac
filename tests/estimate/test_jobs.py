"""What a run of a pair would compile, made of its config alone."""

import types

import jax
import numpy as np
import pytest

from distill.config import ConfigError, resolve
from distill.errors import UserError
from distill.estimate.cluster import open_cluster
from distill.estimate.jobs import in_full, make_job
from distill.estimate.plan import Memory, Plan
from distill.estimate.sweep import variations
from distill.estimate.topology import Topology
from distill.nn import LockedPairNetwork
from distill.nn.execution import Execution
from distill.parallel import MeshConfig, make_mesh
from distill.parallel.chips import CHIPS
from distill.report.plan import plan_advice, plan_figures
from distill.runs.distillation import DistillConfig
from distill.runs.pairs import PairTrainingConfig
from distill.train.step import make_train_step

SHAPE = dict(width=16, depth=2, mlp_dim=24, heads=2)
WORDS, VOCAB, BATCH = 5, 40, 8
IMAGE = dict(family="vit", variant="mu/4", image_size=8, head="gap", num_classes=0)
TEXT = dict(vocab=VOCAB, length=WORDS, **SHAPE)
PAIR = dict(family="pair", image=IMAGE | SHAPE, text=TEXT)
CAPTIONS = dict(path="nowhere.json", family="siglip2", length=WORDS)
RUN = dict(
    data=dict(source="digits"),
    optimizer=dict(name="adam", learning_rate=1e-3),
    schedule=dict(kind="cosine", warmup_steps=1),
    train=dict(batch_size=BATCH, total_steps=2),
)


def teacher(model, **more):
    """Who is not here."""
    return dict(workdir="nowhere", model=model) | more


def lit(**more):
    """A text tower on a classifier's image tower, which is wider."""
    tower = IMAGE | dict(width=32, depth=3, mlp_dim=48, heads=2, num_classes=10)
    tree = RUN | dict(
        data=RUN["data"] | dict(captions=CAPTIONS),
        model=dict(family="pair", text=TEXT | dict(embed_dim=32)),
        teacher=teacher(tower, dtype="bfloat16"),
        loss=dict(kind="softmax", block=4),
    )
    return resolve(PairTrainingConfig, tree | more)


def student(**more):
    """Of a narrower image tower, whose text tower is its teacher's."""
    tree = RUN | dict(
        model=dict(family="pair", image=IMAGE | dict(variant="mu/4")),
        teacher=teacher(PAIR),
        matching=dict(losses=dict(kl=0.0, embedding_cosine=1.0), mixup=0.0),
    )
    return resolve(DistillConfig, tree | more)


def job_of(config):
    return make_job(config, make_mesh(MeshConfig(), jax.devices()[:1]), None)


def trace(job):
    """The metrics of the step that is compiled, of what a batch is said to hold."""
    batch = {
        name: jax.ShapeDtypeStruct((BATCH, *one.shape), jax.dtypes.canonicalize_dtype(one.dtype))
        for name, one in job.examples.items()
    }
    step = make_train_step(job.learner, 0, jax.tree.map(lambda x: x.sharding, job.state))
    _, metrics = jax.eval_shape(step, job.state, job.frozen, batch)
    return metrics


def operations(tokens, width, depth, mlp_dim, **_):
    """2·N·T + 4·L·D·T², forward."""
    kernels = depth * (4 * width**2 + 2 * width * mlp_dim)
    return 2 * kernels * tokens + 4 * depth * width * tokens**2


def test_a_text_tower_is_planned_on_an_image_tower_that_is_not_here():
    job = job_of(lit())
    assert isinstance(job.network, LockedPairNetwork)
    assert job.network.abstract_params.keys() == {"text", "temperature"}
    # The classifier is there as well: a run reads all of the teacher.
    assert job.frozen["classifier"]["kernel"].shape == (32, 10)
    assert {leaf.dtype for leaf in jax.tree.leaves(job.frozen)} == {np.dtype("bfloat16")}
    assert job.examples["caption"] == ((WORDS,), np.int32)
    assert job.flops == 3 * operations(WORDS, **SHAPE) + operations(4, 32, 3, 48)
    assert trace(job)["scale"].shape == ()


def test_the_tower_of_stored_embeddings_is_not_in_memory():
    job = job_of(lit(targets="nowhere"))
    assert job.frozen is None
    assert job.examples["stored/embedding/teacher"] == ((32,), np.float16)
    assert job.flops == 3 * operations(WORDS, **SHAPE)
    assert "loss" in trace(job)


def test_both_towers_are_trained_where_none_is_locked():
    job = job_of(lit(teacher=None, model=PAIR | dict(bias=True), loss=dict(kind="sigmoid")))
    assert {"image", "text", "bias"} <= job.network.abstract_params.keys()
    assert (job.frozen, job.trained) == (None, None)
    assert job.flops == 3 * (operations(4, **SHAPE) + operations(WORDS, **SHAPE))
    assert "bias" in trace(job)


def test_a_kept_text_tower_has_no_moments_and_no_gradient():
    job = job_of(student())
    assert not any(jax.tree.leaves(job.trained["text"]))
    text = {leaf.shape for leaf in jax.tree.leaves(job.network.abstract_params["text"])}
    moments = {leaf.shape for leaf in jax.tree.leaves(job.state.opt_state)}
    assert (VOCAB, 16) in text and (VOCAB, 16) not in moments
    # The teacher's is loaded with it, and nobody reads a text.
    assert job.frozen["teacher"]["text"]["token_embedding"].shape == (VOCAB, 16)
    ours = operations(4, 32, 1, 128)
    assert job.flops == 3 * ours + operations(4, **SHAPE)
    assert "grad_norm" in trace(job)


def test_texts_count_where_they_are_compared():
    matching = dict(losses=dict(kl=0.0, similarities_softmax=1.0), mixup=0.0)
    data = RUN["data"] | dict(captions=CAPTIONS)
    job = job_of(student(matching=matching, data=data))
    forward = operations(4, 32, 1, 128), operations(4, **SHAPE), operations(WORDS, **SHAPE)
    # Each model reads the texts, and neither learns to.
    assert job.flops == 3 * forward[0] + forward[1] + 2 * forward[2]
    assert "image_to_text_accuracy" in trace(job)
    own = student(matching=matching, data=data, model=PAIR)
    assert job_of(own).flops == 4 * forward[1] + 4 * forward[2]


def test_an_average_of_the_weights_is_planned():
    averaged = dict(RUN["optimizer"], average_decay=0.99)
    assert job_of(lit()).state.average is None
    job = job_of(lit(optimizer=averaged))
    assert job.state.average is not None and "loss" in trace(job)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: student(teacher=teacher(IMAGE | SHAPE)), "has no text tower"),
        (lambda: lit(teacher=teacher(PAIR)), "no vision transformer of one image tower"),
        (lambda: student(teacher=dict(workdir="nowhere")), r"needs config\.teacher\.model"),
        (lambda: lit(teacher=dict(workdir="nowhere")), r"needs config\.teacher\.model"),
        (
            lambda: student(teacher=dict(weights=dict(path="nowhere"))),
            r"needs config\.teacher\.model",
        ),
        (lambda: student(model=PAIR | dict(text=TEXT | dict(embed_dim=12))), "embeddings of 16"),
        (lambda: lit(loss=dict(kind="softmax", block=3)), "does not divide a batch"),
    ],
)
def test_what_cannot_be_planned_is_explained(config, message):
    with pytest.raises(UserError, match=message):
        trace(job_of(config()))


def test_weights_that_are_not_here_are_what_the_config_says():
    job = job_of(student(teacher=dict(weights=dict(path="nowhere"), model=PAIR)))
    assert job.frozen["teacher"]["image"].keys() == job.network.abstract_params["image"].keys()


def test_the_parts_of_a_batch_cannot_be_planned_of_a_loss_that_compares_them():
    parts = dict(RUN["train"], microbatches=2)
    with pytest.raises(ConfigError, match=r"config\.train\.microbatches=1"):
        trace_in_parts(job_of(lit(train=parts)))
    one = types.SimpleNamespace(device_count=1)
    tried = list(variations(in_full(lit()), one, [dict(data=1, fsdp=1, tensor=1)]))
    assert [one.train.microbatches for one in tried] == [1]
    tried = list(variations(in_full(student()), one, [dict(data=1, fsdp=1, tensor=1)], ["full"]))
    assert [one.train.microbatches for one in tried] == [1, 2]
    assert all(tower.remat == "full" for one in tried for tower in one.model.towers)


def test_a_sweep_begins_with_the_runs_own_mesh_and_has_each_once():
    config = in_full(student(mesh=dict(data=2, fsdp=4)))
    tried = [one.mesh for one in variations(config, open_cluster("h100:8"), microbatches=[1])]
    sizes = [(one.data, one.fsdp, one.tensor) for one in tried]
    assert sizes[0] == (2, 4, 1) and (1, 8, 1) in sizes and len({*sizes}) == len(sizes)
    assert all(one.tensor == 1 for one in tried)
    # What does not fill the machine is left to the run that asks for it.
    other = in_full(student(mesh=dict(data=3, fsdp=1)))
    tried = [one.mesh for one in variations(other, open_cluster("h100:8"), microbatches=[1])]
    assert all(one.data * one.fsdp == 8 for one in tried)


def trace_in_parts(job):
    from distill.train.run import blame

    with blame("config.train"):
        make_train_step(job.learner, 0, microbatches=job.microbatches)


def test_advice_is_of_the_towers_that_are_trained():
    topology = Topology("v4:1x1x1", CHIPS["TPU v4"], (1, 1, 1), (False,) * 3, 2**30, ())
    memory = Memory(parameters=1, optimizer=1, teacher=1, temporaries=2**31, available=2**30)

    def advice(config, remat="none"):
        executed = dict.fromkeys(("", "image", "text"), Execution(remat, False))
        plan = Plan(memory, None, 1.0, 1.0, BATCH, 0.0, executed)
        return plan_advice(plan_figures(plan, in_full(config), topology, None))

    compared = advice(lit(train=dict(batch_size=64, total_steps=2), loss=dict(kind="softmax")))
    assert "config.loss.block=2; or config.model.text.remat=full" in compared
    assert "microbatches" not in compared and "image.remat" not in compared
    assert "block" not in advice(lit())
    matched = advice(student())
    assert "config.train.microbatches=2; or config.model.image.remat=full" in matched
    both = lit(teacher=None, model=PAIR, loss=dict(kind="softmax"))
    assert "config.model.image.remat=full and config.model.text.remat=full" in advice(both)
    assert "remat" not in advice(both, "full")
