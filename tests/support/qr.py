"""Reads QR codes that a page shows as inline SVG, with a real decoder."""

import re

import zxingcpp
from PIL import Image

#: Pixels for each module of a code.
SCALE = 4


def read_qr_code(page):
    """Return the text of the one QR code in the HTML of a page."""
    (svg,) = re.findall(r'<svg [^>]*class="segno">.*?</svg>', page, re.DOTALL)
    size = int(re.search(r"M0 0h(\d+)", svg)[1])
    image = Image.new("L", (size, size), 255)
    x, y = 0, 0.0
    for step in re.findall(r"[Mmh][^Mmh]*", re.search(r'class="qrline"[^>]* d="([^"]*)"', svg)[1]):
        numbers = [float(number) for number in step[1:].split()]
        if step[0] == "M":
            x, y = int(numbers[0]), numbers[1]
        elif step[0] == "m":
            x, y = x + int(numbers[0]), y + numbers[1]
        else:
            for _ in range(int(numbers[0])):
                image.putpixel((x, int(y)), 0)
                x += 1
    (found,) = zxingcpp.read_barcodes(image.resize((size * SCALE, size * SCALE), Image.NEAREST))
    return found.text
