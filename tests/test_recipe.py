from __future__ import annotations

from pathlib import Path

import pytest

from equiprune.errors import UsageError
from equiprune.methods import FairPrune
from equiprune.recipe import Recipe, settings_from

GOOD = """
seed = 3
[data]
manifest = "m.csv"
label = "dx"
attribute = "sex"
[model]
backbone = "simple_cnn"
[training]
epochs = 7
[[step]]
method = "vanilla"
[[step]]
method = "fairprune"
beta = 0.2
epochs = 2
"""


def _read(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return Recipe.read(path)


def _message(tmp_path: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        _read(tmp_path, text)
    return str(caught.value)


def test_a_recipe_is_read_and_its_manifest_is_beside_it(tmp_path: Path) -> None:
    recipe = _read(tmp_path, GOOD)
    assert recipe.seed == 3
    assert recipe.data.manifest == str(tmp_path / "m.csv")
    assert recipe.data.attribute == ("sex",)
    assert [step.training.epochs for step in recipe.step] == [7, 2]
    assert isinstance(recipe.step[1].method, FairPrune)
    assert recipe.step[1].method.beta == 0.2


def test_every_wrong_key_and_value_is_told_at_once(tmp_path: Path) -> None:
    text = (
        GOOD.replace('label = "dx"', 'lable = "dx"')
        .replace("epochs = 7", "epochs = -1")
        .replace("beta = 0.2", "betta = 0.2")
        .replace('"vanilla"', '"vanila"')
    )
    message = _message(tmp_path, text)
    for part in ("'lable'", "Did you mean 'label'?", "'epochs'", "-1", "'betta'", "Did you mean 'beta'?", "'vanila'"):
        assert part in message
    assert "recipe.toml" in message


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[model]", "[modle]", "Did you mean 'model'?"),
        ("seed = 3", 'seed = "x"', "whole number"),
        ("seed = 3", "seed = -1", "whole number"),
        ("beta = 0.2", "beta = [0.2, 0.3]", "sweep axis"),
        ("beta = 0.2", 'gap = "eopp3"', "'eopp0'"),
        ("beta = 0.2", "ratio = 1.5", "less than 1"),
        ('label = "dx"', "", "label"),
        ('attribute = "sex"', "", "attribute"),
        ('method = "fairprune"', "", "there is no method"),
        ('method = "vanilla"', 'method = "obd"', "needs a trained model"),
        ("[data]", "[data", "not a readable TOML file"),
        ('backbone = "simple_cnn"', "trained = true", "needs weights"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert told in _message(tmp_path, GOOD.replace(old, new))


def test_missing_parts(tmp_path: Path) -> None:
    assert "[data]: this section is missing" in _message(tmp_path, "seed = 1")
    assert "at least one [[step]]" in _message(tmp_path, "seed = 1")
    with pytest.raises(UsageError, match="no such file"):
        Recipe.read(tmp_path / "absent.toml")


def test_a_file_of_the_users_is_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = _read(tmp_path, GOOD.replace('"simple_cnn"', '"net.py:make"'))
    assert recipe.model.backbone == str(tmp_path / "net.py:make")


@pytest.mark.parametrize(
    ("pair", "value"),
    [("beta=0.33", 0.33), ("samples=10", 10), ("keep=last", "last"), ("biases=true", True), ("privileged=f=m", "f=m")],
)
def test_settings_of_the_command_line(pair: str, value: object) -> None:
    assert settings_from([pair]) == {pair.partition("=")[0]: value}


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(UsageError, match="KEY=VALUE"):
        settings_from(["beta"])


FOUR = (
    GOOD
    + """
[[step]]
from = 0
method = "gradient_reversal"
[[step]]
method = "layer_pruning"
[[step]]
from = "vanilla"
method = "scp"
"""
)


def test_a_step_may_start_from_an_earlier_one(tmp_path: Path) -> None:
    assert [step.start for step in _read(tmp_path, FOUR).step] == [0, 1, 0, 3, 1]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("4", "4 is no earlier step. Give its number: 0 for the model of the recipe, 1 (vanilla), 2 (fairprune)"),
        ("-1", "-1 is no earlier step"),
        ("true", "True is no earlier step"),
        ('"vanila"', "'vanila' is no earlier step"),
        ('"gradient_reversal"', "'gradient_reversal' is no earlier step"),
    ],
)
def test_a_step_that_starts_from_no_earlier_one_is_refused(given: str, told: str, tmp_path: Path) -> None:
    message = _message(tmp_path, FOUR.replace("from = 0", f"from = {given}"))
    assert "[[step]] 3, column 'from'" in message
    assert told in message


def test_of_two_steps_of_one_method_the_number_is_asked_for(tmp_path: Path) -> None:
    text = FOUR.replace('method = "gradient_reversal"', 'method = "vanilla"')
    assert "several earlier steps are 'vanilla'" in _message(tmp_path, text)


def test_a_pruning_that_starts_from_an_untrained_model_is_refused(tmp_path: Path) -> None:
    message = _message(tmp_path, FOUR.replace('method = "gradient_reversal"', 'method = "obd"'))
    assert "[[step]] 3: obd needs a trained model" in message


def test_what_the_command_line_says_of_the_data_stands(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    data = {"manifest": "/other.csv", "labels": ("a", "b")}
    recipe = Recipe.read(path, data)
    assert recipe.data.manifest == "/other.csv"
    assert (recipe.data.label, recipe.data.labels) == (None, ("a", "b"))
    assert recipe.data.attribute == ("sex",)


@pytest.mark.parametrize(("given", "threshold"), [('"youden"', "youden"), ("0.3", "0.3"), ("1", "1")])
def test_a_threshold_is_a_rule_or_a_number(given: str, threshold: str, tmp_path: Path) -> None:
    recipe = _read(tmp_path, GOOD + f"[audit]\nthreshold = {given}\n")
    assert recipe.audit.threshold == threshold
    assert _read(tmp_path, GOOD).audit.threshold is None
    assert "unknown key" in _message(tmp_path, GOOD + "[audit]\ntreshold = 1\n")


def test_a_published_table_is_named_by_its_name(tmp_path: Path) -> None:
    assert _read(tmp_path, 'published = "scp-isic2019"\n' + GOOD).published == "scp-isic2019"
    assert "scp-isic2019" in _message(tmp_path, 'published = "scp-isic2018"\n' + GOOD)
    assert "true or false" in _message(tmp_path, "smoke = 1\n" + GOOD)
