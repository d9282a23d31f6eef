"""Two processes that train one model end where one does, for every objective."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.objectives.conftest import built, folder, with_unknown
from torch import distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional

from equiprune import processes
from equiprune.files import read_json_lines
from equiprune.objectives import OBJECTIVES
from equiprune.predicting import exit_logits
from equiprune.training.loop import Training
from equiprune.training.settings import TrainingSettings

if TYPE_CHECKING:
    from equiprune.data.cohort import Cohort
    from equiprune.data.pixels import Pixels

# 180 images to train on: batches of 45, which two processes share as 22 and 23, with augmentation and a last batch.
SETTINGS = TrainingSettings(epochs=1, batch_size=45, learning_rate=2e-3, augment="flips")


def trained(name: str, factory: str, cohort: Cohort, pixels: Pixels, out: Path) -> None:
    """One model in float64, its log, and what it says of the validation split."""
    training = Training(pixels, SETTINGS, folder=out)
    model = OBJECTIVES[name]()(built(factory, cohort), cohort, training)
    logits = exit_logits(model, cohort.subset("validation"), pixels)
    if processes.first():
        found = {f"logits{number}": values for number, values in enumerate(logits)}
        tensors = {key: value.contiguous() for key, value in {**model.state_dict(), **found}.items()}
        save_file(tensors, out / "found.safetensors")


def both_works(factory: str, kinds: dict[str, Cohort], pixels: Pixels, out: Path) -> None:
    """What two processes do: they are started once, which takes longer than the work."""
    every(factory, kinds, pixels, out)
    uneven(out)


def every(factory: str, kinds: dict[str, Cohort], pixels: Pixels, out: Path) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        for kind, cohort in kinds.items():
            for name in OBJECTIVES:
                trained(name, factory, cohort, pixels, folder(out / kind / name))
    finally:
        torch.set_default_dtype(torch.float32)


def joined(rank: int, meeting: str, work: Any, *given: Any) -> None:  # noqa: ANN401
    """What one of two processes does."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    try:
        work(*given)
    finally:
        distributed.destroy_process_group()


def in_two(tmp_path: Path, work: Any, *given: Any) -> None:  # noqa: ANN401
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2])  # where the new processes find this file
        spawn(joined, (f"file://{tmp_path / 'meeting'}", work, *given), nprocs=2)


