from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

LayOut = Callable[[Path, Mapping[str, str], Iterable[str]], Path]


def _picture(kind: str) -> bytes:
    stream = BytesIO()
    Image.new("L", (8, 8), 90).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="session")
def lay_out() -> LayOut:
    """Writes tables and tiny images below a folder, which is returned."""
    pictures = {".png": _picture("PNG"), ".jpg": _picture("JPEG"), ".jpeg": _picture("JPEG")}

    def lay_out(root: Path, tables: Mapping[str, str], images: Iterable[str]) -> Path:
        for name, text in tables.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for name in images:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pictures[path.suffix.lower()])
        return root

    return lay_out


@pytest.fixture
def skin(tmp_path: Path, lay_out: LayOut) -> Path:
    """HAM10000 with eight images of six lesions in two folders, one of them spelled in capitals."""
    rows = [
        "L1,ISIC_1,nv,histo,80.0,male,back,vidir",
        "L1,ISIC_2,nv,histo,80.0,male,back,vidir",
        "L2,ISIC_3,mel,histo,0.0,female,unknown,vidir",
        "L3,ISIC_4,mel,consensus,,female,face,rosendahl",
        "L4,ISIC_5,nv,consensus,45.0,unknown,face,rosendahl",
        "L5,ISIC_6,mel,consensus,45.0,male,face,rosendahl",
        "L6,ISIC_7,nv,consensus,45.0,female,face,rosendahl",
        "L6,ISIC_8,nv,consensus,45.0,female,face,rosendahl",
    ]
    header = "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset"
    images = [f"HAM10000_images_part_1/ISIC_{i}.jpg" for i in range(1, 5)]
    images += [f"HAM10000_images_part_2/ISIC_{i}.JPG" for i in range(5, 9)]
    return lay_out(tmp_path / "ham", {"HAM10000_metadata": "\n".join([header, *rows]) + "\n"}, images)
