"""A config that is given to the wrong command is told whose it is."""

import pytest
from support import run_command

from distill.command.kind import command_of, family_of
from distill.config import load_file
from distill.shipped import shipped_configs


@pytest.mark.parametrize(
    ("command", "config", "overrides", "message"),
    [
        ("pretrain", "distill/digits", [], "this is a config for distill distill_student: it has"),
        ("pretrain", "finetune/digits", [], "this is a config for distill finetune: it has start"),
        ("distill_student", "pretrain/digits", [], "for distill pretrain: it has no teacher"),
        ("store_targets", "pretrain/digits", [], "for distill pretrain: it has no teacher"),
        ("finetune", "pretrain/digits", [], "for distill pretrain: it has no start"),
        ("finetune", "distill/digits", [], "this is a config for distill distill_student: it has"),
        (
            "finetune",
            "evaluate/transfer",
            [],
            "this is a config for distill evaluate: it has evals",
        ),
        ("pretrain", "scaling/digits", [], "this is a config for distill scaling_study: it has"),
    ],
)
def test_a_config_of_another_command_says_which(command, config, overrides, message, tmp_path):
    done = run_command(command, f"--config={config}", f"--workdir={tmp_path}/run", *overrides)
    assert done.returncode == 2
    assert message in done.stderr
    # What is wrong with it stays to be read.
    assert "in the config\n  config" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_mistake_in_a_command_s_own_config_is_that_alone(tmp_path):
    flags = [f"--workdir={tmp_path}/run", "--config.seed=many"]
    for command, config in {
        "pretrain": "pretrain/digits",
        "distill_student": "distill/digits",
        # What makes it the command's own may be said on the command line.
        "store_targets": "pretrain/digits --config.teacher.workdir=t",
    }.items():
        done = run_command(command, *f"--config={config}".split(), *flags)
        assert done.returncode == 2
        assert "config.seed" in done.stderr and "this is a config for" not in done.stderr


def test_every_shipped_config_is_for_the_command_of_its_folder():
    commands = {
        "pretrain": "pretrain",
        "distill": "distill_student",
        "finetune": "finetune",
        "evaluate": "evaluate",
        "scaling": "scaling_study",
        "head": "train_head",
    }
    for name in shipped_configs():
        folder = name.partition("/")[0]
        if folder in commands:
            tree = load_file(name)
            command = "train_pair" if family_of(tree) == "pair" else commands[folder]
            if folder == "distill":
                command = "distill_student"
            assert command_of(tree.keys(), family_of(tree)) == command, name
