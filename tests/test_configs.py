"""Every config resolves, and its models fit together, without allocating memory."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from support import REPOSITORY

from distill.command.kind import family_of
from distill.config import load_file, resolve, to_dict
from distill.data.batch_spec import abstract_batch
from distill.errors import UserError
from distill.estimate.jobs import in_full, make_job
from distill.optim import make_optimizer, make_schedule
from distill.parallel import MeshConfig, make_mesh
from distill.runs.distillation import DistillConfig
from distill.runs.evaluated import EvaluateConfig
from distill.runs.heads import HeadTrainingConfig
from distill.runs.pairs import PairTrainingConfig
from pipelines.finetune import FinetuneConfig
from pipelines.pretrain import PretrainConfig

CONFIGS = REPOSITORY / "configs"
SCHEMAS = {"pretrain": PretrainConfig, "distill": DistillConfig, "finetune": FinetuneConfig}
SCHEMAS_OF_PAIRS = SCHEMAS | {"pretrain": PairTrainingConfig}
FILES = sorted(
    path.relative_to(CONFIGS) for kind in SCHEMAS for path in (CONFIGS / kind).glob("[!_]*.py")
)
VARIANTS = [str(path) for path in FILES] + [
    "pretrain/vit_g14.py:g/14",
    "pretrain/vit_g14.py:e/14",
    "distill/digits.py:embedding",
    "distill/textured_scenes.py:tokens",
    "distill/imagenet.py:fast",
    "distill/imagenet.py:9600",
    "distill/published.py:logits",
    "distill/dense.py:gram",
    *(f"distill/downstream.py:{data}/fast" for data in ("flowers", "pets", "food", "sun")),
    *(f"distill/downstream.py:flowers/{speed}" for speed in ("medium", "long")),
    "finetune/imagenet.py:518",
    "pretrain/lit_coco.py:softmax",
    "distill/siglip_student.py:B/16",
]
# What the runs that fine-tuning starts from have trained.
STARTS = {
    "finetune/digits.py": "pretrain/digits.py",
    "finetune/imagenet.py": "pretrain/imagenet.py",
    "finetune/imagenet.py:518": "pretrain/vit_g14.py",
}
# What runs and published weights that configs leave to the user to name may hold.
TOWER = dict(family="vit", variant="B/16", num_classes=0)
TEACHERS = {
    "distill/scenes": load_file("pretrain/scenes")["model"],
    "pretrain/lit_coco": TOWER,
    "distill/published": TOWER | dict(num_classes=1000),
    "distill/dense": TOWER | dict(variant="B/14"),
    "distill/siglip_student": dict(
        family="pair",
        image=TOWER,
        text=dict(variant="B", vocab=32_000, length=64, embed_dim=768),
        bias=True,
    ),
}
IMAGES = {
    "digits": 1197,
    "tfds:coco_captions": 82_783,
    "tfds:imagenet2012": 1_255_544,
    "tfds:oxford_flowers102": 1020,
    "tfds:oxford_iiit_pet": 3312,
    "tfds:food101": 68_175,
    "tfds:sun397": 76_128,
}


def test_the_promised_configs_are_there():
    promised = {
        "pretrain/digits.py",
        "pretrain/scenes.py",
        "pretrain/textured_scenes.py",
        "pretrain/folder.py",
        "pretrain/imagenet.py",
        "pretrain/lit_22b.py",
        "pretrain/lit_coco.py",
        "pretrain/vit_g14.py",
        "pretrain/vit_22b.py",
        "finetune/digits.py",
        "finetune/imagenet.py",
        "distill/digits.py",
        "distill/scenes.py",
        "distill/textured_scenes.py",
        "distill/downstream.py",
        "distill/imagenet.py",
        "distill/published.py",
        "distill/dense.py",
        "distill/siglip_student.py",
        "distill/b16_from_22b.py",
        "distill/b16_from_so400m.py",
        "distill/l16_from_22b.py",
    }
    assert promised <= set(map(str, FILES))


@pytest.mark.parametrize("spec", VARIANTS)
def test_config_resolves_and_its_shapes_evaluate(spec):
    tree = load_file(str(CONFIGS / spec))
    if spec in STARTS:
        tree["model"] = load_file(str(CONFIGS / STARTS[spec]))["model"] | tree["model"]
    if teacher := TEACHERS.get(spec.partition(".py")[0]):
        tree["teacher"]["model"] = teacher
    schemas = SCHEMAS_OF_PAIRS if family_of(tree) == "pair" else SCHEMAS
    config = in_full(resolve(schemas[Path(spec).parts[0]], tree))
    # Those that leave it to the data.
    config = dataclasses.replace(config, model=config.model.with_classes(1000))
    assert resolve(type(config), to_dict(config)) == config

    network = config.model.network()
    images = IMAGES.get(config.data.source, 10**8)
    steps = config.train.steps(images)
    optimizer = make_optimizer(
        config.optimizer,
        make_schedule(config.schedule, steps, batch_size=config.train.batch_size, images=images),
        network.abstract_params,
        network.axes,
    )
    jax.eval_shape(optimizer.init, network.abstract_params)
    networks = [network]
    if isinstance(config, DistillConfig) and config.teacher.model is not None:
        networks.append(config.teacher.model.network())
    views = jax.ShapeDtypeStruct((2, 384, 384, config.model.channels), jnp.uint8)
    for each in networks:
        outputs = jax.eval_shape(
            lambda params, images, each=each: each.apply(params, each.prepare(images)),
            each.abstract_params,
            views,
        )
        assert outputs.logits.shape == (2, network.config.num_classes)
        assert outputs.embedding.shape == (2, each.config.embedding_width)
        assert outputs.tokens.shape == (
            2,
            each.config.grid[0] * each.config.grid[1],
            each.config.width,
        )


def test_the_pair_on_scenes_and_its_student_fit_together():
    pair = resolve(PairTrainingConfig, load_file(str(CONFIGS / "pretrain/scenes.py")))
    assert resolve(type(pair), to_dict(pair)) == pair
    assert pair.data.captions.vocab == pair.model.text.vocab
    student = resolve(DistillConfig, load_file(str(CONFIGS / "distill/scenes.py")))
    assert student.model.text is None
    own = dataclasses.replace(student.model, text=pair.model.text)
    teacher, student = (one.build().abstract_params for one in (pair.model, own))
    whole, small = (
        sum(x.size for name in params if name != "text" for x in jax.tree.leaves(params[name]))
        for params in (teacher, student)
    )
    assert 5 * small <= whole


@pytest.mark.parametrize("choice", ["tokens", "gram"])
def test_the_dense_student_is_compared_with_tokens_of_another_grid_and_width(choice):
    tree = load_file(str(CONFIGS / f"distill/dense.py:{choice}"))
    tree["teacher"]["model"] = TEACHERS["distill/dense"]
    tree["matching"]["standardise"] = "phi_s"
    job = make_job(resolve(DistillConfig, tree), make_mesh(MeshConfig(), jax.devices()[:1]), None)
    batch = abstract_batch(job.examples, 2)
    prepared = jax.eval_shape(job.task.prepare, job.frozen, batch, jax.random.key(0))
    assert prepared.teachers["tokens"]["teacher"].shape == (2, 256, 768)
    loss, terms = jax.eval_shape(job.task.loss, job.network.abstract_params, prepared)
    wanted = {"embedding_cosine", "tokens_cosine", "tokens_smooth_l1"}
    assert loss.shape == () and terms.keys() == wanted | ({"tokens_gram"} & {f"tokens_{choice}"})
    assert prepared.teachers.keys() == {"embedding", "tokens"}


def test_the_published_lengths_come_out():
    config = resolve(PretrainConfig, load_file(str(CONFIGS / "pretrain/imagenet.py")))
    # 90 epochs of 99% of ImageNet's 1,281,167 images in batches of 4096.
    assert config.train.steps(1_268_355) == 27_869
    config = resolve(PretrainConfig, load_file(str(CONFIGS / "pretrain/vit_22b.py")))
    assert (config.train.batch_size, config.train.steps(1)) == (65_536, 177_000)


def test_patience_is_as_published():
    long = resolve(DistillConfig, load_file(str(CONFIGS / "distill/downstream.py:flowers/long")))
    assert long.train.steps(1020) == 1_992_187
    assert (long.matching.temperature, long.optimizer.learning_rate) == (1.0, 3e-4)
    fast = resolve(DistillConfig, load_file(str(CONFIGS / "distill/downstream.py:sun/fast")))
    assert (fast.train.total_epochs, fast.matching.temperature) == (100, 10.0)
    with pytest.raises(UserError, match="expected one of flowers, pets, food, sun"):
        load_file(str(CONFIGS / "distill/downstream.py:flowers/slow"))
    for patience, epochs in {"fast": 300, "medium": 600, "long": 1200, "9600": 9600}.items():
        config = resolve(DistillConfig, load_file(str(CONFIGS / f"distill/imagenet.py:{patience}")))
        assert config.train.total_epochs == epochs
    with pytest.raises(UserError, match="expected fast, medium, long or a number of epochs"):
        load_file(str(CONFIGS / "distill/imagenet.py:ages"))


@pytest.mark.parametrize("name", ["segmentation", "depth"])
def test_heads_resolve_and_their_schedules_fit(name):
    tree = load_file(f"head/{name}")
    # Which model it is on is the user's to say.
    tree["tower"] = {"weights": {"path": "weights"}}
    config = resolve(HeadTrainingConfig, tree)
    assert resolve(HeadTrainingConfig, to_dict(config)) == config
    assert config.head.task == name and config.head.learn == "trained"
    steps = config.train.steps(10**6)
    schedule = make_schedule(config.schedule, steps)
    assert float(schedule(config.schedule.warmup_steps)) == 1 and float(schedule(steps)) < 1e-6


# Evaluations of the run's own data, unless an argument names other; the others name theirs.
ON_THE_RUNS_DATA = ("splits", "transfer")


@pytest.mark.parametrize("file", sorted((CONFIGS / "evaluate").glob("[!_]*.py")))
def test_what_is_evaluated_resolves(file):
    evals = resolve(EvaluateConfig, load_file(str(file))).evals
    named = file.stem not in ON_THE_RUNS_DATA
    assert evals and all(one.names_data == named for one in evals.values())


@pytest.mark.parametrize(
    ("name", "argument", "sources"),
    [
        ("splits", "folder:/data/flowers", {"folder:/data/flowers"}),
        ("human_alignment", "/data/datasets", {"images:/data/datasets"}),
        ("celeba", "/data/celeba", {"images:/data/celeba/img_align_celeba"}),
        ("celeba", "tfds:celeb_a", {"tfds:celeb_a"}),
    ],
)
def test_the_argument_of_an_evaluation_names_its_images(name, argument, sources):
    evals = resolve(EvaluateConfig, load_file(f"evaluate/{name}:{argument}")).evals
    assert {one.source for one in evals.values()} == sources


@pytest.mark.parametrize(
    ("config", "model_classes"), [("imagenet_robustness", None), ("zeroshot", "in_order")]
)
def test_the_sets_of_imagenet_are_those_of_their_names(config, model_classes):
    evals = resolve(EvaluateConfig, load_file(f"evaluate/{config}:/data")).evals
    assert {one.model_classes for one in evals.values()} == {model_classes}
    assert {name: one.label_space for name, one in evals.items()} == {name: name for name in evals}
    assert evals["imagenet_a"].source == "images:/data/imagenet-a"
