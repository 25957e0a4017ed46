"""Turn a sweep over values and seeds into entries of `networks`, `spectra` and `models`, for one common graph.

    sweep:
      models: [global]                                  # empty: all of `run_models`
      seeds: [1, 2, 3]
      values: {mvg.covariance: [ledoit_wolf, oas], train.rate: [0.001, 0.003]}

Every combination of values and seed becomes a model. The name of an entry contains only the values of those keys that
change it. In the example, the two covariances with the same seed and rate are two models on one network, which is
trained once.
"""

import copy
import itertools
import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from asd.errors import InputError
from asd.files import digest
from asd.settings import DETECTORS, LONGEST, Network, Settings, Sweep, Training, load

SEED = "seed"
"""The key of the seeds among the swept keys; no dotted key has this name."""


def expand(configuration: dict) -> dict:
    """Return a configuration without `sweep`, whose combinations are entries of `networks` and `models` instead.

    `run_models` lists the new models, in the order of the swept models and of the values, and `variants` gives the
    values and the seed of each. A configuration without `sweep` is returned unchanged.

    Args:
        configuration: the content of config.yaml with its overlays.

    Raises:
        InputError: a key is unknown, a value is impossible or given twice, or a key changes none of the models.
    """
    if "sweep" not in configuration:
        return configuration
    base = {key: value for key, value in configuration.items() if key != "sweep"}
    settings, sweep = load(base), _read(configuration["sweep"])
    models = sweep.models or settings.run_models
    if strange := [name for name in models if name not in settings.models]:
        raise InputError(f"sweep.models: {strange[0]!r} is not an entry of models ({', '.join(settings.models)})")
    axes = {**sweep.values, **({SEED: sweep.seeds} if sweep.seeds else {})}
    single = {key: [_with(base, settings, {key: value}) for value in values] for key, values in axes.items()}
    # A swept key may choose another network, so the networks of every combination are considered.
    entries = {
        entry
        for one in itertools.chain([settings], *single.values())
        for model in models
        for entry in _entries(one, model)
    }
    matters = {
        entry: [
            key
            for key, swept in single.items()
            if any(_content(one, *entry) != _content(settings, *entry) for one in swept)
        ]
        for entry in entries
    }
    for key in axes:
        if not any(key in matters["models", name] for name in models):
            raise InputError(
                f"sweep: {key} = {', '.join(map(str, axes[key]))} changes none of the swept models "
                f"({', '.join(models)}); expected keys of these models, of their networks or spectra, or of the blocks "
                f"logmel, backbone, train, {', '.join(DETECTORS.values())} and threshold. For each value of another "
                "key, write a configuration with its own results_dir"
            )
    expanded = copy.deepcopy(base)
    expanded |= {"run_models": [], "paper_models": [], "variants": {}}
    expanded.setdefault("spectra", {})
    expanded["submission"] = {**expanded.get("submission", {}), "models": []}
    for model in models:
        for values in _combinations(axes):
            _add(expanded, _with(base, settings, values), model, values, matters)
    fallback = settings.ensemble.fallback
    if fallback and fallback not in expanded["run_models"]:
        of = [name for name, one in expanded["variants"].items() if one["model"] == fallback]
        expanded["ensemble"]["fallback"] = of[0] if of else ""
    return expanded


