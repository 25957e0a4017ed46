"""Write the results of a sweep: every combination of values with its mean and spread over the seeds.

Reads  metrics.csv, every figure of every model.
Writes sweep.csv (every figure at full precision), sweep.md (the most important figures, which it also prints),
       sweep.svg and sweep.png (the AUC of every combination, seed and machine).
"""

from pathlib import Path

from asd.command import run


def main(*, metrics: Path, variants: str, pauc_anomalies: str = "both", out_dir: Path, figures_dir: Path) -> None:
    """Write the tables and the figure of a sweep.

    Args:
        metrics: The table metrics.csv.
        variants: The values and the seed of each model, as JSON (the configuration's `variants`).
        pauc_anomalies: Whether the pAUC of a domain uses the anomalies of both domains or of its own.
        out_dir: The folder of the tables.
        figures_dir: The folder of the figure.
    """
    import json

    from asd.files import write_table, written
    from asd.report import figures, style
    from asd.results import sweep_tables
    from asd.results.metrics_table import read_metrics
    from asd.settings import Variant

    known = {name: Variant.model_validate(block) for name, block in json.loads(variants).items()}
    table = sweep_tables.spread(read_metrics(metrics), known)
    write_table(out_dir / "sweep.csv", table)
    page = sweep_tables.page(table, pauc_anomalies)
    with written(out_dir / "sweep.md") as aside:
        aside.write_text(page, encoding="utf-8")
    style.save(figures.sweep(sweep_tables.chosen(table, "auc", "total")), figures_dir, "sweep")
    print(page)


if __name__ == "__main__":
    run(main, __doc__)
