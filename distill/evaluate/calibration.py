"""The evaluation of kind `calibration`: whether probabilities are as often right as they say."""

import dataclasses
from typing import Literal

from distill.analysis.calibration import BINS, Calibration, top_label_calibration
from distill.analysis.predictions import Predictions
from distill.analysis.temperature import fit_temperature, held_out
from distill.bounds import NotAll, Some
from distill.errors import UserError
from distill.evaluate.predicted import Measured, PredictionsConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationConfig(PredictionsConfig):
    """Calibration of the predicted class, before and after temperature scaling.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["calibration"] = "calibration"
    bins: Some = BINS
    """Of reliability curves."""
    held_out: NotAll = 0.2
    """Share of the images, chosen by their names, that the temperature is fitted to and nothing
    else is measured on; 0 fits none and measures all."""

    @property
    def figures(self) -> tuple[str, ...] | None:
        """What may be found."""
        scaled = ("temperature", *(f"scaled/{name}" for name in _FIGURES))
        return (*_FIGURES, *(scaled if self.held_out else ()))

    def measure(self, predictions: Predictions) -> Measured:
        """Figures such as `ece`, `nll` and `brier`, and the same as `scaled/ece`."""
        if not self.held_out:
            found = top_label_calibration(predictions, self.bins)
            return Measured(_figures(found), details=_details(found))
        fitted = held_out(predictions.names, self.held_out)
        if fitted.all() or not fitted.any():
            raise UserError(
                f"{fitted.sum()} of {len(predictions)} images are held out to fit a temperature; "
                "expected some, and some to measure on. Take more images, or held_out=0"
            )
        scored = predictions.where(~fitted)
        found = top_label_calibration(scored, self.bins)
        try:
            temperature = fit_temperature(predictions.where(fitted))
        except UserError as error:
            unknown = dict.fromkeys(("temperature", *(f"scaled/{name}" for name in _FIGURES)))
            line = f"no temperature: {error}; calibration measured on the other {found.count:,}"
            return Measured(_figures(found) | unknown, (line,), _details(found))
        scaled = top_label_calibration(temperature.apply(scored), self.bins)
        after = {f"scaled/{name}": value for name, value in _figures(scaled).items()}
        return Measured(
            _figures(found) | {"temperature": temperature.value} | after,
            (
                f"temperature fitted to {temperature.count:,} of them, calibration measured on "
                f"{found.count:,}",
            ),
            _details(found) | {"temperature": temperature.as_json(), "scaled": scaled.as_json()},
        )


_FIGURES = ("accuracy", "ece", "ece_l2", "adaptive_ece", "adaptive_ece_l2", "nll", "brier")


def _figures(found: Calibration) -> dict[str, float | None]:
    said = found.as_json()
    return {name: said[name] for name in _FIGURES}


def _details(found: Calibration) -> dict:
    correct = round(found.accuracy * found.count)
    return {"before": found.as_json(), "counts": {"accuracy": [correct, found.count]}}
