"""The kind efficientnet (`asd.kinds`): its network is in `asd.network`, its training in `asd.training`."""

from asd.network import Description, Network
from asd.training import prepared, train

__all__ = ["Description", "Network", "prepared", "train"]
