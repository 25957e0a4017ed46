"""Pack a detector: one file with all that scoring a recording of a machine needs.

Reads  of each member (a model itself, or the models of a fusion) the machine's log-mel cache (its settings), a
       trained network, the detector fitted to its features, and its scores; and the scores of the model, which hold the
       threshold.
Writes a zip: weights (safetensors), fitted detectors (HDF5), and a description (JSON); asd/detector_file.py has its
       layout.
"""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from asd import command
from asd.settings import Decision


def main(
    *,
    members: list[str],
    scores: Path,
    model: str,
    title: str,
    decision: Annotated[Decision, tyro.conf.arg(name="")],
    fuse: Literal["mean", "max", "min"] = "mean",
    weights: tuple[float, ...] = (),
    out: Path,
) -> None:
    """Pack a detector.

    Args:
        members: one JSON object each, the fields of asd.detector_file.Source: model, title, detector, spectrum,
            windows, and the paths cache, network, features, fitted, scores.
        scores: the scores of the machine's clips by this model.
        model: its name.
        title: its title.
        decision: how the thresholds were found from the training scores.
        fuse: how the scores of a fusion's members become one.
        weights: the weights of a fusion's members.
        out: the detector to write (zip).
    """
    from asd.detector_file import Source, write_detector

    sources = [Source.model_validate_json(member) for member in members]
    write_detector(
        out, sources, scores=scores, model=model, title=title, decision=decision, fuse=fuse, weights=list(weights)
    )


if __name__ == "__main__":
    command.run(main, __doc__)
