"""A picture of an image on which a defence withstands an attack that does not know of its denoiser, not one that does.

python break_the_defence.py [efficientnet_lite0_lgd]
"""

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import hgd_tf

EPSILON = 4  # of pixels in [0, 255]
SIDE, CAPTION = 280, 45  # of each image in the picture, and of what stands below it
FONT = ImageFont.load_default(16)

defense = hgd_tf.load_defense(sys.argv[1] if len(sys.argv) > 1 else "mini_inception_lgd")
images, labels = hgd_tf.load_samples() if defense.channels == 3 else hgd_tf.load_fashion_mnist().test.head(50)


def attacked(model):
    """By 20 steps of epsilon / 8 from a random start."""
    return hgd_tf.SignGradientAttack([model], label="true")(images, EPSILON, hgd_tf.METHODS["pgd20"], labels)


panels = {"clean": images, "oblivious": attacked(defense.target), "end to end": attacked(defense)}
alone = {title: np.argmax(defense.target(seen)["logits"], axis=-1) for title, seen in panels.items()}
defended = {title: defense(seen)["classes"].numpy() for title, seen in panels.items()}
stands = (alone["clean"] == labels) & (defended["clean"] == labels)
stands &= (alone["oblivious"] != labels) & (defended["oblivious"] == labels)
broken = np.flatnonzero(stands & (defended["end to end"] != labels))
if not len(broken):
    sys.exit("none of the images shows both")

picture = Image.new("RGB", (SIDE * len(panels), SIDE + CAPTION), "white")
for column, (title, seen) in enumerate(panels.items()):
    image = Image.fromarray(seen[broken[0]].squeeze()).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    picture.paste(image, (SIDE * column, 0))
    answers = f"class {alone[title][broken[0]]} alone, {defended[title][broken[0]]} defended"
    print(f"{title}: {answers}")
    ImageDraw.Draw(picture).text((SIDE * column + 8, SIDE + 2), f"{title}\n{answers}", "black", FONT)
picture.save("broken.png")
