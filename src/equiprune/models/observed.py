"""One pass of an image, with a look at what every layer gives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Look = Callable[[str, nn.Module, object], None]


def observed(network: nn.Module, image: Tensor, look: Look) -> None:
    """Passes an image in evaluation mode; `look` gets name, layer and output of each module, in the order they end.

    The network is left as it was.
    """
    hooks = [
        module.register_forward_hook(lambda layer, _args, out, name=name: look(name, layer, out))
        for name, module in network.named_modules()
    ]
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True
