"""The curvature beside the libraries that give it today, doing the same work in the same run.

- accuracy: exact against BackPACK on VGG-11 and ResNet-18, float32, one batch.
- exact: seconds and peak memory beside BackPACK's DiagGGNExact, at several batch sizes, each in its own process.
- budget: seconds on trained networks beside BackPACK's exact diagonal, and how many of the weights that FairPrune
  would prune are the same.
- stochastic: passes and agreement on trained networks, beside BackPACK's sampled labels and curvlinops' Hutchinson.
- iteration: FairPrune's scores of one iteration as the paper has it: 1000 images a group, VGG-11, 114 classes.
- costs: seconds against classes, batch, image size and depth.
- floor: how near each kind of layer comes to the machine's rate of matrix products.
- selection: the lowest 35 % of 129 million scores, and the memory it takes.

Run: python benchmarks/curvature.py [--only exact …] [--trained FOLDER] [--device cpu|cuda]
`--trained` is what `benchmarks/converged.py` wrote; budget, stochastic and iteration need it.
BackPACK is in the tests' requirements; curvlinops is not (`pip install curvlinops-for-pytorch`), and its row is left
out where it is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import converged

MIB = 1 << 20
BETA = 0.33  # FairPrune's
LOWEST = (0.05, 0.35)
PARTS = ("accuracy", "exact", "budget", "stochastic", "iteration", "costs", "floor", "selection")
BATCHES = {"vgg": (2, 16), "resnet": (2, 16, 64)}


# Work, each in a process of its own


def peak_reset() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def resident(kind: str) -> float:
    """VmRSS or VmHWM in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) / 1024
    return float("nan")


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds, and how much memory was taken on top of what was held before."""
    import torch

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    peak_reset()
    held = resident("VmRSS")
    started = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    memory = (torch.cuda.max_memory_allocated() - before) / MIB if cuda else resident("VmHWM") - held
    return {"seconds": seconds, "memory": memory}


def batch(net: str, rows: int, device: str, size: int = converged.SIZE) -> tuple[Any, Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(1)
    image = torch.randn(rows, 3, size, size, generator=generator).to(device)
    label = torch.randint(converged.CLASSES[net], (rows,), generator=generator).to(device)
    return image, label, torch.zeros(rows, dtype=torch.int64)


def fresh(net: str, device: str) -> Any:  # noqa: ANN401
    import torch

    torch.manual_seed(0)
    return converged.made(net).to(device)


def plain(model: Any, image: Any, label: Any) -> None:  # noqa: ANN401
    """One pass forwards and one backwards, as in training."""
    import torch

    out = model(image.contiguous(memory_format=torch.channels_last))
    torch.autograd.grad(torch.nn.functional.cross_entropy(out, label), list(model.parameters()))


def backpacked(model: Any, image: Any, label: Any, *, sampled: bool = False) -> dict[str, Any]:  # noqa: ANN401
    """BackPACK's diagonal, mean over the samples."""
    import torch
    from backpack import backpack, extend
    from backpack.extensions import DiagGGNExact, DiagGGNMC

    warnings.simplefilter("ignore")
    theirs = extend(model, use_converter=True).eval()
    loss = extend(torch.nn.CrossEntropyLoss())
    extension = DiagGGNMC() if sampled else DiagGGNExact()
    with backpack(extension):
        loss(theirs(image), label).backward()
    return {name: getattr(value, extension.savefield) for name, value in theirs.named_parameters()}


def ours(model: Any, batches: Any, estimator: Any, groups: tuple[str, ...] = ("all",)) -> Any:  # noqa: ANN401
    from equiprune import curvature

    return curvature.diagonal(model, batches, groups, estimator=estimator)


def job_exact(net: str, rows: int, who: str, device: str) -> dict[str, Any]:
    model, (image, label, group) = fresh(net, device), batch(net, rows, device)
    plain(model, image[:2], label[:2])  # libraries are loaded and threads started
    if who == "plain":
        plain(model, image, label)
        return timed(lambda: plain(model, image, label))
    if who == "ours":
        return timed(lambda: ours(model, [(image, label, group)], "exact"))
    return timed(lambda: backpacked(model, image, label))


