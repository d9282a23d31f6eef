"""The official tables, without their images: what comes out is counted by pandas on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from equiprune.data.sources import SOURCES, Converted, Wishes, convert_source

UNKNOWN = ""


@pytest.fixture(scope="module")
def official(shared_data: Path) -> Path:
    folder = shared_data / "official"
    if not folder.is_dir():
        pytest.skip("the official tables that may not be shipped with the project are not here")
    return folder


def converted(name: str, official: Path, out: Path, **wishes: object) -> tuple[Converted, pd.DataFrame]:
    done = convert_source(SOURCES[name], official, out / "m.csv", Wishes(keep_missing=True, **wishes))  # type: ignore[arg-type]
    return done, pd.read_csv(out / "m.csv", dtype=str, keep_default_na=False)


def table(official: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(official / name, dtype=str, keep_default_na=False)


def sizes(column: pd.Series[Any]) -> dict[str, int]:
    return {str(name): int(many) for name, many in column.value_counts().items()}


def test_fitzpatrick17k(official: Path, tmp_path: Path) -> None:
    done, m = converted("fitzpatrick17k", official, tmp_path)
    twin = table(official, "fitzpatrick17k.csv.gz")
    assert (done.rows, len(done.labels), done.groups["skin_type"][UNKNOWN]) == (16_577, 114, 565)
    assert sizes(m["label"]) == sizes(twin["label"])
    assert sizes(m["skin_type"]) == sizes(twin["fitzpatrick_scale"].replace("-1", ""))
    assert sizes(m["skin_type_centaur"]) == sizes(twin["fitzpatrick_centaur"].replace("-1", ""))
    assert m["image"].str.endswith(twin["md5hash"][0] + ".jpg")[0]
    assert sizes(m["three_partition_label"]) == sizes(twin["three_partition_label"])
    assert done.missing.images == 16_577
    assert sum(done.counts["skin_type"]["6"].values()) == 635


def test_isic2019(official: Path, tmp_path: Path) -> None:
    done, m = converted("isic2019", official, tmp_path)
    truth = table(official, "ISIC_2019_Training_GroundTruth.csv.gz").set_index("image").astype(float)
    facts = table(official, "ISIC_2019_Training_Metadata.csv.gz")
    assert (done.rows, len(done.labels), done.groups["sex"][UNKNOWN]) == (25_331, 8, 384)
    assert sizes(m["label"]) == sizes(truth.idxmax(axis=1))
    assert sizes(m["sex"]) == sizes(facts["sex"])
    assert m["age"].tolist() == facts["age_approx"].tolist()
    assert int((m["age"] == "0").sum()) == 54
    assert m["lesion_id"].tolist() == facts["lesion_id"].tolist()
    assert int(m["image"].str.endswith("_downsampled.jpg").sum()) == 2_074
    crossed = pd.crosstab(facts["sex"], truth.idxmax(axis=1).to_numpy())
    assert done.counts["sex"]["male"] == crossed.loc["male"].to_dict()


def test_ham10000(official: Path, tmp_path: Path) -> None:
    done, m = converted("ham10000", official, tmp_path)
    twin = table(official, "HAM10000_metadata.csv.gz")
    assert (done.rows, len(done.labels), done.groups["sex"][UNKNOWN]) == (10_015, 7, 57)
    assert sizes(m["label"]) == sizes(twin["dx"])
    assert sizes(m["sex"]) == sizes(twin["sex"].replace("unknown", ""))
    assert int((m["age"] == "0").sum()) == int((twin["age"] == "0.0").sum()) == 39
    assert m["lesion_id"].nunique() == twin["lesion_id"].nunique() == 7_470


def test_pad_ufes_20(official: Path, tmp_path: Path) -> None:
    done, m = converted("pad-ufes-20", official, tmp_path)
    twin = table(official, "PAD-UFES-20_metadata.csv.gz")
    assert (done.rows, len(done.labels)) == (2_298, 6)
    assert done.groups["sex"][UNKNOWN] == done.groups["skin_type"][UNKNOWN] == 804
    assert sizes(m["label"]) == sizes(twin["diagnostic"])
    assert sizes(m["sex"]) == sizes(twin["gender"].str.lower())
    assert sizes(m["skin_type"]) == sizes(twin["fitspatrick"].str.removesuffix(".0"))
    assert m["patient_id"].nunique() == twin["patient_id"].nunique()
    assert m["image"].str.endswith(twin["img_id"][0])[0]


def test_nih_cxr14(official: Path, tmp_path: Path) -> None:
    done, m = converted("nih-cxr14", official, tmp_path)
    twin = table(official, "NIH_Data_Entry_2017_v2020.csv.gz")
    assert done.rows == 112_120
    findings = twin["Finding Labels"].str.get_dummies("|").drop(columns="No Finding")
    assert len(done.labels) == findings.shape[1] == 14
    for name in done.labels:
        assert (m[name] == findings[name].astype(str)).all(), name
        assert done.findings[name]["positive"] == int(findings[name].sum())
    assert int((m[list(done.labels)] == "0").all(axis=1).sum()) == 60_361
    assert sizes(m["sex"]) == {"male": 63_340, "female": 48_780}
    assert m["patient_id"].nunique() == 30_805
    assert int((m["age"] == "").sum()) == int((twin["Patient Age"] == "0").sum()) == 14
    crossed = findings["Hernia"].groupby(twin["Patient Gender"]).sum()
    assert (done.counts["sex"]["female"]["Hernia"], done.counts["sex"]["male"]["Hernia"]) == (
        crossed["F"],
        crossed["M"],
    )


def test_the_published_isic_split_leaves_out_unknown_sex_and_leaks_lesions(official: Path, tmp_path: Path) -> None:
    files = tuple(official / f"paper_split_isic2019_{part}.csv.gz" for part in ("train", "val", "test"))
    done, m = converted("isic2019", official, tmp_path, split_tables=files)
    assert done.splits == {"train": 14_904, "validation": 4_965, "test": 4_971}
    assert done.left_out == {"in no split": 25_331 - 24_840}
    first = table(official, "paper_split_isic2019_val.csv.gz")["image"]
    inside = m.loc[m["split"] == "validation", "image"].str.rpartition("/")[2].str.removesuffix(".jpg")
    assert set(inside) == set(first)
    assert any("units are in more than one split" in notice for notice in done.notices)


def test_of_the_published_fitzpatrick_split_train_is_the_rest(official: Path, tmp_path: Path) -> None:
    files = tuple(official / f"paper_split_fitzpatrick17k_{part}.csv.gz" for part in ("vali", "test"))
    done, _ = converted("fitzpatrick17k", official, tmp_path, split_tables=files)
    assert done.splits == {"train": 16_577 - 2 * 1_657, "validation": 1_657, "test": 1_657}
    assert any("no table gives the train split" in notice for notice in done.notices)


def test_real_images_in_part(official: Path, shared_data: Path, tmp_path: Path) -> None:
    """All of HAM10000's images are there, of PAD-UFES-20 some, at a smaller size."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, images, rows in (("ham10000", "isic2019", 10_015), ("pad-ufes-20", "pad_ufes20", 930)):
        for path in official.glob("*.gz"):
            (raw / path.name).unlink(missing_ok=True)
            (raw / path.name).symlink_to(path)
        (raw / "images").unlink(missing_ok=True)
        (raw / "images").symlink_to(shared_data / images / "images")
        done = convert_source(SOURCES[name], raw, raw / "m.csv", Wishes())
        assert done.rows == rows
        assert done.missing.images == (0 if name == "ham10000" else 2_298 - 930)
