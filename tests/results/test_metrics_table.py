"""metrics.csv: read back as it was written, and which rows are the results of the machines."""

import numpy as np
import pandas as pd
import pytest

from asd.errors import InputError
from asd.files import write_table
from asd.results.metrics_table import COLUMNS, read_metrics, select


def figure(**cells: object) -> dict[str, object]:
    row = dict.fromkeys(COLUMNS, "") | {"model": "oe", "title": "CNN-OE", "machine": "1", "part": "development"}
    row |= {"domain": "total", "metric": "auc", "value": 0.7, "low": 0.6, "high": np.nan, "mean": "harmonic"}
    return row | cells


ROWS = [
    figure(value=1 / 3),
    figure(machine="NA"),
    figure(metric="pauc_both"),
    figure(domain="source"),
    figure(part="evaluation"),
    figure(mean="arithmetic"),
    figure(mean="", section="00"),
    figure(machine="", mean="machines"),
    figure(machine="", mean="harmonic"),
    figure(model="ensemble", title="Ensemble", selection="in_sample"),
    figure(model="ensemble", title="Ensemble", selection="cross_fitted"),
    figure(model="ensemble", title="Ensemble", selection="cross_fitted", machine="", mean="machines"),
]


def test_texts_stay_texts_and_numbers_are_exact(tmp_path):
    written = pd.DataFrame(ROWS)
    write_table(tmp_path / "metrics.csv", written)
    pd.testing.assert_frame_equal(read_metrics(tmp_path / "metrics.csv"), written, check_dtype=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("", "No columns"),
        ("model,title\noe,CNN-OE\n", "found the columns model, title; expected machine, part"),
        (",".join(COLUMNS) + "\n" + "a," * 20 + "\n", "more cells than the header"),
        (",".join(COLUMNS) + "\n" + "a," * 12 + "\n", "could not convert string to float: 'a'"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, text, said):
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(InputError, match=rf"metrics\.csv: not a readable table .*{said}.*delete it and run again"):
        read_metrics(tmp_path / "metrics.csv")


@pytest.mark.parametrize(
    ("metric", "domain", "rows"),
    [
        ("auc", "total", [0, 1, 7, 9, 10, 11]),
        ("pauc_both", "total", [2]),
        ("auc", "source", [3]),
        ("auc", "target", []),
    ],
)
def test_the_results_of_the_machines(metric, domain, rows):
    table = pd.DataFrame(ROWS)
    pd.testing.assert_frame_equal(select(table, metric, domain), table.loc[rows])


def test_a_machine_that_lacks_a_domain_has_the_figure_of_all_its_clips():
    """The average is then undefined, since its machines have different figures."""
    rows = [figure(), figure(machine="2", value=np.nan, low=np.nan), figure(machine="", mean="machines")]
    rows += [figure(domain="all", value=0.5), figure(machine="2", domain="all", value=0.9, low=0.8, high=1.0)]
    found = select(pd.DataFrame(rows), "auc", "total")
    assert found["machine"].tolist() == ["1", "2 (all clips)", ""]
    np.testing.assert_array_equal(found["value"], [0.7, 0.9, np.nan])
    np.testing.assert_array_equal(found["low"], [0.6, 0.8, np.nan])
