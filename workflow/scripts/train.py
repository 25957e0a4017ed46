"""Train one network on the training clips of one machine, or of all machines.

Reads  the machine's log-mel cache (with --scope all those of all machines), and a starting point: pre-trained weights
       (from weights.py) or, for two-step training, another network of the machine (from train.py).
Writes the network (safetensors: weights, input statistics, labels and settings) and its curve (CSV, one row per epoch:
       learning rate, loss, accuracies, AdaCos scales).

With --checkpoint, training continues where an earlier process was interrupted, and ends with the same network as
without the interruption. SIGTERM saves a checkpoint and stops. A checkpoint that was made with other settings, data or
code is not used. The checkpoint is removed when the training is complete.
"""

import logging
import signal
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Annotated

import tyro

from asd import command
from asd.settings import Compute, Training


def main(
    *,
    cache: list[Path],
    start: Path | None = None,
    settings: Annotated[Training, tyro.conf.arg(name="")],
    compute: Annotated[Compute, tyro.conf.arg(name="")],
    out: Path,
    curve: Path,
    checkpoint: Path | None = None,
) -> None:
    """Train a network.

    Args:
        cache: log-mel cache of the machine, or with scope `all` those of all machines (HDF5).
        start: weights of a backbone, or a network, from which training starts (safetensors); none for kinds of
            networks that begin with random weights.
        settings: how to train.
        compute: on which device, and with how many threads.
        out: the network to write.
        curve: the training curve to write.
        checkpoint: the checkpoint to keep during training (safetensors).
    """
    from asd import checkpoint as checkpoints
    from asd import kinds, loop
    from asd import network as networks
    from asd.cache import Joined, open_cache
    from asd.code_digest import code_digest
    from asd.device import prepare
    from asd.errors import InputError
    from asd.progress import epoch_lines

    device, kind = prepare(compute), kinds.module_of(settings.kind)
    if len(cache) > 1 and settings.scope != "all":
        raise InputError(f"--cache: found {len(cache)} caches, expected one; a network of all machines has --scope all")
    with ExitStack() as stack:
        caches = [stack.enter_context(open_cache(path)) for path in cache]
        opened = Joined(caches) if settings.scope == "all" else caches[0]
        net, data = kind.prepared(start and networks.read(start), opened, settings, start, device)
        with checkpoints.stopping() if checkpoint else nullcontext() as stop:
            kept = None
            if checkpoint:
                by_name = {"kinds": {settings.kind}}
                code = code_digest(Path(__file__), Path(loop.__file__).parent, by_name=by_name)
                of = loop.identity(net, data, opened.settings, compute, device, code)
                kept = checkpoints.Checkpoint(checkpoint, of, stop)
            try:
                rows = kind.train(net, data, settings, opened.settings, epoch_lines(), kept)
            except checkpoints.Stopped as stopped:
                logging.getLogger("train").error("%s", stopped)
                raise SystemExit(128 + signal.SIGTERM) from None
    networks.save(out, net)
    loop.write_curve(curve, rows)
    if kept:
        kept.remove()


if __name__ == "__main__":
    command.run(main, __doc__)
