"""Optuna's study beside a sweep: a record of what came out, for its dashboard and for other programs.

The sweep itself rests on its directory alone. So a study that is lost is written again, and one that is slow holds up
nobody.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path

import optuna
from filelock import FileLock

from equiprune.errors import Problem, UsageError
from equiprune.grid import Grid
from equiprune.pruning.watching import GAPS
from equiprune.sweepdir import PointFolder

LOCKED = 60  # seconds that a busy database is waited for
PROXY = "grpc://"  # of Optuna's storage proxy, which many workers ask instead of the database
PATIENCE = 10  # seconds that a proxy is waited for
FOLDER = "folder"
POINT = "point"


def opened(folder: Path, name: str, storage: str | None) -> optuna.Study:
    """The study of a sweep, made where there is none. It has two aims: a large macro F1 and a small gap.

    Args:
        folder: of the sweep.
        name: of the study in the storage, which may hold those of many sweeps.
        storage: URL of a database; None is a file of SQLite in the folder.

    Raises:
        UsageError: the storage cannot be reached.
    """
    try:
        with FileLock(folder / ".storage.lock"):  # two that make its tables at once get in each other's way
            study = optuna.create_study(
                storage=_storage(storage or f"sqlite:///{folder.absolute()}/study.db"),
                study_name=name,
                directions=["maximize", "minimize"],
                load_if_exists=True,
            )
            if study.user_attrs.get(FOLDER) != str(folder.absolute()):
                study.set_user_attr(FOLDER, str(folder.absolute()))
            return study
    except Exception as error:  # whatever the database's own library raises
        raise _unreachable(storage or "study.db", error) from None


def folder_of(storage: str) -> Path:
    """The directory of the one sweep whose study a storage holds.

    Raises:
        UsageError: it cannot be reached, holds none or several, or the directory is not to be seen from here.
    """
    try:
        studies = optuna.get_all_study_summaries(_storage(storage))
    except Exception as error:  # whatever the database's own library raises
        raise _unreachable(storage, error) from None
    folders = sorted({str(study.user_attrs[FOLDER]) for study in studies if FOLDER in study.user_attrs})
    if len(folders) != 1:
        what = f"holds {len(folders) or 'no'} sweeps{''.join(f'; {folder}' for folder in folders)}"
        hint = "Name the directory: --join DIR --storage URL" if folders else "Begin the sweep first, with --storage"
        raise UsageError(Problem(what, file=_shown(storage), hint=hint))
    if not Path(folders[0]).is_dir():
        hint = "All workers need the sweep's directory, on a file system that all of them see"
        raise UsageError(Problem("this directory is not to be seen from here", file=folders[0], hint=hint))
    return Path(folders[0])


def record(study: optuna.Study, grid: Grid, points: Iterable[PointFolder], gap: str) -> None:
    """Adds the points that the study does not have yet; the caller sees to it that one process does so at a time.

    Args:
        study: to add to.
        grid: whose axes are the parameters.
        points: of the sweep; only those that are new and done are read.
        gap: what is to be small.
    """
    known = {trial.user_attrs.get(POINT) for trial in study.get_trials(deepcopy=False)}
    for point in [point for point in points if point.name not in known]:
        steps = point.steps
        if steps is None:
            continue
        last = steps[-1]
        value = last[gap]
        study.add_trial(
            optuna.trial.create_trial(
                params={axis: json.dumps(value) for axis, value in point.choice.items()},
                distributions={
                    axis.name: optuna.distributions.CategoricalDistribution([json.dumps(one) for one in axis.values])
                    for axis in grid.axes
                },
                values=None if value is None else [last["f1"], value],
                state=optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE,
                user_attrs={POINT: point.name, **{key: last[key] for key in GAPS}},
                constraints={"constant": 1.0 if last["constant"] else -1.0},
            )
        )


def _storage(url: str) -> optuna.storages.BaseStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url.startswith(PROXY):
        host, _, port = url.removeprefix(PROXY).strip("/").partition(":")
        with warnings.catch_warnings():
            # It is called experimental; what we use of it is tested.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
        proxy.wait_server_ready(timeout=PATIENCE)
        return proxy
    wait = {"connect_args": {"timeout": LOCKED}} if url.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(url, engine_kwargs=wait)


def _unreachable(storage: str, error: Exception) -> UsageError:
    what = f"the storage cannot be reached ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
    return UsageError(Problem(what, file=_shown(storage)))


def _shown(storage: str) -> str:
    """A URL without name and password."""
    return storage.rsplit("@", maxsplit=1)[-1]
