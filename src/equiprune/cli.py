"""The commands. Everything heavy is imported where it is used, so `--help` answers at once."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from equiprune.commands.audit import audit
from equiprune.commands.compare import compare
from equiprune.commands.convert import convert
from equiprune.commands.export import export
from equiprune.commands.options import DataOptions, WorkOptions
from equiprune.commands.report import report
from equiprune.commands.sweep import sweep
from equiprune.errors import EquipruneError, Interrupted, Problem, UsageError, listed
from equiprune.progress import bar

if TYPE_CHECKING:
    from equiprune.recipe import Recipe
    from equiprune.rundir import RunFolder

BUG = 1
USAGE = 2
CTRL_C = 130
WHERE = "the command line"

Set = Annotated[tuple[str, ...], Parameter(name="--set", help="KEY=VALUE, any setting of the method or of training.")]

Threshold = Annotated[
    str | None,
    Parameter(help="Findings or two classes: youden, sensitivity=0.9 (chosen on validation), or a number."),
]

app = App(
    name="equiprune",
    help="Measures how unfair an image classifier is, and makes it fairer by pruning.",
    version="0.1.0",
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
data = App(name="data", help="Makes a manifest of a public data set; checks one; draws a synthetic set.")
app.command(data)
data.command(convert)


@app.command
def demo(out: Path = Path("demo"), *, work: WorkOptions = WorkOptions()) -> None:  # noqa: B008 - frozen
    """Synthetic skin lesions, training, FairPrune, SCP, audit and report, in under three minutes.

    Args:
        out: folder for the images and the run.
        work: see there.
    """
    from equiprune.commands.demo import demo_recipe

    _run(demo_recipe(out, seed=work.seed or 0), out / "run", work)


@app.command
def train(
    manifest: Path,
    *,
    out: Path,
    backbone: str = "resnet18",
    objective: str = "vanilla",
    weights: str | None = None,
    settings: Set = (),
    threshold: Threshold = None,
    columns: DataOptions = DataOptions(),  # noqa: B008 - frozen
    work: WorkOptions = WorkOptions(),  # noqa: B008 - frozen
) -> None:
    """Trains a classifier on a manifest and audits it.

    Args:
        manifest: CSV with one row an image.
        out: folder of the run.
        backbone: vgg11 vgg11_bn resnet18 resnet50 simple_cnn, or my_file.py:factory.
        objective: vanilla reweighting group_dro advconf advrev gradient_reversal domain_independent hsic mfd fairadabn
            multi_exit; see docs/objectives.md.
        weights: weights to start from: a file, a run, or a torchvision name such as IMAGENET1K_V1.
        settings: for example --set epochs=30.
        threshold: see there.
        columns: see there.
        work: see there.
    """
    from equiprune.methods import PRUNERS
    from equiprune.objectives import AFTER_TRAINING, OBJECTIVES

    if objective in PRUNERS:
        hint = f"Use `equiprune prune --method {objective}`, or a step of a recipe"
        raise UsageError(Problem(f"{objective!r} is no training objective: it changes a trained model", hint=hint))
    _one_of(objective, tuple(OBJECTIVES), "--objective")
    if objective in AFTER_TRAINING and weights is None:
        what = f"{objective} needs a trained model to begin with"
        raise UsageError(Problem(what, hint="Give it with --weights, or put another step before it in a recipe"))
    model: dict[str, Any] = {"backbone": backbone, **({} if weights is None else {"weights": weights})}
    if objective in AFTER_TRAINING:
        model["trained"] = True
    raw = {"data": {"manifest": str(manifest), **columns.given()}, "model": model, "audit": _judged(threshold)}
    _run(_recipe(raw, objective, settings, work), out, work)


@app.command
def prune(
    manifest: Path,
    *,
    model: Path,
    out: Path,
    method: str = "fairprune",
    backbone: str | None = None,
    settings: Set = (),
    threshold: Threshold = None,
    columns: DataOptions = DataOptions(),  # noqa: B008 - frozen
    work: WorkOptions = WorkOptions(),  # noqa: B008 - frozen
) -> None:
    """Prunes a trained classifier and audits it before and after.

    Args:
        manifest: CSV with one row an image.
        model: a run, or a file of weights (then --backbone, --label and --attribute are needed).
        out: folder of the new run.
        method: how to prune.
        backbone: the architecture, where the model is a file of weights.
        settings: for example --set beta=0.33; training settings of the run it starts from hold where none are given.
        threshold: see there; that of the run it starts from holds where none is given.
        columns: see there; those of the run it starts from hold where none are given.
        work: see there.
    """
    from equiprune.files import refuse_missing
    from equiprune.methods import PRUNERS
    from equiprune.rundir import RunFolder

    _one_of(method, PRUNERS, "--method")
    raw: dict[str, Any] = {"data": {}, "model": {}}
    refuse_missing([model], "run or file of weights")
    given = columns.given()
    if (model / "run.json").is_file():
        raw = RunFolder(model).read()["recipe"]
        own = raw["model"]["backbone"]
        if backbone not in (None, own) and ".py:" not in str(backbone):
            raise UsageError(Problem(f"the run's model is a {own}, not a {backbone}", hint="Leave --backbone out"))
    elif "attribute" not in given or not {"label", "labels"} & set(given):
        what = "the model is no run, so the manifest's columns must be named: --label (or --labels) and --attribute"
        raise UsageError(Problem(what, file=str(model)))
    kept = {key: value for key, value in raw["data"].items() if key != "manifest"}
    if "label" in given or "labels" in given:
        kept = {key: value for key, value in kept.items() if key not in ("label", "labels")}
    raw = {
        "data": {**kept, "manifest": str(manifest), **given},
        "model": {
            "backbone": backbone or raw["model"].get("backbone", "resnet18"),
            "weights": str(model),
            "trained": True,
        },
        "seed": raw.get("seed", 0),
        # What is trained on after a cut is trained on as the run was.
        "training": raw["step"][-1]["training"] if "step" in raw else {},
        "audit": {**raw.get("audit", {}), **_judged(threshold)},
    }
    _run(_recipe(raw, method, settings, work), out, work)


@app.command
def run(
    recipe: Path,
    *,
    out: Path | None = None,
    manifest: Path | None = None,
    smoke: Annotated[bool, Parameter(negative=())] = False,
    threshold: Threshold = None,
    columns: DataOptions = DataOptions(),  # noqa: B008 - frozen
    work: WorkOptions = WorkOptions(),  # noqa: B008 - frozen
) -> None:
    """Carries out a recipe: data, training, any list of pruning steps, audit, report. Resumes.

    Args:
        recipe: a TOML file.
        out: folder of the run; by default the recipe's name without its ending.
        manifest: instead of the one that the recipe names.
        smoke: the same steps on synthetic images with narrow networks, in minutes: to see that the recipe runs.
        threshold: instead of the recipe's; see there.
        columns: instead of what the recipe says of the data.
        work: see there.
    """
    from equiprune.recipe import Recipe

    instead = columns.given()
    instead = instead if manifest is None else {"manifest": str(manifest.absolute()), **instead}
    out = out or recipe.with_name(f"{recipe.stem}-smoke" if smoke else recipe.stem)
    read = _smoke(recipe, instead, out) if smoke else Recipe.read(recipe, instead)
    if threshold is not None:
        read = read.model_copy(update={"audit": read.audit.model_copy(update=_judged(threshold))})
    if work.seed is not None:
        read = read.model_copy(update={"seed": work.seed})
    _run(read, out, work)


app.command(audit)
app.command(compare)
app.command(export)
app.command(sweep)
app.command(report)


@data.command
def check(
    manifest: Path,
    *,
    images: bool = True,
    columns: DataOptions = DataOptions(),  # noqa: B008 - frozen
    json_: Annotated[bool, Parameter(name="--json", help="Prints the result as JSON.", negative=())] = False,
) -> None:
    """Prints everything that is wrong with a manifest, at once; else what it holds, and what may leak.

    Args:
        manifest: CSV with one row an image.
        images: also decodes every image.
        columns: see there.
        json_: see there.
    """
    from equiprune.commands.facts_table import as_json, examination_table
    from equiprune.data.check import check_manifest
    from equiprune.data.settings import data_settings

    settings = data_settings({"manifest": str(manifest), **columns.given()}, WHERE)
    with bar("decoding images") as progress:
        checked = check_manifest(settings, images=images, progress=progress)
    if json_:
        print(json.dumps(as_json(checked), ensure_ascii=False))
    if checked.problems:
        from equiprune.errors import DataError

        raise DataError(checked.problems)
    if not json_:
        examination_table(checked, str(manifest))


@data.command
def synthesize(*, out: Path, images: int = 3000, size: int = 96, difficulty: float = 0.6, seed: int = 0) -> None:
    """Draws a synthetic set of skin lesions with a known unfairness.

    Args:
        out: folder for the images and manifest.csv.
        images: how many.
        size: side in pixels.
        difficulty: how much harder the dark group is, 0 (exchangeable) to 1.
        seed: of the drawing.
    """
    from equiprune.data.synthetic import SyntheticSettings
    from equiprune.data.synthetic import synthesize as drawn

    settings = SyntheticSettings(images=images, size=size, difficulty=difficulty, seed=seed)
    with bar("drawing") as progress:
        print(drawn(out, settings, progress=progress))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and leaves with its exit code; see the contract in docs/commands.md."""
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(_exit_code(sys.argv[1:] if arguments is None else list(arguments)))


