"""docs/extending.md does what it says: its code is added to a copy of the project, which then fits and scores by it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import merged
from sklearn.decomposition import PCA

from asd.code_digest import code_digest
from asd.features import open_features
from asd.settings import DETECTORS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text()
TINY = {
    "dataset": {"demo": {"sections": 2, "train_source": 6, "train_target": 2, "test": 2, "seconds": 1.0}},
    "machines": ["fan"],
    "logmel": {"mels": 32},
}


def extended(folder: Path) -> Path:
    """A copy of the project with the code of the page in the places that the page names."""
    for name in ("src/asd", "workflow", "config", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    blocks = re.findall(r"```python\n# (\S+) \(([^\n]*)\)\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == PAGE.count("```python")
    for path, place, code in blocks:
        file = folder / path
        where, _, name = place.rpartition(" the class ")
        if not where:
            assert place == "new"
            assert not file.exists()
            file.write_text(code)
            continue
        text = file.read_text()
        (begin,) = [one.start() for one in re.finditer(rf"^class {name}\(", text, re.MULTILINE)]
        if where == "before":
            file.write_text(f"{text[:begin]}{code}\n\n{text[begin:]}")
        else:
            assert where == "at the end of"
            end = begin + re.search(r"\n\n\n", text[begin:]).start() + 1
            file.write_text(text[:end] + code + text[end:])
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return extended(tmp_path_factory.mktemp("project"))


def run(project: Path, *arguments: str) -> str:
    """The output of a command with the code of the copy."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PATH": path, "PYTHONPATH": str(project / "src")},
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("script", ["fit", "score"])
def test_a_new_detector_makes_nothing_of_the_others_again(project, script):
    names = {*DETECTORS, "subspace"}

    def digest_of_knn(root: Path) -> str:
        path, others = root / f"workflow/scripts/{script}.py", frozenset(names - {"knn"})
        return code_digest(path, root / "src/asd", others, by_name={"sections": names})

    assert digest_of_knn(ROOT) == digest_of_knn(project)


def snakemake(project: Path, *targets: str, overlay: dict) -> str:
    (project / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    return run(project, "-m", "snakemake", "--cores", "2", "--configfile", "overlay.yaml", "--quiet", "--", *targets)


def test_the_detector_of_the_page_is_fitted_scored_and_packed_by_the_workflow(project):
    (configuration,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    overlay = merged(yaml.safe_load(configuration), TINY)
    share = overlay["models"]["subspace"]["subspace"]["share"]
    snakemake(project, "results/scores/subspace/fan.csv", "results/detectors/subspace/fan.zip", overlay=overlay)
    scores = pd.read_csv(project / "results/scores/subspace/fan.csv", dtype={"section": str})
    with open_features(project / "results/features/ranked/fan.h5") as features:
        rows, clips = features.rows(0, len(features.clips)), features.clips
    assert list(scores["file"]) == list(clips["file"])
    for section in ("00", "01"):
        own = (clips["section"] == section).to_numpy()
        training, test = own & (clips["split"] == "train").to_numpy(), own & (clips["split"] == "test").to_numpy()
        pca = PCA(share, svd_solver="full").fit(rows[training].astype(float))
        assert 1 < pca.n_components_ < training.sum() - 1
        expected = np.linalg.norm(rows[test] - pca.inverse_transform(pca.transform(rows[test])), axis=1)
        np.testing.assert_allclose(scores["score"][test], expected, rtol=1e-5)
    name = Path(scores["file"][test.argmax()]).name
    (sound,) = project.rglob(name)
    asked = "from asd.cli import main; main()", "score", "--detector", "results/detectors/subspace/fan.zip"
    said = run(project, "-c", *asked, "--section", "01", str(sound))
    assert f"{scores['score'][test.argmax()]:.4g}" in said
