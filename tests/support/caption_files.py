"""Images and captions for sources to read, and what sources say of mistakes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from pipelines.config.schema import _build
from pipelines.core.contracts import RowIssues
from pipelines.core.paths import ROOT
from pipelines.data.sources.image_captions import ImageCaptions


def read_settings(name: str) -> dict:
    return yaml.safe_load((ROOT / f"conf/data/{name}.yaml").read_text(encoding="utf-8"))


def make_image(number: int = 0, form: str = "PNG", size: tuple[int, int] = (6, 4)) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), np.uint8)
    file = BytesIO()
    Image.fromarray(noise).save(file, form)
    return file.getvalue()


# Folders


def write_folder(
    path: Path, captions: str | bytes, name: str = "captions.csv", count: int = 4
) -> dict:
    """Settings for that file, and images 0.png, 1.png, ... in a folder."""
    (path / "photos").mkdir()
    for number in range(count):
        (path / "photos" / f"{number}.png").write_bytes(make_image(number))
    content = captions if isinstance(captions, bytes) else captions.encode()
    (path / name).write_bytes(content)
    return {"images": str(path / "photos"), "captions": str(path / name)}


def build_source(**changes) -> ImageCaptions:
    return _build(ImageCaptions, {**read_settings("image_captions"), **changes}, "data")


def read(made: ImageCaptions, part: str = "all") -> tuple[dict[str, str], list[str]]:
    issues = RowIssues()
    rows = {row["image"].name: row["captions"] for row in made.read(part, issues)}
    return rows, sorted(issues.first)


CSV = 'image,caption\n1.png,"one, first"\n0.png,zero\n1.png,one again\n3.png,three\n2.png,two\n'
ROWS = {"0.png": "zero", "1.png": "one, first\none again", "2.png": "two", "3.png": "three"}


def coco(**more) -> dict:
    images = [{"id": 7 + number, "file_name": f"{number}.png"} for number in range(4)]
    captions = [(8, "one, first"), (7, "zero"), (8, "one\nagain"), (10, "three"), (9, "two")]
    notes = [{"image_id": image, "id": 0, "caption": caption} for image, caption in captions]
    return {"info": {}, "images": images, "annotations": notes, **more}
