"""What a layer makes of a batch: its output, or what the activation behind it makes of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Tap = Literal["activation", "conv"]
Take = Callable[[str, Tensor], None]

# What may stand between a layer and its activation: each keeps channel k channel k.
THROUGH = frozenset(
    [
        "batch_norm",
        "instance_norm",
        "group_norm",
        "layer_norm",
        "dropout",
        "dropout2d",
        "feature_dropout",
        "alpha_dropout",
        "add",
        "__add__",
        "__iadd__",
        "__radd__",
        "add_",
        "mul",
        "__mul__",
        "__imul__",
        "__rmul__",
        "mul_",
        "contiguous",
        "clone",
        "to",
        "float",
    ]
)
ACTIVATIONS = frozenset(
    [
        "relu",
        "relu_",
        "relu6",
        "hardtanh",
        "hardtanh_",
        "clamp",
        "clamp_",
        "clamp_min",
        "clamp_min_",
        "leaky_relu",
        "leaky_relu_",
        "elu",
        "elu_",
        "selu",
        "selu_",
        "celu",
        "celu_",
        "rrelu",
        "gelu",
        "silu",
        "mish",
        "hardswish",
        "hardsigmoid",
        "sigmoid",
        "sigmoid_",
        "tanh",
        "tanh_",
        "softplus",
        "softsign",
        "prelu",
        "threshold",
        "logsigmoid",
        "hardshrink",
        "softshrink",
        "tanhshrink",
    ]
)


@contextmanager
def tapped(layers: Mapping[str, nn.Module], take: Take, tap: Tap = "activation") -> Iterator[Callable[[], None]]:
    """Hands over what each layer makes, once a forward pass, as long as the context lasts.

    To be called after each pass is what the context gives: then what nothing has read is handed over.

    "activation" follows a layer's output through norms and sums to the first activation. Where something else reads
    it first (pooling, another convolution, the end of the network), it is handed over as it was then. Layers whose
    outputs are added up give the same tensor.

    Args:
        layers: by name; each is used once in a pass.
        take: gets a name and a tensor, which may change as soon as it returns.
        tap: where.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
        >>> seen = {}
        >>> with tapped({"0": net[0]}, lambda name, made: seen.update({name: made.min().item() >= 0})) as finish:
        ...     _ = net(torch.randn(1, 1, 4, 4))
        ...     finish()
        >>> seen
        {'0': True}
    """
    mode = _Following(take)

    def begin(name: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, _args: object, output: Tensor) -> None:
            if tap == "conv":
                take(name, output)
            else:
                mode.follow(name, output)

        return hook

    hooks = [layer.register_forward_hook(begin(name)) for name, layer in layers.items()]
    try:
        with mode:
            yield mode.finish
    finally:
        for hook in hooks:
            hook.remove()


class _Following(TorchFunctionMode):
    """Sees every call of a torch function, and follows some tensors through them."""

    def __init__(self, take: Take) -> None:
        super().__init__()
        self.take = take
        self.followed: dict[int, tuple[Tensor, list[str]]] = {}  # the tensors are held, so that no id comes twice

    def follow(self, name: str, tensor: Tensor) -> None:
        held = self.followed.setdefault(id(tensor), (tensor, []))
        held[1].append(name)

    def finish(self) -> None:
        """Hands over what nothing has read."""
        entries = list(self.followed.values())
        self.followed.clear()  # first: whoever takes them calls torch functions
        for tensor, names in entries:
            self._hand_over(names, tensor)

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        args = tuple(args)
        result = func(*args, **(kwargs or {}))
        if self.followed and next(_tensors([result]), None) is not None:
            read = [value for value in _tensors((*args, *(kwargs or {}).values())) if id(value) in self.followed]
            if read:
                self._went(getattr(func, "__name__", ""), read, result)
        return result

    def _went(self, function: str, read: list[Tensor], result: Any) -> None:  # noqa: ANN401
        source = read[0]
        entries = [self.followed.pop(key) for key in dict.fromkeys(map(id, read))]
        names = list(dict.fromkeys(name for _, own in entries for name in own))
        alike = isinstance(result, Tensor) and result.shape == source.shape
        if alike and function in ACTIVATIONS:
            self._hand_over(names, result)
        elif alike and (result is source or function in THROUGH):
            self.followed[id(result)] = (result, names)
        else:
            for tensor, own in entries:
                self._hand_over(own, tensor)

    def _hand_over(self, names: list[str], tensor: Tensor) -> None:
        for name in names:
            self.take(name, tensor)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)
