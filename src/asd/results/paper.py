"""The paper's tables (Narita and Tamamori 2022, Tables 3 to 8): checked against themselves, and compared with ours.

All values here are percentages, as printed.
"""

from pathlib import Path

import pandas as pd

from asd.results.tables import AVERAGE, BEST, TABLES, average, best, read_percentages, total

ROUNDING = 0.0101
"""Values with two decimals that are computed from such values may differ by one in the last decimal."""

Tables = dict[str, pd.DataFrame]
"""By name (an entry of `TABLES`), as `asd.results.tables.read_percentages` gives them."""


def read_tables(folder: Path) -> Tables:
    """Read the six tables of a folder.

    Raises:
        InputError: a table is missing or damaged.
    """
    return {name: read_percentages(folder / f"{name}.csv") for name in TABLES}


def audit(printed: Tables) -> pd.DataFrame:
    """Recompute cells of the tables from their other cells, beside the printed values.

    Returns:
        One row per cell: check, table, model, machine (or the average), printed, computed, difference (printed -
        computed), agrees. The checks are: total, the harmonic mean of source and target; average, over the machines;
        best, the highest of the models; one_system, "Our Best" if one model per machine (column model) were chosen by
        the printed AUC total, in every table; one_system_corrected, the same after correction of the totals.
    """
    corrected = dict(printed)
    rows = []
    for metric in ("auc", "pauc"):
        source, target = (_models(printed[f"{metric}_{domain}"]) for domain in ("source", "target"))
        computed = total(source, target)
        rows += _beside("total", f"{metric}_total", _models(printed[f"{metric}_total"]), computed)
        corrected[f"{metric}_total"] = computed
    for name, table in printed.items():
        rows += _beside("average", name, table[[AVERAGE]], average(table.drop(columns=AVERAGE)).to_frame())
        highest = best(_models(table)).to_frame().T
        rows += _beside("best", name, table.loc[[BEST], highest.columns], highest)
    for check, tables in (("one_system", printed), ("one_system_corrected", corrected)):
        chosen = _models(tables["auc_total"]).idxmax()
        for name in TABLES:
            system = pd.Series({machine: tables[name].loc[model, machine] for machine, model in chosen.items()})
            system = system.to_frame(BEST).T
            system[AVERAGE] = average(system)
            found = _beside(check, name, printed[name].loc[[BEST], system.columns], system)
            rows += [row | {"model": chosen.get(row["machine"], "")} for row in found]
    table = pd.DataFrame(rows)
    difference = table["printed"] - table["computed"]
    return table.assign(difference=difference, agrees=difference.abs() < ROUNDING)


def _models(table: pd.DataFrame) -> pd.DataFrame:
    """The models' rows, without the average."""
    return table.drop(index=BEST, columns=AVERAGE, errors="ignore")


def _beside(check: str, name: str, printed: pd.DataFrame, computed: pd.DataFrame) -> list[dict]:
    return [
        {
            "check": check,
            "table": name,
            "model": model,
            "machine": machine,
            "printed": printed.loc[model, machine],
            "computed": computed.loc[model, machine],
        }
        for model in printed.index
        for machine in printed.columns
    ]


def versus(ours: Tables, printed: Tables) -> pd.DataFrame:
    """Put our tables beside the paper's, for the rows and machines that both have.

    Returns:
        One row per cell: table, model, machine, paper, ours, difference (ours - paper). On both sides the average is
        over the machines for which both have a value; if these are all machines, the paper's average is the printed
        one.
    """
    rows = []
    for name in TABLES:
        theirs = printed[name].drop(columns=AVERAGE)
        machines = [machine for machine in theirs.columns if machine in ours[name].columns]
        for model in (model for model in theirs.index if machines and model in ours[name].index):
            pair = pd.DataFrame({"paper": theirs.loc[model, machines], "ours": ours[name].loc[model, machines]})
            both = pair.dropna()
            pair.loc[AVERAGE] = both.mean()
            if len(both) == theirs.shape[1]:
                pair.loc[AVERAGE, "paper"] = printed[name].loc[model, AVERAGE]
            rows.append(pair.rename_axis("machine").reset_index().assign(table=name, model=model))
    columns = ["table", "model", "machine", "paper", "ours", "difference"]
    if not rows:
        return pd.DataFrame(columns=columns)
    table = pd.concat(rows, ignore_index=True)
    return table.assign(difference=table["ours"] - table["paper"])[columns]


def side_by_side(cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return `versus` as six tables of texts, "ours / paper"."""
    text = cells.apply(lambda row: f"{row['ours']:.2f} / {row['paper']:.2f}".replace("nan", "-"), axis=1)
    named = cells.assign(text=text).rename(columns={"model": "Model"})
    return {
        name: part.pivot(index="Model", columns="machine", values="text")
        .loc[part["Model"].unique(), part["machine"].unique()]
        .rename_axis(columns=None)
        for name, part in named.groupby("table", sort=False)
    }
