"""Where the time of a planned step goes, as figures and as a table."""

import dataclasses
from typing import Any

from distill.estimate.plan import Plan
from distill.report.plan import digits


def breakdown_figures(plan: Plan) -> dict[str, Any]:
    """As JSON has it, in seconds of one chip, all of them estimates."""
    return {
        "at_peak_seconds": plan.flops_per_device / plan.peak_flops,
        "parts": [
            dataclasses.asdict(part)
            | {"seconds": part.seconds, "at_peak_seconds": part.flops / plan.peak_flops}
            for part in plan.parts
        ],
    }


def breakdown_table(plan: Plan) -> str:
    """For people, in milliseconds: by kind of work and by pass."""
    columns = ("forward", "backward", "again", "total", "at peak")
    lines = [f"{'where it goes, estimated ms':<28}" + "".join(f"{one:>10}" for one in columns)]
    step = sum(part.seconds for part in plan.parts)

    def milliseconds(seconds: float) -> str:
        return f"{digits(1e3 * seconds, 1, 1e3 * step):>10}"

    for part in plan.parts:
        name = part.kind + (", exposed" if part.exposed else "")
        seconds = (part.forward, part.backward, part.again, part.seconds)
        if part.flops:
            seconds += (part.flops / plan.peak_flops,)
        lines.append(f"  {name:<26}" + "".join(map(milliseconds, seconds)))
    at_peak = plan.flops_per_device / plan.peak_flops
    lines.append(f"  {'step':<56}{milliseconds(step)}{milliseconds(at_peak)}")
    lines.append(
        "at peak: the products alone, at the chip's peak; of the step, those that MFU counts. "
        "Again: what rematerialisation computes a second time"
    )
    return "\n".join(lines)
