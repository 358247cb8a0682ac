"""A plan of storing teachers' answers, as figures and as a table."""

import dataclasses
from typing import Any

from distill.estimate.machines import Machine
from distill.estimate.plan import GIB, Plan
from distill.estimate.storing import StoringPlan
from distill.report.plan import ABOUT, cost_of, device_word, digits, machine_words
from distill.runs.storing import StoreTargetsConfig


def storing_figures(
    plan: StoringPlan, config: StoreTargetsConfig, machine: Machine, price: float | None = None
) -> dict[str, Any]:
    """A plan as JSON has it: bytes, and estimated seconds.

    Args:
      plan: what was found.
      config: of the command.
      machine: what it was planned for.
      price: US dollars of a chip for an hour.
    """

    def work(step: Plan, seconds: float | None) -> dict[str, Any]:
        found: dict[str, Any] = {
            "bytes_per_device": dataclasses.asdict(step.memory) | {"total": step.memory.total},
            "fits": step.cost is not None,
        }
        if step.cost is None or seconds is None:
            return found
        chip_days = seconds / 86400 * machine.chips
        return found | {
            "batch_seconds": step.cost.seconds,
            "hours": seconds / 3600,
            "chip_days": chip_days,
            **({} if price is None else cost_of(chip_days, price)),
        }

    return {
        "topology": machine.name,
        "chips": machine.chips,
        "devices": machine.device_count,
        "mesh": config.mesh.sizes(machine.device_count),
        "method": plan.live.method,
        "about_method": ABOUT[plan.live.method],
        "arrays": {name: [kind, list(shape)] for name, (kind, shape) in plan.arrays.items()},
        "bytes_per_view": plan.record_bytes,
        "views": plan.views,
        "stored_bytes": plan.stored_bytes,
        "writing_hours": plan.writing_seconds / 3600,
        "storing": work(plan.asking, plan.storing_seconds),
        "training_on_stored": work(plan.replaying, plan.training_seconds(plan.replaying)),
        "training_with_teacher": work(plan.live, plan.training_seconds(plan.live)),
        "saves_from_training": pays_from(plan),
    }


def pays_from(plan: StoringPlan) -> int | None:
    """How many trainings it takes for storing to have been worth it; None where it never is."""
    storing, live = plan.storing_seconds, plan.training_seconds(plan.live)
    replaying = plan.training_seconds(plan.replaying)
    if storing is None or live is None or replaying is None or live <= replaying:
        return None
    return int(storing / (live - replaying)) + 1


def storing_table(found: dict[str, Any]) -> str:
    """A plan for people."""
    mesh = " × ".join(f"{axis} {size}" for axis, size in found["mesh"].items())
    arrays = ", ".join(
        f"{name} {kind}[{', '.join(map(str, shape))}]"
        for name, (kind, shape) in found["arrays"].items()
    )
    lines = [
        f"{found['topology']}: {machine_words(found)} as {mesh}",
        f"{found['views']:,} views of {found['bytes_per_view']:,} bytes: "
        f"{digits(found['stored_bytes'] / GIB, 1)} GiB ({arrays})",
        "",
        f"{found['about_method']}",
        "",
    ]
    priced = "usd" in found["training_with_teacher"]
    unit = f"GiB/{device_word(found)}"
    header = f"{'':<22}  {unit}   batch s      hours  chip-days"
    lines.append(header + ("         USD" if priced else ""))
    names = {
        "storing": "storing",
        "training on it": "training_on_stored",
        "training with teacher": "training_with_teacher",
    }
    for name, key in names.items():
        one = found[key]
        total = one["bytes_per_device"]["total"] / GIB
        line = f"{name:<22}  {total:>{len(unit)}.2f}"
        if "hours" in one:
            line += (
                f"  {digits(one['batch_seconds'], 3):>8}  {digits(one['hours'], 1):>9}"
                f"  {digits(one['chip_days'], 1):>9}"
            )
            if "usd" in one:
                line += f"  {digits(one['usd'], 0):>10}"
        else:
            line += "  does not fit"
        lines.append(line)
    lines.append("")
    if (count := found["saves_from_training"]) is not None:
        lines.append(f"storing saves time from training number {count} on")
    elif all("hours" in found[key] for key in names.values()):
        lines.append("storing saves no time: training on it takes as long")
    lines.append(
        f"one process writes for {digits(found['writing_hours'], 2)} hours meanwhile, at the speed "
        "measured on an AMD EPYC; reading images is not counted"
    )
    return "\n".join(lines)
