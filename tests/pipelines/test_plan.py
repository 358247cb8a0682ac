"""Plans of tiny runs, as a user makes them."""

import copy
import importlib.util
import json
import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache
from support import REPOSITORY, TINY, run_command

from distill.errors import UserError
from pipelines.plan import FLAGS, main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("tpu_compiler"),
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="needs libtpu (the extra plan)"
    ),
]

EPOCHS = ("--config.train.total_steps=none", "--config.train.total_epochs=2")

DISTILL = """
def get_config():
    student = dict(family="vit", variant="mu/16", image_size=32, num_classes=8)
    return dict(
        model=student,
        teacher=dict(workdir="nowhere", dtype="bfloat16", model=dict(student, variant="Ti/16")),
        data=dict(source="folder:nowhere"),
        optimizer=dict(name="adam", learning_rate=1e-3),
        schedule=dict(kind="cosine", warmup_steps=1),
        train=dict(batch_size=16, total_epochs=2.0),
        mesh=dict(data=1, fsdp=4),
    )
"""


LIT = """
def get_config():
    tower = dict(family="vit", variant="Ti/16", depth=1, image_size=32, num_classes=8, head="gap")
    text = dict(width=32, depth=1, mlp_dim=64, heads=2, vocab=128, length=8, embed_dim=192)
    return dict(
        model=dict(family="pair", text=text),
        teacher=dict(workdir="nowhere", dtype="bfloat16", model=tower),
        loss=dict(kind="softmax", block=8),
        data=dict(
            source="folder:nowhere",
            captions=dict(path="nowhere.json", family="siglip2", length=8),
        ),
        optimizer=dict(name="adafactor"),
        schedule=dict(kind="cosine", warmup_steps=1),
        train=dict(batch_size=16, total_steps=100),
        mesh=dict(data=2, fsdp=2),
    )
"""

KEEPS_TEXT = """
def get_config():
    image = dict(family="vit", variant="mu/16", image_size=32, head="gap")
    text = dict(width=32, depth=1, mlp_dim=64, heads=2, vocab=262_144, length=8)
    return dict(
        model=dict(family="pair", image=image),
        teacher=dict(
            weights=dict(path="nowhere"), model=dict(family="pair", image=image, text=text)
        ),
        matching=dict(losses=dict(kl=0.0, embedding_cosine=1.0)),
        data=dict(source="folder:nowhere"),
        optimizer=dict(name="adam"),
        schedule=dict(kind="cosine", warmup_steps=1),
        train=dict(batch_size=16, total_steps=100),
        mesh=dict(data=4, fsdp=1),
    )
"""


def plan(*flags, config="configs/pretrain/digits.py"):
    return run_command("plan", f"--config={REPOSITORY / config}", *flags)


# The compiler for TPUs keeps nothing of what it compiled before.
ONE_BLOCK = dict(model__depth=1, model__head="gap")


def tiny(**overrides):
    return [f"--config.{k.replace('__', '.')}={v}" for k, v in (TINY | overrides).items()]


@pytest.fixture
def compiled_programs(tmp_path):
    """The directory in which JAX keeps whatever it compiles."""
    asked = {
        "jax_compilation_cache_dir": str(tmp_path / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in asked}
    for name, value in asked.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path / "compiled"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_a_plan_of_pretraining_says_what_fits_and_how_long_it_takes(tmp_path, compiled_programs):
    flags = [
        "--topology=v4:2x2x1",
        *tiny(mesh__data=2, mesh__fsdp=2, **ONE_BLOCK),
        f"--dump_hlo={tmp_path}",
        "--breakdown",
    ]
    done = plan(*flags)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert {"products", "attention", "norms", "optimizer"} <= rows
    for part in ("parameters", "optimizer", "temporaries", "estimated", "MFU", "chip-days"):
        assert part in done.stdout
    assert "is_scheduled=true" in (tmp_path / "step.hlo.txt").read_text()
    # It could not be loaded on this machine.
    assert not list(compiled_programs.glob("*train_step*"))
    jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8)))
    assert list(compiled_programs.iterdir())


def test_a_plan_of_distillation_counts_the_teacher(tmp_path):
    config = tmp_path / "distill.py"
    config.write_text(DISTILL)
    done = plan("--topology=v5e:2x2", "--json", "--train_images=800", config=config)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    memory = found["bytes_per_device"]
    parts = ("parameters", "optimizer", "teacher", "temporaries")
    assert memory["total"] == sum(memory[part] for part in parts) <= memory["available"]
    # Ti/16 in bfloat16, most of it cut in four: 5.97M parameters, less the classifier's change.
    assert memory["teacher"] == pytest.approx(5.9e6 * 2 / 4, rel=0.1)
    estimated = found["estimated"]
    exposed = estimated["exposed_communication_seconds"]
    assert estimated["step_seconds"] == pytest.approx(estimated["compute_seconds"] + exposed)
    assert estimated["days"] == pytest.approx(100 * estimated["step_seconds"] / 86400)
    assert estimated["chip_days"] == pytest.approx(4 * estimated["days"])


