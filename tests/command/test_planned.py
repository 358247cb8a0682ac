"""What `distill plan` is asked to plan."""

import pytest

from distill.command.planned import load_config, mesh_sizes, positive
from distill.errors import UserError
from distill.runs.storing import StoreTargetsConfig


@pytest.mark.parametrize(
    ("config", "command"),
    [("head/depth", "train_head"), ("scaling/digits", "scaling_study"), ("finetune/digits", "fin")],
)
def test_configs_of_other_commands_are_named(config, command):
    with pytest.raises(UserError, match=f"for distill {command}.*pretrain, distill_student"):
        load_config(f"configs/{config}.py", {})


def test_storing_takes_the_config_of_a_distillation():
    config = load_config("configs/distill/b16_from_22b.py", {"store.top_k": "10"}, storing=True)
    assert isinstance(config, StoreTargetsConfig) and config.store.top_k == 10
    with pytest.raises(UserError, match="--store_targets takes one of distill_student"):
        load_config("configs/pretrain/digits.py", {}, storing=True)


def test_meshes_and_numbers_are_read():
    assert mesh_sizes("2x4x1", ("data", "fsdp", "tensor")) == dict(data=2, fsdp=4, tensor=1)
    assert positive("3") == 3
    for text in ("2x4", "2x4x0", "axbxc"):
        with pytest.raises(UserError, match="16x64x1"):
            mesh_sizes(text, ("data", "fsdp", "tensor"))
    with pytest.raises(UserError, match="above 0"):
        positive("0")
