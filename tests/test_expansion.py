"""A sweep: which entries it makes, what they are called, what they share, and what is refused."""

import itertools
from pathlib import Path

import pytest
import yaml

from asd.errors import InputError
from asd.expansion import expand
from asd.settings import load

WHOLE = yaml.safe_load((Path(__file__).parents[1] / "config/config.yaml").read_text())
DEFAULT = WHOLE | {"run_models": ["global", "local", "oe"], "ensemble": {"fallback": "global"}}


def swept(**sweep):
    return load(expand(DEFAULT | {"sweep": sweep}))


def test_without_a_sweep_nothing_changes():
    assert expand(DEFAULT) is DEFAULT


def test_every_combination_is_a_model_and_differs_from_the_base_in_its_values_only():
    found = swept(models=["local"], seeds=[3, 4], values={"mvg.covariance": ["oas", "ridge"], "train.rate": [0.1, 0.2]})
    base = load(DEFAULT)
    assert len(found.run_models) == 8
    combinations = itertools.product(("oas", "ridge"), (0.1, 0.2), (3, 4))
    for name, (covariance, rate, seed) in zip(found.run_models, combinations, strict=True):
        assert name == f"local-covariance_{covariance}-rate_{str(rate).replace('.', '_')}-seed_{seed}"
        model = found.models[name]
        assert model.title == f"CNN-Local, covariance {covariance}, rate {rate}, seed {seed}"
        assert model.mvg == base.models["local"].mvg.model_copy(update={"covariance": covariance})
        network = found.networks[model.network]
        assert network == base.networks["local"].model_copy(update={"rate": rate, "seed": seed})
        variant = found.variants[name]
        assert (variant.model, variant.seed) == ("local", seed)
        assert variant.title == f"CNN-Local, covariance {covariance}, rate {rate}"
        assert variant.values == {"mvg.covariance": covariance, "train.rate": rate}


def test_a_value_is_in_the_names_of_what_it_changes_and_of_nothing_else():
    values = {"mvg.stages": [[4, 5], [4, 5, 6]], "networks.global.epochs": [1, 2], "networks.oe.epochs": [1, 2]}
    found = swept(values=values)
    assert set(found.networks) - set(DEFAULT["networks"]) == {
        *(f"global-global_epochs_{epochs}" for epochs in (1, 2)),
        *(f"oe-global_epochs_{first}-oe_epochs_{second}" for first in (1, 2) for second in (1, 2)),
    }
    assert [name for name in found.run_models if name.startswith("local")] == ["local-stages_4_5", "local-stages_4_5_6"]
    # The exposure detector has no Gaussian, and so no stages.
    assert [name for name in found.run_models if name.startswith("oe")] == [
        f"oe-global_epochs_{first}-oe_epochs_{second}" for first in (1, 2) for second in (1, 2)
    ]
    last = found.networks["oe-global_epochs_2-oe_epochs_1"]
    assert (last.warm_start, last.epochs) == ("global-global_epochs_2", 1)


def test_a_network_that_is_not_trained_runs_once():
    found = swept(models=["untrained", "global"], seeds=[1, 2])
    assert found.run_models == ["untrained", "global-seed_1", "global-seed_2"]
    started = WHOLE | {"networks": WHOLE["networks"] | {"untrained": {"warm_start": "global", "epochs": 0}}}
    found = load(expand(started | {"sweep": {"models": ["untrained"], "seeds": [1, 2]}}))
    assert found.run_models == ["untrained-seed_1", "untrained-seed_2"]


def test_spectra_and_fusions_are_swept_with_what_they_rest_on():
    values = {"spectra.ranked.decays": [[1.0], [1.0, 0.9]], "train.rate": [0.1, 0.2], "mvg.stages": [[4, 5], [6]]}
    found = load(expand(WHOLE | {"sweep": {"models": ["spectrum", "fusion"], "values": values}}))
    alone = [name for name in found.run_models if name.startswith("spectrum")]
    assert alone == ["spectrum-decays_1_0", "spectrum-decays_1_0_0_9"]  # neither a rate nor stages are its own
    assert found.spectra[found.models[alone[1]].spectrum].decays == [1.0, 0.9]
    fusions = [name for name in found.run_models if name.startswith("fusion")]
    assert len(fusions) == 8
    last = found.models["fusion-decays_1_0_0_9-rate_0_2-stages_6"]
    assert last.members == ["spectrum-decays_1_0_0_9", "global-rate_0_2-stages_6", "local-rate_0_2-stages_6"]
    member = found.models[last.members[1]]
    assert (found.networks[member.network].rate, member.mvg.stages) == (0.2, [6])
    assert not set(last.members[1:]) & set(found.run_models)


def test_what_a_sweep_has_made_can_be_read_again():
    """provenance.json keeps the effective configuration; with it the same graph is made again."""
    found = swept(seeds=[1, 2], values={"logmel.mels": [64, 128]})
    assert load(expand(found.model_dump(mode="json"))) == found


def test_the_fallback_of_the_ensemble_is_one_of_the_new_models():
    assert swept(models=["local", "global"], seeds=[7]).fallback == "global-seed_7"
    assert swept(models=["local"], seeds=[7]).fallback == "local-seed_7"


def test_networks_that_are_trained_alike_are_one():
    found = swept(models=["local"], values={"networks.local.test_hop": [1, 2], "networks.local.window": [32, 64]})
    trained = {name: found.trained_as(name) for name in found.networks}
    assert (
        trained["local-test_hop_2-window_32"] == trained["local-test_hop_1-window_32"] == "local-test_hop_1-window_32"
    )
    assert trained["local-test_hop_2-window_64"] == "local"  # as the base
    assert trained["oe"] == "oe"


def test_networks_that_start_from_others_are_not_trained_alike():
    networks = {"other": {"epochs": 1}, "first": {"warm_start": "global"}, "second": {"warm_start": "other"}}
    found = load(DEFAULT | {"networks": DEFAULT["networks"] | networks | {"third": {"warm_start": "other"}}})
    assert [found.trained_as(name) for name in ("first", "second", "third")] == ["first", "second", "second"]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({}, "nothing to sweep; expected seeds, values, or both"),
        ({"sedes": [1]}, r"sweep\.sedes: Extra inputs"),
        ({"seeds": [-1]}, r"sweep\.seeds\.0: .*greater than or equal to 0"),
        ({"seeds": [1, 1]}, "seeds: each value once; found 1 twice"),
        (
            {"models": ["globl"], "seeds": [1]},
            r"sweep\.models: 'globl' is not an entry of models \(level, nearest, .*\)",
        ),
        ({"values": {"train.rate": []}}, r"sweep\.values\.train\.rate: found no values"),
        (
            {"values": {"mvg.covarianze": ["oas"]}},
            r"mvg\.covarianze = 'oas': configuration:\n  mvg\.covarianze: unknown",
        ),
        (
            {"values": {"mvg.covariance": ["oas", "lw"]}},
            r"mvg\.covariance = 'lw': .*\n  mvg\.covariance: .*found 'lw'$",
        ),
        ({"values": {"machines.fan": [1]}}, r"sweep\.values\.machines\.fan: machines is not a block of keys"),
        (
            {"values": {"metrics.max_fpr": [0.1, 0.2]}},
            r"metrics\.max_fpr = 0\.1, 0\.2 changes none of the swept models",
        ),
        (
            {"models": ["global"], "values": {"networks.local.window": [32]}},
            r"changes none of the swept models \(global\)",
        ),
    ],
)
def test_what_cannot_be_swept_is_named(sweep, message):
    with pytest.raises(InputError, match=message):
        swept(**sweep)