def job_accuracy(net: str, rows: int, device: str) -> dict[str, Any]:
    """How far each is from the other, and from ours in float64: the norm of the difference, worst parameter."""
    import torch

    image, label, group = batch(net, rows, device)
    mine = ours(fresh(net, device), [(image, label, group)], "exact")["all"]
    truth = ours(fresh(net, device).double(), [(image.double(), label, group)], "exact")["all"]
    # The converter renames; both keep the order of the parameters.
    theirs = dict(zip(mine, backpacked(fresh(net, device), image, label).values(), strict=True))
    double = fresh(net, device).double()
    torch.set_default_dtype(torch.float64)  # BackPACK makes some of its own tensors
    theirs64 = dict(zip(mine, backpacked(double, image.double(), label).values(), strict=True))

    def apart(one: dict[str, Any], other: dict[str, Any]) -> float:
        norm = torch.linalg.vector_norm
        return max(float(norm(one[name].double() - value) / norm(value.double())) for name, value in other.items())

    return {
        "float64": apart(truth, theirs64), "float32": apart(mine, theirs),
        "ours": apart(mine, truth), "theirs": apart(theirs, truth),
    }  # fmt: skip


def trained(net: str, folder: str, per_group: int, device: str) -> tuple[Any, list[tuple[Any, Any, Any]]]:
    """A trained network and batches of the first images of each group."""
    import torch

    model, (image, label, group) = converged.load(net, Path(folder))
    rows = torch.cat([(group == index).nonzero().squeeze(1)[:per_group] for index in range(2)])
    parts = rows.split(64)
    return model.to(device), [
        (converged.pixels(image[part]).to(device), label[part].to(device), group[part]) for part in parts
    ]


def scores(model: Any, diagonals: Any) -> Any:  # noqa: ANN401
    """FairPrune's, of all weights of convolutions and linear layers."""
    import torch

    weights = {name: value.detach() for name, value in model.named_parameters() if value.dim() > 1}
    light, dark = (diagonals[name] for name in diagonals)
    return torch.cat([((light[n] - BETA * dark[n]) * w.square()).flatten().cpu() for n, w in weights.items()])


def agreement(found: Any, expected: Any) -> dict[str, float]:  # noqa: ANN401
    import torch

    shared: dict[str, float] = {}
    for share in LOWEST:
        count = int(share * len(found))
        chosen = torch.zeros(2, len(found), dtype=torch.bool)
        for row, values in enumerate((found, expected)):
            chosen[row, values.topk(count, largest=False).indices] = True
        shared[f"{share:g}"] = int(chosen.all(0).sum()) / count
    return shared


def relative(found: Any, expected: Any) -> float:  # noqa: ANN401
    import torch

    pairs = [(found[group][name], value) for group in expected for name, value in expected[group].items()]
    off = sum(float((mine - value).double().square().sum()) for mine, value in pairs)
    return float((torch.tensor(off) / sum(float(value.double().square().sum()) for _, value in pairs)).sqrt())


def job_trained(net: str, folder: str, per_group: int, reference: float, device: str) -> list[dict[str, Any]]:
    """Every estimator on the same images: cost, and what it changes in what is pruned."""
    from equiprune.curvature import Budget, Exact, Fisher, Stochastic

    model, batches = trained(net, folder, per_group, device)
    rows = sum(len(each[2]) for each in batches)
    plain(model, *batches[0][:2])
    some = batches[:4]

    def through() -> None:
        for each in some:
            plain(model, *each[:2])

    passes = timed(through)["seconds"]
    passes *= rows / sum(len(each[2]) for each in some)
    found: list[dict[str, Any]] = [{"what": "a plain pass", "seconds": passes, "rows": rows}]
    truth: Any = None
    choices: list[Any] = [
        Exact() if reference == 0 else Budget(reference),
        Budget(1e-4),
        Stochastic(1.0),
        Stochastic(2.0),
    ]
    if net == "resnet":
        choices += [Budget(1e-3), Stochastic(0.5), Fisher(), Budget(1e-4, "bfloat16")]
    for choice in choices:
        started = time.perf_counter()
        diagonals = ours(model, batches, choice, ("light", "dark"))
        seconds = time.perf_counter() - started
        mine = scores(model, diagonals)
        if truth is None:
            truth, expected = diagonals, mine
        found.append({
            "what": str(choice), "seconds": seconds, "columns": diagonals.columns / rows,
            "error": relative(diagonals, truth), "agreement": agreement(mine, expected),
            "dropped": diagonals.dropped,
        })  # fmt: skip
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    found.append(_peer("BackPACK, one sampled label", model, batches, expected, truth, net, folder))
    if net == "resnet":
        found.append(_peer("curvlinops, Hutchinson", model, batches, expected, truth, net, folder))
    return found


