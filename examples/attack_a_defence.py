"""A defence that comes with the package, under an attack that does not know of its denoiser, and under one that does.

python attack_a_defence.py
"""

import numpy as np

import hgd_tf

EPSILON = 8  # of pixels in [0, 255]

images, labels = hgd_tf.load_fashion_mnist().test.head(200)  # a subset that comes with the package
defense = hgd_tf.load_defense("mini_inception_lgd")
method = hgd_tf.projected_gradient_descent(20, 1 / 8)  # 20 steps of epsilon / 8 from a random start


def undefended(images):
    """As a defence answers, without the denoiser."""
    return {"classes": np.argmax(defense.target(images)["logits"], axis=-1)}


def accuracy(model, images):
    """In percent."""
    return 100 * np.mean(np.asarray(model(images)["classes"]) == labels)


oblivious = hgd_tf.SignGradientAttack([defense.target], label="true")(images, EPSILON, method, labels)
end_to_end = hgd_tf.SignGradientAttack([defense], label="true")(images, EPSILON, method, labels)

print(f"{accuracy(undefended, images):5.1f} %  clean, no defence")
print(f"{accuracy(defense, images):5.1f} %  clean, defended")
print(f"{accuracy(undefended, oblivious):5.1f} %  attacked, no defence")
print(f"{accuracy(defense, oblivious):5.1f} %  attacked, defended (oblivious: the attack knows the classifier alone)")
print(f"{accuracy(defense, end_to_end):5.1f} %  attacked, defended (adaptive: end to end through the denoiser)")
