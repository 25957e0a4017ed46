"""Put our tables beside the paper's, and check whether the paper's tables agree with themselves.

Reads  the six tables {auc,pauc}_{total,source,target}.csv of both.
Writes --versus: the cells of the models and machines that both have, ours beside the paper's; and --audit: every cell
       of the paper that follows from its other cells (totals, averages, the best, one system per machine), recomputed
       beside the printed value. Prints a summary of both.
"""

from pathlib import Path

from asd.command import run


def main(*, tables: Path, paper: Path, versus: Path, audit: Path) -> None:
    """Compare with the paper's tables.

    Args:
        tables: The folder of our tables.
        paper: The folder of the paper's tables.
        versus: The comparison to write (CSV, percent).
        audit: The audit to write (CSV, percent).
    """
    from asd.files import write_table
    from asd.results.paper import audit as audited
    from asd.results.paper import read_tables, side_by_side
    from asd.results.paper import versus as compared
    from asd.results.tables import AVERAGE, BEST, markdown

    printed = read_tables(paper)
    cells, checks = compared(read_tables(tables), printed), audited(printed)
    for path, table in ((versus, cells), (audit, checks)):
        write_table(path, table, "%.4f")
    print("Ours / the paper's, percent. Machines of the same name may have other recordings: the paper's are those of")
    print("the development part of DCASE 2022 Task 2.\n")
    for name, table in side_by_side(cells).items() if len(cells) else ():
        print(f"{name}\n{markdown(table)}\n")
    if not len(cells):
        print("No machine in common.\n")
    systems = checks["check"].str.startswith("one_system")
    off = checks[~checks["agrees"] & ~systems]
    print("Cells of the paper's tables that do not follow from its other cells:\n")
    print(off.drop(columns="agrees").to_string(index=False, float_format="%.2f"))
    print('\n"Our Best" as printed, and with one model per machine, by the printed or the corrected AUC total:\n')
    means = checks[systems & (checks["machine"] == AVERAGE)].pivot(index="table", columns="check", values="computed")
    means.insert(0, "printed", [printed[name].loc[BEST, AVERAGE] for name in means.index])
    print(means.rename_axis(columns=None).to_string(float_format="%.2f"))


if __name__ == "__main__":
    run(main, __doc__)
