"""Rooflines of tiny runs, and of one that no machine here could hold."""

import dataclasses

import pytest

from distill.config import load_file, resolve
from distill.errors import UserError
from distill.estimate.jobs import in_full, make_plan
from distill.estimate.machines import open_machine
from distill.estimate.roofline import PRODUCTS, TRAFFIC, local_mesh
from distill.estimate.storing import BYTE_SECONDS, ENVELOPE, RECORD_SECONDS, plan_storing
from distill.parallel import MeshConfig
from distill.report.plan import digits, plan_advice, plan_figures, plan_table, sweep_table
from distill.report.storing_plan import storing_figures, storing_table
from distill.runs.distillation import DistillConfig
from distill.runs.pretraining import PretrainConfig
from distill.runs.storing import StoreTargetsConfig

SHAPE = dict(image_size=32, width=64, depth=2, mlp_dim=128, heads=2, head="gap", num_classes=10)
STUDENT = dict(family="vit", variant="mu/8", **SHAPE)
TEACHER = STUDENT | dict(width=256, mlp_dim=1024, num_classes=10)
RUN = dict(
    data=dict(source="folder:nowhere"),
    optimizer=dict(name="adam", learning_rate=1e-3),
    schedule=dict(kind="cosine", warmup_steps=1),
    train=dict(batch_size=64, total_steps=100),
    mesh=dict(data=2, fsdp=4),
)
NODE = "h100:8"


def distilled(schema=DistillConfig, **more):
    teacher = dict(workdir="nowhere", dtype="bfloat16", model=TEACHER) | more.pop("teacher", {})
    return in_full(resolve(schema, RUN | dict(model=STUDENT, teacher=teacher) | more))


def planned(config, machine=NODE):
    return make_plan(config, open_machine(machine), 100)


def test_state_is_exact_and_products_take_their_share_of_the_peak():
    config = resolve(PretrainConfig, RUN | dict(model=STUDENT | dict(dtype="bfloat16")))
    plan, chip = planned(config), open_machine(NODE).chip
    # Weights and the second moment in float32, the first in bfloat16; most are cut in four.
    whole = 4 * config.model.network().parameter_count()
    assert whole / 4 <= plan.memory.parameters < whole / 2
    assert 1.5 * plan.memory.parameters <= plan.memory.optimizer < 1.51 * plan.memory.parameters
    assert plan.memory.teacher == 0 < plan.memory.temporaries
    assert plan.method == "roofline"
    least = plan.flops_per_device / (PRODUCTS * chip.peak_flops)
    state = 2 * (2 * plan.memory.parameters + plan.memory.optimizer)
    assert plan.cost.compute >= least + state / (TRAFFIC * chip.hbm_bandwidth)
    assert plan.cost.hidden == 0 < plan.cost.exposed


def test_what_is_left_open_is_chosen_by_the_memory_of_the_gpu():
    config = resolve(PretrainConfig, RUN | dict(model=STUDENT))
    (small,) = planned(config).executions.values()
    assert (small.remat, small.unroll) == ("none", False) and "80.0 GiB" in small.why
    wide = STUDENT | dict(width=1024, mlp_dim=4096, depth=24, heads=16, image_size=224)
    train = RUN["train"] | dict(batch_size=8192)
    large = planned(resolve(PretrainConfig, RUN | dict(model=wide, train=train)))
    assert [one.remat for one in large.executions.values()] == ["full"]
    named = planned(
        resolve(PretrainConfig, RUN | dict(model=wide | dict(remat="full"), train=train))
    )
    assert large.memory == named.memory


def test_a_batch_twice_as_large_keeps_twice_as_much_alive():
    config = resolve(PretrainConfig, RUN | dict(model=STUDENT))
    larger = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=4096))
    twice = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=8192))
    found = [planned(one).memory.temporaries for one in (larger, twice)]
    assert found[1] / found[0] == pytest.approx(2.0, rel=0.05)


@pytest.mark.slow
def test_nodes_talk_by_the_network():
    config = distilled(mesh=dict(data=1, fsdp=-1))
    one = planned(config, "h100:8").cost.exposed
    assert planned(config, "h100:8x2").cost.exposed > one
    assert planned(config, "b200:8").cost.exposed < one


def test_a_teacher_in_int8_is_faster_and_smaller():
    exact, rounded = (planned(distilled(teacher=dict(quantize=q))) for q in (None, "int8"))
    assert rounded.memory.teacher < 0.6 * exact.memory.teacher
    assert rounded.cost.compute < exact.cost.compute
    found = plan_figures(rounded, distilled(teacher=dict(quantize="int8")), open_machine(NODE), 9)
    assert found["int8_teachers"] == ["config.teacher"]
    assert "of the peak in bfloat16" in plan_table(found, 9)


def test_a_student_has_the_classes_of_a_teacher_where_its_config_says_none():
    config = distilled(model=STUDENT | dict(num_classes=None))
    assert config.model.num_classes == 10


