"""The detector that takes a network's value as the score."""

import numpy as np
import pytest
from test_sections import write_features

from asd.errors import InputError
from asd.features import open_features
from asd.sections import fit_sections, read_sections, scores, write_sections
from asd.settings import Fit
from asd.settings.detectors import Value


def test_the_score_of_a_clip_is_its_value_also_in_training(tmp_path):
    with open_features(write_features(tmp_path / "f.h5", {"00": (6, 3), "01": (4, 2)})) as features:
        features.widths[:] = [27, 1, 0, 0, 0, 0, 0, 0, 0]
        settings = Fit(detector="value", value=Value(stages=[2]))
        write_sections(tmp_path / "d.h5", fit_sections(features, settings, np.random.default_rng(0)))
        found = scores(features, read_sections(tmp_path / "d.h5"))
        np.testing.assert_array_equal(found, features.rows(0, len(features.clips))[:, 27])


def test_several_values_are_no_score(tmp_path):
    with (
        open_features(write_features(tmp_path / "f.h5", {"00": (6, 3)})) as features,
        pytest.raises(
            InputError, match=r"detector value: found 3 features, expected a single one .*stages: found \[1\]"
        ),
    ):
        fit_sections(features, Fit(detector="value"), np.random.default_rng(0))