def _peer(what: str, model: Any, batches: Any, expected: Any, truth: Any, net: str, folder: str) -> dict[str, Any]:  # noqa: ANN401
    import torch

    names = [name for name, _ in model.named_parameters()]
    sums: dict[str, dict[str, Any]] = {}
    started = time.perf_counter()
    for group, name in enumerate(truth):
        rows = torch.cat([each[0][each[2] == group] for each in batches])
        label = torch.cat([each[1][each[2] == group] for each in batches])
        parts = list(zip(rows.split(16), label.split(16), strict=True))
        if "curvlinops" in what:
            try:
                from curvlinops import GGNLinearOperator, hutchinson_diag
            except ImportError:
                return {"what": f"{what} (not installed)"}
            own = converged.load(net, Path(folder))[0].to(rows.device)
            parameters = list(own.parameters())
            operator = GGNLinearOperator(own, torch.nn.CrossEntropyLoss(), parameters, parts, check_deterministic=False)
            flat = hutchinson_diag(operator, num_matvecs=1).detach()
            pieces = flat.split([value.numel() for value in parameters])
            sums[name] = {n: p.view(v.shape) for n, p, v in zip(names, pieces, parameters, strict=True)}
        else:
            own = converged.load(net, Path(folder))[0].to(rows.device)
            total: list[Any] = []
            for image, chosen in parts:
                values = [
                    value * (len(image) / len(rows)) for value in backpacked(own, image, chosen, sampled=True).values()
                ]
                total = [a + b for a, b in zip(total, values, strict=True)] if total else values
            sums[name] = dict(zip(names, total, strict=True))
    seconds = time.perf_counter() - started
    mine = scores(model, sums)
    return {"what": what, "seconds": seconds, "error": relative(sums, truth), "agreement": agreement(mine, expected)}


def job_iteration(folder: str, estimator: str, device: str) -> dict[str, Any]:
    """FairPrune's scores of the paper's iteration, with torchvision's own VGG-11: 2 groups of 1000 images."""
    import torch
    from torchvision.models import vgg11

    from equiprune.curvature import Budget, Stochastic
    from equiprune.pruning.masks import lowest

    small, (image, label, group) = converged.load("vgg", Path(folder))
    model = vgg11(num_classes=converged.CLASSES["vgg"]).eval()
    model.features.load_state_dict(small.features.state_dict())
    for new, old in zip(model.classifier[1:], small.classifier[1:], strict=True):
        new.load_state_dict(old.state_dict())
    # The first linear layer reads 7 x 7 means of the 4 x 4 map: weights with which the logits stay what they are.
    spread = torch.nn.functional.adaptive_avg_pool2d(torch.eye(16).view(16, 1, 4, 4), 7).view(16, 49).T
    back = torch.linalg.pinv(spread.double()).float()
    with torch.no_grad():
        model.classifier[0].weight.copy_((small.classifier[0].weight.view(4096, 512, 16) @ back).flatten(1))
        model.classifier[0].bias.copy_(small.classifier[0].bias)
        off = float((model(converged.pixels(image[:4])) - small(converged.pixels(image[:4]))).abs().max())
    del small
    rows = torch.cat([(group == index).nonzero().squeeze(1)[:1000] for index in range(2)])
    rows = torch.cat([rows, rows])[:2000]  # what was trained on may be fewer

    class Rows:
        def __iter__(self) -> Any:  # noqa: ANN401
            for part in rows.split(64):
                yield converged.pixels(image[part]).to(device), label[part], group[part]

    model = model.to(device)
    chosen = {"budget": Budget(), "stochastic": Stochastic()}[estimator]

    def work() -> None:
        diagonals = ours(model, Rows(), chosen, ("light", "dark"))
        facts["columns"] = diagonals.columns / len(rows)
        weights = {name: value.detach() for name, value in model.named_parameters() if value.dim() > 1}
        for name, value in weights.items():
            diagonals["light"][name].sub_(diagonals["dark"][name], alpha=BETA).mul_(value.square())
        signed = {name: diagonals["light"][name] for name in weights}
        lowest(signed, int(0.05 * sum(value.numel() for value in weights.values())), held={})

    facts: dict[str, float] = {}
    found = timed(work)
    return {**found, **facts, "images": len(rows), "logits_off": off}