def _exit_code(arguments: list[str]) -> int:
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        command = " ".join([app.name[0], *_named(arguments)])
        print(f"error: {error}\nSee {command} --help.", file=sys.stderr)
        return USAGE
    except EquipruneError as error:
        if _first():
            print(f"error: {listed(error.problems)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command carries on", file=sys.stderr)
        return CTRL_C
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has left: nobody is there to be told
        return 0
    except Exception as error:
        if not _first():  # most often it follows from what the first process tells
            print(f"process {os.environ['RANK']}: {type(error).__name__}: {error}", file=sys.stderr)
            return BUG
        traceback.print_exc()
        print("This is a bug in equiprune. Please report it with the lines above.", file=sys.stderr)
        return BUG
    return 0


def _first() -> bool:
    """Whether this is the process that talks, where torchrun started several."""
    return os.environ.get("RANK", "0") == "0"


def _named(arguments: Sequence[str]) -> list[str]:
    """The command that was meant, as far as it exists."""
    known = [name for name in arguments[:1] if name in app]
    return known + [name for name in arguments[1:2] if known == ["data"] and name in data]


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted("stopped; the same command carries on")


def _judged(threshold: str | None) -> dict[str, Any]:
    return {} if threshold is None else {"threshold": threshold}


def _smoke(recipe: Path, data: Mapping[str, Any], out: Path) -> Recipe:
    from equiprune.grid import Grid
    from equiprune.recipe import Recipe
    from equiprune.smoke import refuse_own_data, shrunk

    refuse_own_data(data)
    return Recipe.parse(shrunk(Grid.read(recipe, {}).raw, out.parent), str(recipe), folder=recipe.parent)