def test_a_plan_of_a_text_tower_counts_the_image_tower_that_is_locked(tmp_path):
    config = tmp_path / "lit.py"
    config.write_text(LIT)
    done = plan("--topology=v4:2x2x1", "--json", config=config)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    memory = found["bytes_per_device"]
    # A block of Ti and what is around it in bfloat16, cut in two but for some biases.
    block, around = 12 * 192**2, 16 * 16 * 3 * 192 + 4 * 192 + 192 * 8
    assert memory["teacher"] == pytest.approx((block + around) * 2 / 2, rel=0.05)
    # In float32: tokens and positions, 4 · 32² + 2 · 32 · 64 in the block, and the head.
    tower = (128 + 8) * 32 + 8192 + 32 * 192
    assert memory["parameters"] == pytest.approx(tower * 4 / 2, rel=0.1)
    assert found["remat_of"] == ["config.model.text"]
    assert found["estimated"]["mfu"] > 0


def test_a_plan_has_what_no_step_looks_at_in_memory(tmp_path):
    config = tmp_path / "keeps_text.py"
    config.write_text(KEEPS_TEXT)
    done = plan("--topology=v5e:2x2", "--json", config=config)
    assert done.returncode == 0, done.stderr
    memory = json.loads(done.stdout)["bytes_per_device"]
    table = 262_144 * 32 * 4
    assert table < memory["teacher"] < 1.1 * table
    # The student's own is kept, and has no moments.
    assert table < memory["parameters"] < 1.1 * table and memory["optimizer"] < table / 10
    # Without the teacher's in the sum there would be less than nothing.
    assert 0 < memory["temporaries"] < table


def test_what_does_not_fit_exits_1_and_says_what_to_change():
    large = dict(model__image_size=64, train__batch_size=2**17, mesh__data=4)
    flags = tiny(**ONE_BLOCK, **large)
    done = plan("--topology=v5e:2x2", *flags)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "GiB a chip are missing" in done.stderr
    assert "config.train.microbatches=2" in done.stderr


def test_a_sweep_prints_what_it_can_plan_best_first():
    meshes = "--sweep_meshes=4x1x1,3x1x1,1x4x1"
    done = plan(
        "--topology=v5e:2x2", *tiny(**ONE_BLOCK), "--sweep", meshes, "--sweep_microbatches=1"
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert sorted(row[0] for row in rows) == ["1x4x1", "4x1x1"]
    shares = [float(row[-1].rstrip("%")) for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert "left out" in done.stderr and "does not fill 4 device" in done.stderr


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--topology=v9:4x4"], "known are v4, v5p, v5e, v6e"),
        (["--topology=v4:4x4"], "needs 3 positive sizes"),
        (["--topology=v5e:64x64"], "is 4,096 chips; a slice of v5e has at most 256, 16 a side"),
        (["--topology=v6e:1x32"], "a slice of v6e has at most 256, 16 a side"),
        (["--topology=v4:32x16x16"], "is 8,192 chips; a slice of v4 has at most 4,096"),
        (["--topology=h100:8", "--breakdown"], "which h100:8 has none of"),
        (["--topology=h100:8", "--price=2", *EPOCHS], "give it too"),
        (["--topology=v5e:2x2", "--config.mesh.data=3"], "does not fill 4 device"),
        (["--topology=v5e:2x2", "--config.train.batch_size=30"], "cannot share evenly"),
        (["--topology=v5e:2x2", "--config.model.widht=3"], "did you mean"),
        (["--topology=v5e:2x2", "--config.model.attention=splash"], "config.model"),
        (["--topology=v5e:2x2", "--sweep", "--sweep_meshes=4x1"], "data x fsdp x tensor"),
        (["--topology=v5e:2x2", "--sweep", "--sweep_microbatches=0"], "a number above 0"),
        (["--topology=v5e:2x2", "--sweep", "--sweep_remat=ful"], "--sweep_remat"),
        (["--topology=v5e:2x2", "--sweep_remat=full"], "add --sweep"),
        (["--topology=v5e:2x2", "--dump_hlo=/dev/null/x"], "cannot write"),
        (["--topology=v5e:2x2", "--sweep", "--breakdown"], "of one program"),
    ],
)
def test_mistakes_are_explained(flags, message, monkeypatch):
    # Flags keep their values between calls within one process.
    monkeypatch.setattr("pipelines.plan.FLAGS", copy.deepcopy(FLAGS))
    with pytest.raises(UserError, match=re.escape(message)):
        main([f"--config={REPOSITORY}/configs/pretrain/digits.py", *flags])
