"""A plan as figures, as a table and as advice."""

import dataclasses
import math
import resource
from typing import Any

from distill.estimate.jobs import (
    Planned,
    block_of,
    int8_teachers,
    takes_microbatches,
    trained_towers,
)
from distill.estimate.machines import Machine
from distill.estimate.plan import GIB, Method, Plan
from distill.estimate.roofline import PRODUCTS, TRAFFIC

_MEMORY = {"schedule": "memory of a {}", "roofline": "memory of a {}, traced"}
_TIME = {"schedule": "time of a step, estimated", "roofline": "roofline, not a schedule"}
ABOUT: dict[Method, str] = {
    "schedule": "memory is the compiler's; seconds are estimates from its schedule",
    "roofline": "roofline, not a schedule: memory is what a trace keeps alive beside the exact "
    f"state; products at {PRODUCTS:.0%} of the peak, memory at {TRAFFIC:.0%} of its bandwidth, "
    "both assumed; no communication is hidden",
}


def plan_figures(
    plan: Plan,
    config: Planned,
    topology: Machine,
    steps: int | None,
    price: float | None = None,
) -> dict[str, Any]:
    """A plan as JSON has it: bytes of a device, and estimated seconds.

    Args:
      plan: of the step.
      config: of the run.
      topology: what it was planned for.
      steps: the run's length, if it is known.
      price: US dollars of a chip for an hour.
    """
    memory, towers = dataclasses.asdict(plan.memory), trained_towers(config)
    executed = {
        key: plan.executions[key.removeprefix("config.model").removeprefix(".")] for key in towers
    }
    found = {
        "topology": topology.name,
        "chips": topology.chips,
        "devices": topology.device_count,
        "mesh": config.mesh.sizes(topology.device_count),
        "remat": ", ".join(dict.fromkeys(one.remat for one in executed.values())),
        "remat_chosen": {key: one.why for key, one in executed.items() if one.why},
        "remat_keep": [*dict.fromkeys(kept for one in towers.values() for kept in one.remat_keep)],
        "remat_of": list(towers),
        "takes_microbatches": takes_microbatches(config),
        "block_of": block_of(config),
        "microbatches": config.train.microbatches,
        "batch_size": config.train.batch_size,
        "fits": plan.memory.fits,
        "bytes_per_device": memory | {"total": plan.memory.total},
        "method": plan.method,
        "about_method": ABOUT[plan.method],
        "int8_teachers": int8_teachers(config),
        "compile_seconds": round(plan.compile_seconds, 1),
        "peak_host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if plan.cost is not None:
        seconds = plan.cost.seconds
        found["estimated"] = {
            "compute_seconds": plan.cost.compute,
            "hidden_communication_seconds": plan.cost.hidden,
            "exposed_communication_seconds": plan.cost.exposed,
            "step_seconds": seconds,
            "images_per_second": plan.images_per_second,
            "mfu": plan.mfu,
            "kernels_without_estimate": plan.unestimated_kernels,
        }
        if steps is not None:
            days = steps * seconds / 86400
            found["estimated"] |= {"days": days, "chip_days": days * topology.chips}
            if price is not None:
                found["estimated"] |= cost_of(days * topology.chips, price)
    return found


def cost_of(chip_days: float, price: float) -> dict[str, float]:
    """What so many days of a chip cost at a price in US dollars for an hour."""
    return {"usd_per_chip_hour": price, "usd": chip_days * 24 * price}


def plan_table(found: dict[str, Any], steps: int | None) -> str:
    """A plan for people; `steps` is the length of the run, if it is known."""
    memory, unit = found["bytes_per_device"], device_word(found)
    mesh = " × ".join(f"{axis} {size}" for axis, size in found["mesh"].items())
    lines = [
        f"{found['topology']}: {machine_words(found)} as {mesh}; batch {found['batch_size']:,} in "
        f"{found['microbatches']} part(s), remat {found['remat']}",
        *(f"{key}.remat: {why}" for key, why in found["remat_chosen"].items()),
        "",
        f"{_MEMORY[found['method']].format(unit):<30}GiB",
    ]
    whole = memory["total"] / GIB
    rows = ["parameters", "optimizer", "teacher", "temporaries", "total", "available"]
    lines += [f"  {row:<24}{digits(memory[row] / GIB, 2, whole):>9}" for row in rows]
    if "estimated" in found:
        estimated = found["estimated"]
        lines += ["", f"{_TIME[found['method']]:<32}s"]
        names = {
            "compute": "compute_seconds",
            "communication, hidden": "hidden_communication_seconds",
            "communication, exposed": "exposed_communication_seconds",
            "step": "step_seconds",
        }
        step = estimated["step_seconds"]
        lines += [
            f"  {name:<24}{digits(estimated[key], 3, step):>9}" for name, key in names.items()
        ]
        lines += [
            "",
            f"estimated {estimated['images_per_second']:,.0f} images/s, MFU {estimated['mfu']:.1%}"
            + (", of the peak in bfloat16" if found["int8_teachers"] else "")
            + (
                f"; {steps:,} steps take {digits(estimated['days'], 1)} days, "
                f"{digits(estimated['chip_days'], 0)} chip-days" + _dollars(estimated)
                if "days" in estimated
                else "; --train_images=N gives the time of the whole run"
            ),
        ]
        if kernels := estimated["kernels_without_estimate"]:
            lines.append(
                f"{kernels} kernels (splash attention) have no estimate: only their memory traffic "
                "is counted, and the step takes longer; config.model.attention=plain does without"
            )
    if found["method"] == "roofline":
        lines.append(found["about_method"])
    host = found["peak_host_bytes"] / GIB
    done = "compiled" if found["method"] == "schedule" else "traced"
    lines.append(f"{done} in {found['compile_seconds']:.0f} s; host memory {host:.1f} GiB at most")
    return "\n".join(lines)


def digits(value: float, decimals: int, beside: float | None = None) -> str:
    """A number of so many decimals, or of more where fewer than two digits would be left of it.

    Args:
      value: 0 or more.
      decimals: at least.
      beside: the largest number of its table, of which two digits are to be left; itself for None.
    """
    largest = value if beside is None else beside
    if largest > 0:
        decimals = max(decimals, 1 - math.floor(math.log10(largest)))
    return f"{value:,.{decimals}f}"


def device_word(found: dict[str, Any]) -> str:
    """What memory is of: a chip, or where that is several devices, a device."""
    return "chip" if found["devices"] == found["chips"] else "device"


def machine_words(found: dict[str, Any]) -> str:
    """How many chips there are, and how many devices, where that is another number."""
    chips, devices = found["chips"], found["devices"]
    said = f"{chips} chip{'s' * (chips != 1)}"
    return said if devices == chips else f"{said} of {devices // chips} devices"


def _dollars(estimated: dict[str, Any]) -> str:
    """What the run costs, where a price is given."""
    if "usd" not in estimated:
        return ""
    price = estimated["usd_per_chip_hour"]
    return f", {digits(estimated['usd'], 0)} US dollars at {price:g} for an hour of a chip"


def plan_advice(found: dict[str, Any]) -> str:
    """What to say of a step that does not fit."""
    memory, unit = found["bytes_per_device"], device_word(found)
    missing = (memory["total"] - memory["available"]) / GIB
    ways = []
    if memory["temporaries"] > memory["total"] / 2:
        parts = found["mesh"]["data"] * found["mesh"]["fsdp"] * 2 * found["microbatches"]
        if found["takes_microbatches"] and found["batch_size"] % parts == 0:
            ways.append(f"config.train.microbatches={2 * found['microbatches']}")
        if found["block_of"] and found["batch_size"] % 32 == 0:
            ways.append(f"{found['block_of']}={found['batch_size'] // 32}")
        keys = found["remat_of"]
        if found["remat"] != "full":
            ways.append(" and ".join(f"{key}.remat=full" for key in keys))
        elif found["remat_keep"]:
            ways.append(" and ".join(f"{key}.remat_keep=()" for key in keys))
    if found["mesh"]["data"] > 1:
        ways.append("a larger config.mesh.fsdp in place of config.mesh.data")
    ways.append("a larger slice or a smaller config.train.batch_size")
    return f"the step does not fit: {missing:.2f} GiB a {unit} are missing. Try " + "; or ".join(
        ways
    )


def sweep_table(results: list[dict[str, Any]]) -> str:
    """All plans of a sweep, best first; with a price, that is the cheapest."""

    def speed(found):
        return found.get("estimated", {}).get("mfu", -found["bytes_per_device"]["total"])

    axes, unit = " x ".join(results[0]["mesh"]), f"GiB/{device_word(results[0])}"
    priced = any("usd" in found.get("estimated", {}) for found in results)
    header = f"{axes}  remat    parts  {unit}  compute s  exposed s   step s     MFU"
    lines = ["all times are estimates", header + ("         USD" if priced else "")]
    for found in sorted(results, key=speed, reverse=True):
        mesh = "x".join(map(str, found["mesh"].values()))
        total = found["bytes_per_device"]["total"] / GIB
        line = (
            f"{mesh:<{len(axes)}}  {found['remat']:<7}  {found['microbatches']:>5}  "
            f"{digits(total, 2):>{len(unit)}}"
        )
        if "estimated" in found:
            e = found["estimated"]
            line += (
                f"  {digits(e['compute_seconds'], 3, e['step_seconds']):>9}"
                f"  {digits(e['exposed_communication_seconds'], 3, e['step_seconds']):>9}"
                f"  {digits(e['step_seconds'], 3):>7}  {e['mfu']:>6.1%}"
            )
            if "usd" in e:
                line += f"  {digits(e['usd'], 0):>10}"
        else:
            line += "  does not fit"
        lines.append(line)
    return "\n".join(lines)
