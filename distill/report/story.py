"""What all training pipelines tell: an introduction, and a report at the end."""

from collections.abc import Mapping

import jax
from clu import parameter_overview
from jax.sharding import Mesh

from distill.buckets import place_of
from distill.data import Splits
from distill.export.versions import obstacles
from distill.nn import Network, VisionNetwork
from distill.parallel import distributed
from distill.parallel.printed import keep, say
from distill.train.progress import format_figure
from distill.train.trainee import Trained
from distill.train.workdir import Workdir


def introduce(
    name: str, network: Network, splits: Splits, mesh: Mesh, overview: bool = True
) -> None:
    """Says what is about to be trained, on what and where.

    Args:
      name: what lines call the run.
      network: to be trained.
      splits: the images.
      mesh: what it runs on.
      overview: whether to list the parameters, in train.log and where everything is printed.
    """
    if overview and distributed.is_primary():
        table = parameter_overview.get_parameter_overview(
            network.abstract_params, include_stats=False
        )
        keep(f"{name}: parameters\n{table}")
    say(f"{name}: {network.parameter_count():,} parameters")
    # Formats are of models of images.
    if isinstance(network, VisionNetwork) and (remark := _not_exportable(network)):
        say(f"{name}: {remark}")
    for remark in splits.remarks():
        say(f"{name}: warning: {remark}")
    images = ", ".join(f"{len(source):,} {split}" for split, source in splits.opened.items())
    devices = f"{mesh.size} {mesh.devices.flat[0].device_kind} device(s)"
    if distributed.several():
        devices += f" of {jax.process_count()} processes"
    axes = " × ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    say(f"{name}: {images} images; {devices} as {axes}")
    for split, source in splits.opened.items():
        say(f"{name}: {split}: {source.found}")


def _not_exportable(network: VisionNetwork) -> str | None:
    """To which formats a network cannot be exported and why, which training does not change."""
    forms = {}
    for form, obstacle in obstacles(network).items():
        forms.setdefault(obstacle, []).append(form)
    listing = "; ".join(f"{', '.join(names)}: {obstacle}" for obstacle, names in forms.items())
    return f"cannot be exported to {listing}" if listing else None


def finish(name: str, trained: Trained, workdir: Workdir) -> Trained:
    """Writes the report and prints the final figures, once for all processes."""
    if not distributed.is_primary():
        return trained
    # Drawing takes a second to import, which whoever mistypes a flag need not wait for.
    from distill.report.run import write_run_report

    report = write_run_report(workdir.path)
    width = max(map(len, trained.summary))
    for key, value in trained.summary.items():
        say(f"{name}: {key:<{width}}  {format_figure(key, value)}")
    say(f"{name}: {'report':<{width}}  {place_of(report)}")
    return trained


def finish_several(trained: Mapping[str, Trained], workdir: Workdir) -> None:
    """Writes the report of several students of one run, beside those of each."""
    if not distributed.is_primary():
        return
    from distill.report.run import write_students_report

    report = write_students_report(workdir.path, [*trained])
    say(f"{workdir.path.name}: report of all  {place_of(report)}")