def _read(block: Any) -> Sweep:
    try:
        sweep = Sweep.model_validate(block)
    except ValidationError as error:
        where = "\n".join(f"  sweep.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise InputError(f"configuration:\n{where}") from None
    if not sweep.seeds and not sweep.values:
        raise InputError("sweep: nothing to sweep; expected seeds, values, or both")
    for key, values in {**sweep.values, "seeds": sweep.seeds}.items():
        texts = [_text(value) for value in values]
        if not values and key != "seeds":
            raise InputError(f"sweep.values.{key}: found no values; expected at least one")
        if twice := [text for text in texts if texts.count(text) > 1]:
            raise InputError(f"sweep: {key}: each value once; found {twice[0]} twice")
    return sweep


def _combinations(axes: dict[str, list]) -> Iterator[dict[str, Any]]:
    for combination in itertools.product(*axes.values()):
        yield dict(zip(axes, combination, strict=True))


def _with(base: dict, settings: Settings, values: dict[str, Any]) -> Settings:
    """The configuration with these values; the seed is that of every network."""
    changed = copy.deepcopy(base)
    for key, value in values.items():
        for one in [key] if key != SEED else [f"networks.{name}.seed" for name in settings.networks]:
            *blocks, last = one.split(".")
            inner = changed
            for block in blocks:
                inner = inner.setdefault(block, {})
                if not isinstance(inner, dict):
                    raise InputError(f"sweep.values.{key}: {block} is not a block of keys; found {inner!r}")
            inner[last] = value
    try:
        return load(changed)
    except InputError as error:
        said = ", ".join(f"{key} = {value!r}" for key, value in values.items())
        raise InputError(f"sweep: with {said}: {error}") from None


def chain(settings: Settings, network: str) -> list[str]:
    """Return the names of a network and of those that it starts from."""
    names = [network]
    while start := settings.networks[names[-1]].warm_start:
        names.append(start)
    return names


def _entries(settings: Settings, model: str) -> list[tuple[str, str]]:
    """A model and the entries that it uses: (models, networks or spectra; name)."""
    entry = settings.models[model]
    found = [("models", model)]
    found += [("networks", name) for name in (chain(settings, entry.network) if entry.network else [])]
    found += [("spectra", entry.spectrum)] if entry.spectrum else []
    return found + [one for member in entry.members for one in _entries(settings, member)]


def _content(settings: Settings, kind: str, name: str) -> list:
    """The settings on which an entry depends: also those of the networks from which it starts, or that it uses."""
    if kind == "spectra":
        return [settings.spectra[name], settings.logmel]
    if kind == "networks":
        blocks = [settings.networks[one] for one in chain(settings, name)]
        return [(_trained(one), one.windows, one.logmel, one.backbone) for one in blocks]
    model = settings.models[name]
    below = [_content(settings, *entry) for entry in _entries(settings, name)[1:]]
    if model.fitted:
        return [model.fit.flags, model.threshold, *below]
    return [model.detector, model.fuse, model.weights, model.threshold.quantile, *below]


def _trained(network: Network) -> Training:
    """How a network is trained. If it is used as it was pre-trained, the seed changes no feature of it."""
    fixed = network.starts and not network.learns
    return network.training.model_copy(update={"seed": 0}) if fixed else network.training


def _add(
    expanded: dict, settings: Settings, model: str, values: dict[str, Any], matters: dict, runs: bool = True
) -> str:
    """Add a model, and the entries that it uses, with the values that affect them.

    Args:
        expanded: the configuration to which they are added.
        settings: the configuration with the values of the combination.
        model: the entry that is swept.
        values: the values of the combination, by key.
        matters: (kind, entry) -> the swept keys that affect it.
        runs: True: the model itself is swept. False: it is a member of a model that is swept.

    Returns:
        The name of the new model.
    """

    def name(kind: str, entry: str) -> str:
        own = [key for key in values if key in matters[kind, entry]]
        joined = "-".join([entry, *(f"{_short(key, values)}_{_text(values[key])}" for key in own)])
        return joined if len(joined) <= LONGEST else f"{joined[: LONGEST - 11]}-{digest(joined)}"

    new, entry = name("models", model), settings.models[model]
    for network in chain(settings, entry.network) if entry.network else []:
        block: Network = settings.networks[network]
        start = {"warm_start": name("networks", block.warm_start)} if block.warm_start else {}
        expanded["networks"][name("networks", network)] = block.model_dump(mode="json") | start
    rests = {"network": name("networks", entry.network)} if entry.network else {}
    if entry.spectrum:
        rests = {"spectrum": name("spectra", entry.spectrum)}
        expanded["spectra"][rests["spectrum"]] = settings.spectra[entry.spectrum].model_dump(mode="json")
    if entry.members:
        rests = {"members": [_add(expanded, settings, one, values, matters, runs=False) for one in entry.members]}
    own = {key: value for key, value in values.items() if key in matters["models", model]}
    seed = own.pop(SEED, None)
    words = [f"{_short(key, values).replace('_', ' ')} {_said(value)}" for key, value in own.items()]
    title = ", ".join([entry.title, *words])
    if runs:
        if new not in expanded["variants"]:
            expanded["run_models"].append(new)
        expanded["variants"][new] = {"model": model, "title": title, "values": own, "seed": seed}
    described = entry.without_stages(entry.model_dump(mode="json")) | rests
    expanded["models"][new] = described | {"title": title if seed is None else f"{title}, seed {seed}"}
    return new


def _short(key: str, keys: dict[str, Any]) -> str:
    """The last parts of a dotted key, as many as distinguish it from the other keys."""
    parts = key.split(".")
    for count in range(1, len(parts)):
        tail = parts[-count:]
        if not any(other != key and other.split(".")[-count:] == tail for other in keys):
            return "_".join(tail)
    return "_".join(parts)


def _said(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _text(value: Any) -> str:
    """A value as part of a name."""
    text = re.sub(r"[^A-Za-z0-9]+", "_", f"minus {-value}" if _negative(value) else _said(value)).strip("_")
    return text or digest(repr(value))


def _negative(value: Any) -> bool:
    return isinstance(value, int | float) and value < 0