def _one_of(name: str, allowed: Sequence[str], option: str) -> None:
    from equiprune.errors import nearest

    if name not in allowed:
        raise UsageError(Problem(f"{option} {name!r} does not exist", hint=nearest(name, allowed)))


def _recipe(raw: Mapping[str, Any], method: str, settings: Sequence[str], work: WorkOptions) -> Recipe:
    from equiprune.recipe import Recipe, settings_from

    seed = raw.get("seed", 0) if work.seed is None else work.seed
    step = {"method": method, **settings_from(settings)}
    return Recipe.parse({**raw, "seed": seed, "step": [step]}, WHERE)


def _run(recipe: Recipe, out: Path, work: WorkOptions) -> None:
    from equiprune.commands.audit_tables import audit_table
    from equiprune.commands.changed import changed
    from equiprune.run import Place, carry_out

    command = shlex.join(["equiprune", *sys.argv[1:]])
    place = Place(out=out, device=work.device, cache=work.cache, command=command, sinks=work.log_to)
    done = carry_out(recipe, place)
    if not _first():
        return
    if work.json:
        paths = {"run": done.path, "audit": done.audit, "report": done.report}
        print(json.dumps({name: str(path) for name, path in paths.items()}))
        return
    from equiprune.audit import Audit

    audit_table(Audit.read(done.audit))
    for line in changed(done):
        print(line)
    print(f"report: {done.report}")


__all__ = ["RunFolder", "app", "main"]
