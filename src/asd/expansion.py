"""Several values of some keys, and several seeds, as entries of `networks` and `models`: one graph for all of them.

    sweep:
      models: [global]                                  # empty: all of `run_models`
      seeds: [1, 2, 3]
      values: {mvg.covariance: [ledoit_wolf, oas], train.rate: [0.001, 0.003]}

Every combination is a model, every seed of it one more. An entry's name carries the values of those keys alone that
change it: here the two covariances of a seed and a rate are two models on one network, which is trained once.
"""

import copy
import itertools
import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from asd.errors import InputError
from asd.files import digest
from asd.settings import LONGEST, Network, Settings, Sweep, load

SEED = "seed"
"""The key of the seeds' axis; no dotted key is called so."""


def expand(configuration: dict) -> dict:
    """Return a configuration without `sweep`, whose combinations are entries of `networks` and `models` instead.

    `run_models` lists the new models, in the order of the swept ones and of the values as given, and `variants` says
    what each is. A configuration without `sweep` comes back as it is.

    Raises:
        InputError: an unknown key, an impossible value, a value given twice, or a key that changes none of the models.
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
    # A swept key may choose another network, so those of every combination count.
    entries = {("models", name) for name in models} | {
        ("networks", name)
        for one in itertools.chain([settings], *single.values())
        for model in models
        for name in chain(one, one.models[model].network)
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
                f"({', '.join(models)}); expected keys of these models, of their networks, or of the blocks logmel, "
                "backbone, train, mvg and threshold. Other keys take a configuration with a results_dir of its own each"
            )
    expanded = copy.deepcopy(base)
    expanded |= {"run_models": [], "variants": {}}
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
    """A network and those that it starts from."""
    names = [network]
    while start := settings.networks[names[-1]].warm_start:
        names.append(start)
    return names


def _content(settings: Settings, kind: str, name: str) -> list:
    """What an entry comes to: a network with those that it starts from, a model with its network."""
    if kind == "networks":
        blocks = [settings.networks[one] for one in chain(settings, name)]
        return [(one.training, one.windows, one.logmel, one.backbone) for one in blocks]
    model = settings.models[name]
    decided = (model.mvg, model.threshold) if model.detector == "gaussian" else model.threshold.quantile
    return [model.detector, decided, *_content(settings, "networks", model.network)]


def _add(expanded: dict, settings: Settings, model: str, values: dict[str, Any], matters: dict) -> None:
    """Add a model with the values that matter to it, and its networks with those that matter to them."""

    def name(kind: str, entry: str) -> str:
        own = [key for key in values if key in matters[kind, entry]]
        joined = "-".join([entry, *(f"{_short(key, values)}_{_text(values[key])}" for key in own)])
        return joined if len(joined) <= LONGEST else f"{joined[: LONGEST - 11]}-{digest(joined)}"

    new, entry = name("models", model), settings.models[model]
    for network in chain(settings, entry.network):
        block: Network = settings.networks[network]
        start = {"warm_start": name("networks", block.warm_start)} if block.warm_start else {}
        expanded["networks"][name("networks", network)] = block.model_dump(mode="json") | start
    own = {key: value for key, value in values.items() if key in matters["models", model]}
    seed = own.pop(SEED, None)
    words = [f"{_short(key, values).replace('_', ' ')} {_said(value)}" for key, value in own.items()]
    title = ", ".join([entry.title, *words])
    if new not in expanded["variants"]:
        expanded["run_models"].append(new)
    expanded["variants"][new] = {"model": model, "title": title, "values": own, "seed": seed}
    expanded["models"][new] = entry.model_dump(mode="json") | {
        "title": title if seed is None else f"{title}, seed {seed}",
        "network": name("networks", entry.network),
    }


def _short(key: str, keys: dict[str, Any]) -> str:
    """The last parts of a dotted key, as many as tell it from the other keys."""
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