@pytest.fixture(scope="module")
def both(
    factory: str, lesion_data: tuple[Cohort, Pixels], findings: Cohort, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Every objective trained by one process and by two."""
    cohort, pixels = lesion_data
    kinds = {"unknown": with_unknown(cohort), "findings": findings}
    out = {name: tmp_path_factory.mktemp(name) for name in ("one", "two")}
    every(factory, kinds, pixels, out["one"])
    in_two(out["two"], both_works, factory, kinds, pixels, out["two"])
    return out


@pytest.mark.parametrize("kind", ["unknown", "findings"])
@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_two_processes_end_where_one_does(name: str, kind: str, both: dict[str, Path]) -> None:
    one, two = (load_file(both[count] / kind / name / "found.safetensors") for count in ("one", "two"))
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert torch.allclose(value.double(), two[key].double(), rtol=1e-7, atol=1e-8), key
    logs = [read_json_lines(both[count] / kind / name / "log.jsonl") for count in ("one", "two")]
    for before, after in zip(*logs, strict=True):
        assert {"loss", "f1"} <= before.keys() == after.keys()
        for key in before.keys() - {"seconds", "images_per_second"}:
            assert before[key] == pytest.approx(after[key], rel=1e-7), key


def uneven(out: Path) -> None:
    """Batch norm, plain and by group, where one process has one image and the other four; and rows gathered."""
    torch.manual_seed(0)
    maps = torch.randn(5, 4, 3, 3, dtype=torch.float64)
    group = torch.tensor([0, 1, 1, -1, 1])
    own = slice(0, 1) if distributed.get_rank() == 0 else slice(1, 5)
    found: dict[str, torch.Tensor] = {}
    for kind in ("plain", "grouped"):
        network, rows, read = _norm(kind), maps[own].clone().requires_grad_(), group[own]
        with processes.one_batch(5):
            made = _passed(network, rows, read)
        (made * _slope(made, own)).sum().backward()
        slopes = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        for slope in slopes:
            distributed.all_reduce(slope)
        found |= {f"{kind}/{name}": value for name, value in network.state_dict().items()}
        found |= {f"{kind}/slope{number}": slope for number, slope in enumerate(slopes)}
        assert rows.grad is not None
        found[f"{kind}/rows{distributed.get_rank()}"] = rows.grad
    # Five rows gathered; one row is too few for two processes, and each has it.
    mine = torch.arange(5.0)[processes.share(5)][:, None].requires_grad_()
    whole = processes.gathered(mine, 5)
    (whole * torch.arange(5.0)[:, None]).sum().backward()
    assert mine.grad is not None
    found[f"whole{distributed.get_rank()}"], found[f"slope{distributed.get_rank()}"] = whole.detach(), mine.grad
    assert processes.gathered(torch.ones(1, 2), 1).shape == (1, 2)
    save_file(found, out / f"{distributed.get_rank()}.safetensors")


def _norm(kind: str) -> nn.Module:
    network: nn.Module = nn.Sequential(nn.BatchNorm2d(4)).double()
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.copy_(torch.linspace(0.5, 1.5 + number, 4))
    if kind == "grouped":
        from equiprune.models.grouped_norm import with_grouped_norms

        with_grouped_norms(network, 2)
    return network.train()


def _passed(network: nn.Module, maps: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    from equiprune.models.grouped_norm import routed

    with routed(network, group):
        made: torch.Tensor = network(maps)
    return made


def _slope(made: torch.Tensor, own: slice) -> torch.Tensor:
    whole = torch.linspace(-1, 2, 5 * made[0].numel(), dtype=torch.float64).view(5, *made.shape[1:])
    return whole[own]


def test_norms_and_rows_of_uneven_processes(both: dict[str, Path]) -> None:
    first, second = (load_file(both["two"] / f"{rank}.safetensors") for rank in (0, 1))
    torch.manual_seed(0)
    maps = torch.randn(5, 4, 3, 3, dtype=torch.float64)
    for kind in ("plain", "grouped"):
        network, rows = _norm(kind), maps.clone().requires_grad_()
        made = _passed(network, rows, torch.tensor([0, 1, 1, -1, 1]))
        (made * _slope(made, slice(0, 5))).sum().backward()
        for name, value in network.state_dict().items():
            assert torch.allclose(first[f"{kind}/{name}"].double(), value.double(), rtol=1e-12), name
            assert torch.equal(first[f"{kind}/{name}"], second[f"{kind}/{name}"])
        for number, parameter in enumerate(network.parameters()):
            assert parameter.grad is not None
            assert torch.allclose(first[f"{kind}/slope{number}"], parameter.grad, rtol=1e-9, atol=1e-12)
        assert rows.grad is not None
        found = torch.cat([first[f"{kind}/rows0"], second[f"{kind}/rows1"]])
        assert torch.allclose(found, rows.grad, rtol=1e-9, atol=1e-12)
    for rank, found_by in enumerate((first, second)):
        assert found_by[f"whole{rank}"].flatten().tolist() == [0, 1, 2, 3, 4]
        assert (found_by[f"slope{rank}"] / 2).flatten().tolist() == list(range(5))[
            slice(0, 2) if rank == 0 else slice(2, 5)
        ]


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 5, 5)])
def test_moments_are_those_of_batch_norm(shape: tuple[int, ...]) -> None:
    maps = torch.randn(*shape, dtype=torch.float64)
    mean, var, number = processes.moments(maps)
    mine = (maps - mean.view(1, -1, *(1,) * (maps.dim() - 2))) / (var + 1e-5).sqrt().view(
        1, -1, *(1,) * (maps.dim() - 2)
    )
    assert torch.allclose(mine, functional.batch_norm(maps, None, None, training=True), rtol=1e-10)
    assert number.item() == maps.numel() / 3


@pytest.mark.parametrize(("rows", "count"), [(0, 2), (1, 2), (5, 2), (7, 3), (256, 8)])
def test_every_row_has_its_process(rows: int, count: int) -> None:
    shares = [np.arange(rows)[processes.share(rows, (rank, count))] for rank in range(count)]
    if rows < count:
        assert all(len(own) == rows for own in shares)
    else:
        assert np.concatenate(shares).tolist() == list(range(rows))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
