"""Write the leaderboard: systems ranked by the official score, one table per part of the corpus.

Reads  the score files of our models, what is needed to count their parameters (caches, networks, fitted detectors),
       Snakemake's benchmark files, and folders of challenge files of other systems, with their labels.
Writes the page, and beside it per part with labels <part>.csv (all figures at full precision), <part>-differences.csv
       (every pair of systems with a rank), <part>.md (which it also prints) and <part>.svg and .png (the score against
       the time). asd/results/leaderboard_texts.py explains the columns.

Without a configuration it compares folders of challenge files only:
       leaderboard.py --submissions "First system" DIR "Second system" DIR --ground-truth DIR --out board/index.html
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd.command import run
from asd.settings import Metrics

TEMPLATE = Path(__file__).resolve().parents[1] / "report/leaderboard.html"
PUBLISHED = Path(__file__).resolve().parents[2] / "resources/published/figures.csv"


def main(
    *,
    configuration: str = "",
    scores: tuple[Path, ...] = (),
    caches: tuple[Path, ...] = (),
    networks: tuple[Path, ...] = (),
    fitted: tuple[Path, ...] = (),
    benchmarks: str = "{}",
    submissions: dict[str, Path] = {},  # noqa: B006
    chosen_by_labels: dict[str, str] = {},  # noqa: B006
    ground_truth: Path | None = None,
    kind: str = "",
    out: Path,
    settings: Annotated[Metrics, tyro.conf.arg(name="")],
) -> None:
    """Write the leaderboard.

    Args:
        configuration: The configuration with our models, as YAML or JSON (the text itself); empty: none of ours.
        scores: The score files of all of its models and machines, <anything>/<model>/<machine>.csv.
        caches: The log-mel caches, for the length of a clip.
        networks: The networks, for their size.
        fitted: The fitted detectors, for their size.
        benchmarks: The benchmark files of the jobs of each model, as JSON: model -> training, scoring -> files.
        submissions: Name of another system -> the folder of its score files.
        chosen_by_labels: Model or other system -> what was chosen by labels of this corpus; it gets no rank.
        ground_truth: The folder of the official labels of the evaluation part.
        kind: The data set, whose published figures are shown (dcase2022).
        out: The page to write.
        settings: How figures are computed from scores.
    """
    import json

    import yaml

    from asd.challenge.evaluation import read_challenge
    from asd.challenge.meta import System, complexities
    from asd.errors import InputError
    from asd.files import write_table, written
    from asd.releases import machines_of
    from asd.report import figures, style
    from asd.report.page import write_page
    from asd.results import leaderboard, leaderboard_texts
    from asd.results.ensemble import read_scored
    from asd.results.long_form import PARTS, part_figures
    from asd.settings import load

    rows, ours, machines = [], {}, None
    if configuration:
        loaded = load(yaml.safe_load(configuration))
        machines = loaded.machines
        rows = leaderboard.entries(loaded, chosen_by_labels)
        ours = read_scored(list(scores), loaded.run_models)
        jobs = json.loads(benchmarks)
        counted = [System(row.title, row.title, dict.fromkeys(machines, row.runs[0])) for row in rows]
        counts = complexities(loaded, counted, list(caches), list(networks), list(fitted))
        rows = [
            leaderboard.with_costs(
                row, jobs, ours, max(counts[row.runs[0], machine].parameters for machine in machines)
            )
            for row in rows
        ]
    strangers = {name: read_challenge(folder, ground_truth, machines) for name, folder in submissions.items()}
    if not ours and not strangers:
        raise InputError("nothing to compare: expected --scores with a --configuration, or --submissions")
    boards = []
    for part, systems in leaderboard.parts(ours, strangers).items():
        judged = part_figures(systems, part, settings)
        own = [row for row in rows if row.runs[0] in systems]
        here = own + [
            leaderboard.Entry(name, (name,), labels=chosen_by_labels.get(name, ""))
            for name in strangers
            if name in systems
        ]
        best = leaderboard.chosen(own, ours, judged) if own else None
        if best:
            here.append(best[0])
            judged |= best[1]
        table, pairs = leaderboard.board(here, judged, settings)
        found = next(iter(judged.values())).machines
        everything = machines_of(kind, part)
        whole = bool(everything) and set(found) == set(everything)
        partly = f"Published figures are over all machines of {kind}, so that they are not shown beside these."
        published = leaderboard.read_published(PUBLISHED, kind if whole else "", part)
        texts = {
            "ranked": leaderboard_texts.texts(table, ranked=True),
            "others": leaderboard_texts.texts(table, ranked=False),
        }
        texts["published"] = leaderboard_texts.published_texts(published)
        drawn = figures.against_time(table)
        one = {"part": part, "machines": found, "texts": texts, "drawn": drawn is not None}
        one["note"] = partly if everything and not whole else ""
        one["clips"] = sum(len(clips) for clips in next(iter(systems.values())).values())
        one["differences"] = leaderboard_texts.difference_texts(pairs)
        boards.append(one)
        write_table(out.with_name(f"{part}.csv"), table)
        write_table(out.with_name(f"{part}-differences.csv"), pairs)
        text = leaderboard_texts.page(one, settings.level)
        with written(out.with_name(f"{part}.md")) as aside:
            aside.write_text(text, encoding="utf-8")
        if drawn:
            style.save(drawn, out.parent, part)
        print(text)
    # Remove what an earlier run wrote for a part that no longer has labels.
    for part in PARTS:
        for name in ("{}.csv", "{}-differences.csv", "{}.md", "{}.svg", "{}.png"):
            if part not in [one["part"] for one in boards]:
                out.with_name(name.format(part)).unlink(missing_ok=True)
    if not boards:
        raise InputError("no system has labelled test clips; a leaderboard needs labels")
    explained = leaderboard_texts.explanations([one["texts"]["ranked"] for one in boards], settings.level)
    write_page(out, TEMPLATE, boards=boards, kind=kind, explained=explained)


if __name__ == "__main__":
    run(main, __doc__)
