"""The leaderboard as texts: what its page and its Markdown show of the tables of `asd.results.leaderboard`."""

import numpy as np
import pandas as pd

from asd.results.leaderboard import SHOWN
from asd.results.metrics import percent
from asd.results.tables import markdown

TITLES = {
    "omega": "Official score",
    "auc": "AUC, all clips",
    "auc_source": "AUC source",
    "auc_target": "AUC target",
    "pauc": "pAUC",
}
EXPLAINED = {
    "Rank": "which ranks a system may have, since differences are partly chance: other test clips, other seeds",
    "Official score": "harmonic mean of AUC source, AUC target and pAUC over all sections of all machines, in percent; "
    "± is the standard deviation over training seeds, in brackets is the {level} interval over test clips",
    "Better than": "ranks of the systems that are really worse (Holm's correction, {level} for all together)",
    "Network": "trained, untrained (as it was pre-trained) or none; the last two learn nothing but a distribution",
    "Runs": "training seeds; 1 if no seed matters",
    "Training": "training and fitting on all machines, mean over the runs",
    "Per clip": "from the recording to the score; the start of the processes counts, most of it on a small corpus",
    "Parameters": "of network and detectors, for the largest machine",
    "Memory": "the largest of the jobs",
}
"""Column of `texts` -> what it says."""


def texts(table: pd.DataFrame, ranked: bool) -> pd.DataFrame:
    """Return a table of `board` as texts, with System as its index: "71.2 ± 0.5 (68.0-74.1)" in percent.

    Args:
        table: of `board`.
        ranked: True: the systems with a rank. False: the others, with what was chosen by labels.
    """
    rows = table[table["rank"].notna() == ranked]
    shown = [name for name in TITLES if name in table]
    made = {}
    if ranked:
        made["Rank"] = [
            f"{rank}" + ("" if pd.isna(low) else f" ({low}-{high})")
            for rank, low, high in zip(rows["rank"], rows["rank_low"], rows["rank_high"], strict=True)
        ]
    for name in shown:
        columns = (rows[f"{name}{suffix}"] for suffix in ("", "_deviation", "_low", "_high"))
        made[TITLES[name]] = [_figure(*cell) for cell in zip(*columns, strict=True)]
    made |= {"Better than": list(rows["better_than"])} if ranked else {"Chosen by labels": list(rows["labels"])}
    made |= {
        "Network": list(rows["network"]),
        "Runs": [str(count) for count in rows["runs"]],
        "Training": [_duration(value) for value in rows["training_seconds"]],
        "Per clip": [_duration(value) for value in rows["clip_seconds"]],
        "Parameters": [_number(value) for value in rows["parameters"]],
        "Memory": ["" if np.isnan(value) else f"{value / 1000:.1f} GB" for value in rows["memory_mb"]],
    }
    unknown = [name for name, cells in made.items() if not any(cells) and name != "Better than"]
    return pd.DataFrame(made, index=pd.Index(rows["system"], name="System")).drop(columns=unknown)


def difference_texts(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of `differences` as texts, the smallest p first: first, second, difference, p, real."""
    rows = pairs.sort_values("p_corrected", kind="stable")

    def signed(value: float) -> str:
        return f"{100 * value:+.1f}"

    said = [
        signed(row.difference) + ("" if np.isnan(row.low) else f" ({signed(row.low)} to {signed(row.high)})")
        for row in rows.itertuples()
    ]
    p = ["" if np.isnan(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001" for value in rows["p_corrected"]]
    made = {"Other system": list(rows["second"]), "Difference": said, "p, corrected": p}
    made["Real"] = ["yes" if real else "" for real in rows["real"]]
    return pd.DataFrame(made, index=pd.Index(rows["first"], name="System"))


def published_texts(table: pd.DataFrame) -> pd.DataFrame:
    """Return published figures (`read_published`) as texts, with System as its index."""
    made = {TITLES[name]: [_figure(value / 100) for value in table[name]] for name in SHOWN}
    made |= {"Chosen by labels": list(table["labels"]), "Note": list(table["note"]), "Source": list(table["source"])}
    return pd.DataFrame(made, index=pd.Index(table["system"], name="System"))


def _figure(value: float, deviation: float = np.nan, low: float = np.nan, high: float = np.nan) -> str:
    if np.isnan(value):
        return ""
    text = percent(value) + ("" if np.isnan(deviation) else f" ± {percent(deviation)}")
    return text + ("" if np.isnan(low) else f" ({percent(low)}-{percent(high)})")


def _duration(seconds: float) -> str:
    if np.isnan(seconds):
        return ""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return (
        f"{seconds:.3g} s"
        if seconds < 100
        else f"{seconds / 60:.3g} min"
        if seconds < 6000
        else f"{seconds / 3600:.3g} h"
    )


def _number(count: float) -> str:
    if np.isnan(count):
        return ""
    return f"{count:.0f}" if count < 1000 else f"{count / 1e3:.3g} k" if count < 1e6 else f"{count / 1e6:.3g} M"


def explanations(tables: list[pd.DataFrame], level: float) -> dict[str, str]:
    """Return what the columns of some tables of `texts` say, by column."""
    shown = {name: text for name, text in EXPLAINED.items() if any(name in table for table in tables)}
    return {name: text.format(level=f"{100 * level:g} %") for name, text in shown.items()}


def page(board: dict, level: float) -> str:
    """Return a leaderboard in Markdown.

    Args:
        board: part, machines, clips (how many), texts (ranked, others, published: tables of texts).
        level: coverage of the intervals.
    """
    texts = board["texts"]
    said = [f"**Leaderboard, {board['part']} part**: {board['clips']} test clips of {', '.join(board['machines'])}"]
    said.append(markdown(texts["ranked"]))
    if len(texts["others"]):
        said.append("Without a rank, since something was chosen by labels of this corpus:")
        said.append(markdown(texts["others"]))
    if len(texts["published"]):
        said.append("Published figures of this part, not measured here, in percent:")
        said.append(markdown(texts["published"]))
    explained = explanations([texts["ranked"]], level)
    said.append("\n".join(f"- {name}: {text}." for name, text in explained.items()))
    return "\n\n".join(said) + "\n"