def job_cost(net: str, classes: int, rows: int, size: int, depth: int, device: str) -> dict[str, Any]:
    """Exact, seconds an image, and a plain pass."""
    import torch
    from torch import nn
    from torchvision.models import resnet18

    torch.manual_seed(0)
    if net == "resnet18":
        model: Any = resnet18(num_classes=classes).eval()
    else:
        layers: list[nn.Module] = []
        width = 3
        for _ in range(depth):
            layers += [nn.Conv2d(width, 64, 3, padding=1), nn.ReLU()]
            width = 64
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, classes)).eval()
    model = model.to(device)
    image = torch.randn(rows, 3, size, size, device=device)
    label = torch.randint(classes, (rows,), device=device)
    plain(model, image, label)
    once = min(timed(lambda: plain(model, image, label))["seconds"] for _ in range(2))
    group = torch.zeros(rows, dtype=torch.int64)
    found = timed(lambda: ours(model, [(image, label, group)], "exact"))
    return {**found, "plain": once, "ratio": found["seconds"] / once / (classes - 1)}


def job_floor(device: str) -> list[dict[str, Any]]:
    """Exact on one layer of a kind: the products that cannot be avoided, at the rate of a large matrix product."""
    import torch
    from torch import nn

    from equiprune.curvature import jobs

    torch.manual_seed(0)
    left = torch.randn(2048, 2048, device=device)
    rate = 2 * 2048**3 / min(timed(lambda: left @ left)["seconds"] for _ in range(5))
    found: list[dict[str, Any]] = [{"what": "a product of 2048 x 2048 matrices", "rate": rate / 1e9}]
    kinds: dict[str, tuple[Any, tuple[int, ...]]] = {
        "conv 3 to 64, 128 x 128": (nn.Conv2d(3, 64, 3, padding=1), (3, 128, 128)),
        "conv 64 to 128, 64 x 64": (nn.Conv2d(64, 128, 3, padding=1), (64, 64, 64)),
        "conv 256 to 256, 32 x 32": (nn.Conv2d(256, 256, 3, padding=1), (256, 32, 32)),
        "conv 512 to 512, 16 x 16": (nn.Conv2d(512, 512, 3, padding=1), (512, 16, 16)),
        "conv 512 to 512, 8 x 8": (nn.Conv2d(512, 512, 3, padding=1), (512, 8, 8)),
        "conv 512 to 512, 4 x 4": (nn.Conv2d(512, 512, 3, padding=1), (512, 4, 4)),
        "depthwise conv of 256, 32 x 32": (nn.Conv2d(256, 256, 3, padding=1, groups=256), (256, 32, 32)),
        "linear 768 to 768, 196 places": (nn.Linear(768, 768), (196, 768)),
        "linear 4096 to 4096": (nn.Linear(4096, 4096), (4096,)),
    }
    spent = 0.0
    add, flush = jobs.Product.add, jobs.Product.flush

    def clocked(method: Callable[..., None]) -> Callable[..., None]:
        def run(*args: Any) -> None:  # noqa: ANN401
            nonlocal spent
            started = time.perf_counter()
            method(*args)
            spent += time.perf_counter() - started

        return run

    jobs.Product.add, jobs.Product.flush = clocked(add), clocked(flush)  # type: ignore[method-assign]
    for what, (layer, shape) in kinds.items():
        for columns in (7, 113):

            class Alone(nn.Module):
                """The layer between its input and a random map to the logits, without a parameter of its own."""

                def __init__(self, layer: Any, columns: int, shape: tuple[int, ...]) -> None:  # noqa: ANN401
                    super().__init__()
                    self.layer = layer
                    with torch.no_grad():
                        out = layer(torch.zeros(1, *shape))
                    self.register_buffer("last", torch.randn(columns + 1, out.numel()) / out.numel() ** 0.5)

                def forward(self, image: Any) -> Any:  # noqa: ANN401
                    return self.layer(image).relu().flatten(1) @ self.last.T

            model = Alone(layer, columns, shape).to(device).eval()
            image = torch.randn(8, *shape, device=device)
            spent = 0.0
            ours(model, [(image, torch.zeros(8, dtype=torch.int64), torch.zeros(8, dtype=torch.int64))], "exact")
            out = layer(image)
            places = out[0].numel() / (out.shape[1] if out.dim() == 4 else out.shape[-1])
            products = 2.0 * layer.weight.numel() * places * columns * 8
            if out.dim() == 2:
                products = 2.0 * layer.weight.numel() * 8  # (sum of squares) x (squares): once for all columns
            found.append(
                {"what": what, "columns": columns, "rate": products / spent / 1e9, "share": products / spent / rate}
            )
    jobs.Product.add, jobs.Product.flush = add, flush  # type: ignore[method-assign]
    return found