@pytest.mark.parametrize(
    "mesh, advice",
    [(dict(tensor=2), r"mesh\.tensor=1"), (dict(axes=(("expert", 2),)), r"mesh\.axes='\(\)'")],
)
def test_meshes_that_have_no_roofline_are_refused(mesh, advice):
    with pytest.raises(UserError, match=advice):
        local_mesh(MeshConfig(**mesh))


@pytest.mark.parametrize(
    "value, decimals, shown",
    [
        (12.2703, 3, "12.270"),
        (0.0, 3, "0.000"),
        (0.019, 3, "0.019"),
        (0.000434, 3, "0.00043"),
        (5.34, 0, "5.3"),
        (25_739.2, 0, "25,739"),
        (0.04, 1, "0.040"),
    ],
)
def test_small_numbers_keep_two_digits(value, decimals, shown):
    assert digits(value, decimals) == shown


def test_numbers_of_a_table_have_the_decimals_of_its_largest():
    assert digits(0.000434, 3, 0.00134) == "0.0004"
    assert digits(0.0021, 3, 2.715) == "0.002"


def test_what_it_says_is_called_a_roofline_and_has_a_price():
    config, machine = distilled(), open_machine(NODE)
    found = plan_figures(planned(config), config, machine, 100, price=2.5)
    table = plan_table(found, 100)
    assert "roofline, not a schedule" in table and "traced in" in table
    assert found["method"] == "roofline" and "not a schedule" in found["about_method"]
    estimated = found["estimated"]
    assert estimated["usd"] == pytest.approx(8 * 100 * estimated["step_seconds"] / 3600 * 2.5)
    assert "US dollars at 2.5 for an hour of a chip" in table
    assert sweep_table([found]).splitlines()[1].endswith("USD")
    assert "USD" not in sweep_table([plan_figures(planned(config), config, machine, 100)])
    assert "USD" not in sweep_table([plan_figures(planned(config), config, machine, None, 2.5)])


def test_a_step_that_does_not_fit_says_so():
    config = distilled(train=dict(batch_size=2**23, total_steps=1))
    plan = planned(config)
    assert plan.cost is None and not plan.memory.fits
    found = plan_figures(plan, config, open_machine(NODE), 1)
    assert "GiB a chip are missing" in plan_advice(found)


@pytest.mark.slow
def test_vit_22b_is_planned_without_being_there():
    tree = load_file("configs/distill/b16_from_22b.py")
    config = in_full(resolve(DistillConfig, tree))
    plan = make_plan(config, open_machine("h100:8x16"), None, 1_000_000)
    # 21.7 billion parameters in bfloat16, whole on every GPU as the config has it.
    assert plan.memory.teacher == pytest.approx(21.7e9 * 2, rel=0.03)
    assert 0.4 < plan.mfu < PRODUCTS


def storing(**store):
    config = distilled(StoreTargetsConfig, store=dict(epochs=3.0) | store)
    return config, plan_storing(config, open_machine(NODE), 1000, 640)


def test_what_is_stored_is_known_to_the_byte():
    config, plan = storing()
    # Epoch, index, partner, box, flip, share; and ten logits in float16.
    record = 3 * 8 + 4 * 8 + 1 + 4 + 10 * 2
    assert (plan.record_bytes, plan.views) == (record, 30 * 64)
    assert plan.stored_bytes == 1920 * (record + ENVELOPE)
    assert plan.writing_seconds == pytest.approx(1920 * (RECORD_SECONDS + record * BYTE_SECONDS))
    found = storing_figures(plan, config, open_machine(NODE), price=1.0)
    assert found["arrays"] == {"logits/teacher": ["float16", [10]]}
    kept = storing(top_k=3)[1]
    assert kept.record_bytes == record - 20 + 3 * 2 + 3 * 4 + 2


@pytest.mark.slow
def test_training_on_what_is_stored_has_no_teacher_and_saves_its_time():
    config, plan = storing()
    assert plan.replaying.memory.teacher == 0 < plan.live.memory.teacher
    assert plan.asking.memory.parameters == plan.asking.memory.optimizer == 0
    assert plan.asking.memory.teacher == plan.live.memory.teacher
    seconds = [one.cost.seconds for one in (plan.asking, plan.replaying, plan.live)]
    assert max(seconds[:2]) < seconds[2] < 1.1 * sum(seconds[:2])
    found = storing_figures(plan, config, open_machine(NODE), price=1.0)
    # A thousand steps, of which thirty are stored.
    assert found["saves_from_training"] == 1
    table = storing_table(found)
    for part in ("1,920 views of 81 bytes", "roofline", "USD", "from training number 1 on"):
        assert part in table


@pytest.mark.slow
def test_storing_for_longer_than_a_training_pays_later():
    config = distilled(StoreTargetsConfig, store=dict(epochs=250.0))
    plan = plan_storing(config, open_machine(NODE), 1000, 640)
    assert storing_figures(plan, config, open_machine(NODE))["saves_from_training"] > 1
