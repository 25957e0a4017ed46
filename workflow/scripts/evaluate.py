"""Evaluate a folder of challenge files of any system, of the development or the evaluation part.

Reads  anomaly_score_<machine>_section_NN_test.csv and, if they exist, decision_result_<...>.csv (with or without
       `_test`); and the labels: ground_truth_data/ and ground_truth_domain/ of the official evaluator, or the names of
       the clips.
Writes every figure with its bootstrap interval (CSV; asd/results/metrics_table.py explains its columns), and prints a
       table.

Scores and labels are joined by the names of the clips. A missing, doubled, unknown or non-finite score is an error.
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd.command import run
from asd.settings import Metrics


def main(
    *,
    scores: Path,
    ground_truth: Path | None = None,
    out: Path,
    machines: tuple[str, ...] = (),
    settings: Annotated[Metrics, tyro.conf.arg(name="")],
) -> None:
    """Score a folder.

    Args:
        scores: The folder of the score and decision files.
        ground_truth: The folder of the labels; without it they are taken from the clips' names (development part).
        out: The table of figures to write (CSV).
        machines: The machines to evaluate; by default all, and every section of the ground truth must have scores.
        settings: How figures are computed from scores.
    """
    from asd.challenge import evaluation
    from asd.files import write_table
    from asd.results import long_form
    from asd.results.metrics import joined, machine_figures
    from asd.results.tables import markdown

    clips = evaluation.read_challenge(scores, ground_truth, list(machines))
    (part,) = {part for frame in clips.values() for part in frame["part"]}
    long_form.name_undefined(clips, part)
    figures = joined(
        machine_figures(machine, frame, settings.max_fpr, settings.resamples, settings.seed)
        for machine, frame in clips.items()
    )
    name = scores.resolve().name
    table = long_form.rows(figures, list(clips), settings, model=name, title=name, part=part, selection="")
    write_table(out, table)
    print(markdown(evaluation.overview(table)))
    official = table[(table["metric"] == "omega") & (table["machine"] == "") & (table["mean"] == "harmonic")].iloc[0]
    within = f" ({100 * settings.level:g} % interval {official['low']:.4f} to {official['high']:.4f})"
    print(f"\nOfficial score of {name}, {part} part: {float(official['value'])}{within if settings.resamples else ''}")


if __name__ == "__main__":
    run(main, __doc__)