def job_selection(weights: int) -> dict[str, Any]:
    import torch

    from equiprune.pruning.masks import lowest

    generator = torch.Generator().manual_seed(0)
    sizes = [weights // 8] * 7 + [weights - 7 * (weights // 8)]
    values = {f"layer {i}": torch.randn(size, generator=generator) for i, size in enumerate(sizes)}
    count = int(0.35 * weights)
    found = timed(lambda: lowest(values, count, held={}))
    flat = torch.cat(list(values.values()))
    ordered = timed(lambda: flat.sort())
    partial = timed(lambda: flat.topk(count, largest=False))
    return {"ours": found, "sort": ordered, "topk": partial, "copy": 4 * weights / MIB}


# Tables


def run(job: str, **settings: Any) -> Any:  # noqa: ANN401
    """A job's answer, from a process of its own; None and a line where it died."""
    command = [sys.executable, __file__, "--job", job, "--settings", json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  {job} {settings} ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def show_exact(device: str) -> None:
    for net, sizes in BATCHES.items():
        for rows in sizes:
            mine, theirs = (run("exact", net=net, rows=rows, who=who, device=device) for who in ("ours", "backpack"))
            once = run("exact", net=net, rows=rows, who="plain", device=device)
            line = f"  {net}, batch {rows}: ours {mine['seconds']:.2f} s, {mine['memory']:.0f} MiB"
            if theirs:
                line += f"; BackPACK {theirs['seconds']:.2f} s, {theirs['memory']:.0f} MiB"
                line += f"; {theirs['seconds'] / mine['seconds']:.2f} times faster"
                line += f", {theirs['memory'] / mine['memory']:.1f} times less"
            print(f"{line}; plain pass {once['seconds']:.3f} s", flush=True)


def show_accuracy(device: str) -> None:
    for net in BATCHES:
        found = run("accuracy", net=net, rows=2, device=device)
        print(
            f"  {net}: from BackPACK {found['float64']:.1e} in float64, {found['float32']:.1e} in float32; "
            f"float32 from float64: ours {found['ours']:.1e}, BackPACK {found['theirs']:.1e}",
            flush=True,
        )


def show_trained(net: str, folder: str, per_group: int, reference: float, device: str) -> None:
    found = run("trained", net=net, folder=folder, per_group=per_group, reference=reference, device=device)
    theirs = run("exact", net=net, rows=2 if net == "vgg" else 16, who="backpack", device=device)
    each = theirs["seconds"] / (2 if net == "vgg" else 16)
    rows = found[0]["rows"]
    print(f"  {net}, {rows} images; a plain pass over them {found[0]['seconds']:.1f} s; BackPACK's exact diagonal")
    print(f"  {each * rows:.0f} s at {each:.2f} s an image (measured on one batch)")
    for one in found[1:]:
        if "seconds" not in one:
            print(f"    {one['what']}")
            continue
        shared = ", ".join(f"{value:.2%} of the lowest {float(key):.0%}" for key, value in one["agreement"].items())
        columns = f", {one['columns']:.2f} columns an image" if "columns" in one else ""
        print(
            f"    {one['what']}: {one['seconds']:.1f} s = {one['seconds'] / found[0]['seconds']:.2f} plain passes, "
            f"{each * rows / one['seconds']:.1f} times faster than BackPACK's exact{columns}; "
            f"off by {one['error']:.1e}; {shared}",
            flush=True,
        )


def show_iteration(folder: str, device: str) -> None:
    each = run("exact", net="vgg", rows=2, who="backpack", device=device)["seconds"] / 2
    for estimator in ("budget", "stochastic"):
        found = run("iteration", folder=folder, estimator=estimator, device=device)
        print(
            f"  {estimator}: {found['images']} images, scores and choice of weights in {found['seconds']:.0f} s, "
            f"{found['columns']:.2f} columns an image; BackPACK's exact at {each:.1f} s an image would take "
            f"{each * found['images'] / 3600:.1f} h",
            flush=True,
        )


def show_costs(device: str) -> None:
    cases = [("resnet18", classes, 16, 64, 0) for classes in (2, 8, 32, 114)] + [("resnet18", 1000, 2, 64, 0)]
    cases += [("resnet18", 8, rows, 64, 0) for rows in (1, 4, 64)] + [
        ("resnet18", 8, 16, size, 0) for size in (32, 128, 224)
    ]
    cases += [("convolutions", 8, 16, 32, depth) for depth in (2, 4, 8, 16)]
    for net, classes, rows, size, depth in cases:
        found = run("cost", net=net, classes=classes, rows=rows, size=size, depth=depth, device=device)
        what = f"{depth} {net}" if depth else net
        print(
            f"  {what}, {classes} classes, batch {rows}, {size} px: {found['seconds'] / rows * 1e3:.1f} ms an image, "
            f"{found['ratio']:.2f} plain passes a column, {found['memory']:.0f} MiB",
            flush=True,
        )


def show_floor(device: str) -> None:
    found = run("floor", device=device)
    print(f"  {found[0]['what']}: {found[0]['rate']:.0f} GFLOP/s")
    for one in found[1:]:
        print(f"  {one['what']}, {one['columns']} columns: {one['rate']:.0f} GFLOP/s as if dense, {one['share']:.0%}")


def show_selection() -> None:
    found = run("selection", weights=129_000_000)
    for what in ("ours", "topk", "sort"):
        one = found[what]
        print(f"  {what}: {one['seconds']:.1f} s, {one['memory'] / found['copy']:.2f} copies of the scores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--trained")
    parser.add_argument("--images", type=int, default=500, help="images a group, on trained networks")
    parser.add_argument("--reference", type=float, default=1e-5, help="VGG-11's truth: the budget with this tolerance")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--job")
    parser.add_argument("--settings", default="{}")
    given = parser.parse_args()
    if given.job:
        print(json.dumps(globals()[f"job_{given.job}"](**json.loads(given.settings))))
        return
    import torch

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    show: dict[str, Callable[[], None]] = {
        "accuracy": lambda: show_accuracy(given.device),
        "exact": lambda: show_exact(given.device),
        "budget": lambda: show_trained("resnet", given.trained, given.images, 0, given.device),
        "stochastic": lambda: show_trained("vgg", given.trained, given.images, given.reference, given.device),
        "iteration": lambda: show_iteration(given.trained, given.device),
        "costs": lambda: show_costs(given.device),
        "floor": lambda: show_floor(given.device),
        "selection": show_selection,
    }
    for part in given.only:
        if part in ("budget", "stochastic", "iteration") and not given.trained:
            print(f"{part}: left out, for it needs --trained")
            continue
        print(part)
        show[part]()


if __name__ == "__main__":
    main()
