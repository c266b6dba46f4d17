"""Draw the pictures of the products, so that the sandbox needs no picture files."""

from io import BytesIO

from PIL import Image, ImageDraw

SIZE = 600
# Pictures are drawn larger and then shrunk, which smooths the edges.
SCALE = 3

INK = "#2f3e46"


class Sheet:
    """A square canvas with coordinates from 0 to ``SIZE``."""

    def __init__(self, background):
        self.image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), background)
        self.draw = ImageDraw.Draw(self.image)

    def shadow(self, colour, left, right, y=488):
        self.ellipse(colour, left, y - 16, right, y + 16)

    def ellipse(self, colour, *box):
        self.draw.ellipse([side * SCALE for side in box], fill=colour)

    def box(self, colour, *box, radius=0):
        self.draw.rounded_rectangle(
            [side * SCALE for side in box], radius=radius * SCALE, fill=colour
        )

    def shape(self, colour, *points):
        self.draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=colour)

    def line(self, colour, width, *points):
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self.draw.line(scaled, fill=colour, width=width * SCALE, joint="curve")
        for x, y in points:
            self.ellipse(
                colour,
                x - width / 2,
                y - width / 2,
                x + width / 2,
                y + width / 2,
            )

    def arc(self, colour, width, start, end, *box):
        """Draw a part of a ring; angles in degrees run clockwise from three o'clock."""
        self.draw.arc([side * SCALE for side in box], start, end, fill=colour, width=width * SCALE)

    def png(self):
        """Return the picture as the bytes of a PNG file."""
        small = self.image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        file = BytesIO()
        small.save(file, format="PNG")
        return file.getvalue()


def mug():
    sheet = Sheet("#f4e9dc")
    sheet.shadow("#e2d3c0", 150, 430)
    sheet.arc("#3d6b73", 30, 270, 90, 320, 250, 470, 410)
    sheet.box("#4a818a", 170, 190, 400, 485, radius=38)
    sheet.box("#4a818a", 170, 190, 400, 300)
    sheet.box("#3d6b73", 170, 360, 400, 410)
    sheet.ellipse("#5d97a0", 170, 160, 400, 220)
    sheet.ellipse("#5b3a29", 188, 172, 382, 212)
    for x in (230, 285, 340):
        sheet.arc("#d9c6ae", 9, 90, 270, x - 12, 104, x + 12, 136)
        sheet.arc("#d9c6ae", 9, 270, 90, x - 12, 72, x + 12, 104)
    return sheet.png()


def notebook():
    sheet = Sheet("#e3ecdf")
    sheet.shadow("#cfdcc9", 150, 470)
    sheet.box("#c9523f", 180, 115, 450, 485, radius=18)
    sheet.box("#fdfaf3", 190, 125, 438, 478, radius=10)
    sheet.box("#e0634d", 165, 110, 425, 480, radius=18)
    sheet.box("#c9523f", 165, 110, 208, 480, radius=18)
    sheet.box("#c9523f", 188, 110, 208, 480)
    sheet.box("#fdfaf3", 245, 175, 390, 265, radius=8)
    sheet.box("#d8cdb9", 265, 200, 370, 210, radius=5)
    sheet.box("#d8cdb9", 265, 228, 335, 238, radius=5)
    sheet.box("#f1c453", 396, 110, 410, 480)
    return sheet.png()


def t_shirt():
    sheet = Sheet("#dfe8f1")
    sheet.shadow("#cad7e4", 190, 410, 505)
    body = (
        (225, 120), (375, 120), (505, 195), (460, 285), (410, 260),
        (410, 495), (190, 495), (190, 260), (140, 285), (95, 195),
    )  # fmt: skip
    sheet.shape("#35507a", *body)
    sheet.shape("#2b4266", (410, 260), (460, 285), (468, 269), (410, 238))
    sheet.shape("#2b4266", (190, 260), (140, 285), (132, 269), (190, 238))
    sheet.ellipse("#2b4266", 232, 78, 368, 172)
    sheet.box("#dfe8f1", 215, 60, 385, 119)
    sheet.ellipse("#dfe8f1", 243, 72, 357, 156)
    sheet.ellipse("#f1c453", 245, 250, 355, 360)
    for y, half in ((318, 52), (334, 44), (350, 28)):
        sheet.box("#35507a", 300 - half, y, 300 + half, y + 6)
    return sheet.png()


def lamp():
    sheet = Sheet("#f2e2e0")
    sheet.shape("#f9efd8", (230, 290), (120, 490), (480, 490), (420, 230))
    sheet.shadow("#dfcbc8", 190, 430, 490)
    sheet.line(INK, 14, (350, 478), (430, 330), (330, 190))
    sheet.ellipse("#52656f", 414, 314, 446, 346)
    sheet.box(INK, 270, 468, 430, 490, radius=10)
    sheet.ellipse("#f6cf65", 262, 205, 382, 305)
    sheet.shape("#d98c3f", (296, 140), (366, 118), (432, 222), (220, 302))
    sheet.ellipse("#c77c31", 292, 108, 372, 160)
    return sheet.png()


def headphones():
    sheet = Sheet("#e6e1ee")
    sheet.shadow("#d2cadf", 150, 450, 500)
    sheet.arc("#4b3f6b", 34, 180, 360, 140, 110, 460, 450)
    sheet.arc("#6a5b93", 12, 200, 340, 151, 121, 449, 440)
    for shell, pad in ((118, 166), (402, 374)):
        sheet.box("#8b7bb5", pad, 300, pad + 60, 450, radius=28)
        sheet.box("#4b3f6b", shell, 285, shell + 80, 465, radius=36)
    sheet.box("#f1c453", 138, 350, 150, 400, radius=6)
    sheet.box("#f1c453", 450, 350, 462, 400, radius=6)
    return sheet.png()


def plant():
    sheet = Sheet("#f5ecd0")
    sheet.shadow("#e4d8b4", 200, 400)
    for tip, colour, width in (
        ((190, 170), "#4f8a5b", 44),
        ((412, 155), "#5d9c69", 44),
        ((300, 80), "#6bab76", 56),
        ((135, 285), "#5d9c69", 38),
        ((465, 280), "#4f8a5b", 38),
    ):
        leaf(sheet, (300, 350), tip, colour, width)
    sheet.shape("#c8694a", (205, 350), (395, 350), (368, 488), (232, 488))
    sheet.box("#d97b59", 190, 335, 410, 382, radius=10)
    return sheet.png()


def leaf(sheet, foot, tip, colour, width):
    """Draw a stem from foot to tip, with a pointed leaf around its upper two thirds."""
    rise = tip[0] - foot[0], tip[1] - foot[1]
    length = (rise[0] ** 2 + rise[1] ** 2) ** 0.5
    across = -rise[1] / length, rise[0] / length

    def at(way, aside=0.0):
        return tuple(foot[i] + rise[i] * way + across[i] * aside for i in (0, 1))

    steps = [step / 20 for step in range(21)]
    edge = [(1 / 3 + 2 / 3 * step, 4 * width * step * (1 - step)) for step in steps]
    sheet.line("#3d6e48", 7, foot, at(0.5))
    sheet.shape(
        colour,
        *(at(way, aside) for way, aside in edge),
        *(at(way, -aside) for way, aside in reversed(edge)),
    )
    sheet.line("#3d6e48", 4, at(0.35), at(0.85))
