"""`equiprune export`: a run's model for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from equiprune.errors import Problem, UsageError
from equiprune.progress import say


def export(
    run: Path,
    *,
    format_: Annotated[Literal["onnx", "safetensors", "torch"], Parameter(name="--format")] = "onnx",
    out: Path,
    step: str | None = None,
    backbone: str | None = None,
    group: str | None = None,
    json_: Annotated[bool, Parameter(name="--json", help="Prints the files as JSON.", negative=())] = False,
) -> None:
    """Writes a run's model as ONNX, safetensors with JSON, or a torch state dict with its loader.

    Args:
        run: a run (its last step), or the folder of a saved model.
        format_: onnx is one file, compared with the model in onnxruntime.
        out: the file, ending in .onnx, .safetensors, .pt or .pth.
        step: a step of the run, such as 01-vanilla.
        group: whose images it is for, where the model must be told the group (onnx and torch).
        backbone: my_file.py:factory, where the network came from one.
        json_: see there.
    """
    from equiprune.exporting import ENDINGS
    from equiprune.exporting import export as written
    from equiprune.files import refuse_missing
    from equiprune.models.classifier import Classifier

    if out.suffix not in ENDINGS[format_]:
        raise UsageError(Problem(f"a file of {format_} ends in {' or '.join(ENDINGS[format_])}", file=str(out)))
    refuse_missing([run], "run or folder of a model")
    classifier = Classifier.load(_place(run, step), factory=backbone)
    out.parent.mkdir(parents=True, exist_ok=True)
    files = written(classifier, out, format_, group)
    if json_:
        print(json.dumps({"files": [str(file) for file in files], "parameters": classifier.facts().parameters}))
        return
    facts = classifier.facts()
    for file in files:
        say(f"{file}: {file.stat().st_size / 1e6:,.2f} MB")
    say(f"{facts.parameters:,} parameters, {facts.zeros:,} of them held at zero, {len(classifier.cuts)} cuts")


def _place(run: Path, step: str | None) -> Path:
    """The folder of the model that is meant."""
    from equiprune.errors import nearest
    from equiprune.rundir import RunFolder

    if not (run / "run.json").is_file():
        if step is not None:
            raise UsageError(Problem("--step is for runs, and this is none", file=str(run)))
        return run
    steps = {each.name: each.path for each in RunFolder(run).steps()}
    if step is None and not RunFolder(run).complete:
        hint = f"The command that began it carries on; --step takes one of {', '.join(steps)}"
        raise UsageError(Problem("this run is not complete", file=str(run), hint=hint))
    if step is not None and step not in steps:
        raise UsageError(Problem(f"this run has no step {step!r}", file=str(run), hint=nearest(step, steps)))
    return steps[step] if step is not None else list(steps.values())[-1]
