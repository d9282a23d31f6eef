"""Draws the synthetic set's contact sheet: a row a class, light skin on the left, dark on the right.

Run: python examples/contact_sheet.py docs/images/synthetic.jpg
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from equiprune.data.synthetic import CLASSES, GROUPS, SyntheticSettings, picture, population

EACH, GAP, LEFT, TOP = 5, 4, 104, 26


def contact_sheet(settings: SyntheticSettings) -> Image.Image:
    """The first five images of every class in both groups, as they come."""
    side, groups = settings.size + GAP, len(GROUPS)
    width = LEFT + groups * EACH * side + (groups - 1) * 4 * GAP
    sheet = Image.new("RGB", (width, TOP + settings.classes * side), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    cases = population(settings)
    for label in range(settings.classes):
        top = TOP + label * side
        pen.text((8, top + settings.size // 2), CLASSES[label], fill="black", font=font, anchor="lm")
        for group, name in enumerate(GROUPS):
            left = LEFT + group * (EACH * side + 4 * GAP)
            if label == 0:
                pen.text((left, TOP // 2), f"skin_tone = {name}", fill="black", font=font, anchor="lm")
            shown = (case for case in cases if (case.label, case.group) == (label, group))
            for place, case in enumerate(islice(shown, EACH)):
                sheet.paste(Image.fromarray(picture(case, settings)), (left + place * side, top))
    return sheet


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "synthetic.jpg")
    contact_sheet(SyntheticSettings(images=600)).save(path, quality=85)
    print(path)
