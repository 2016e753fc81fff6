"""A Keras classifier of one's own, behind a denoiser that comes with the package; and what attacks make of it.

python guard_your_classifier.py
"""

import tensorflow as tf

import hgd_tf

EPSILON = 16  # of pixels in [0, 255]
keras = tf.keras  # Keras 2 or 3, as TensorFlow has it

data = hgd_tf.load_fashion_mnist()  # a subset that comes with the package; uint8 (N, 28, 28, 1)
images, labels = data.test.head(250)

keras.utils.set_random_seed(0)
layers = keras.layers
classifier = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, strides=2, activation="relu"),
        layers.Conv2D(64, 3, strides=2, activation="relu"),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ]
)
classifier.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
classifier.fit(data.train.images / 255, data.train.labels, batch_size=32, epochs=6, verbose=0)  # it takes [0, 1]

guarded = hgd_tf.guard(classifier, "mini_inception_lgd", input_range=(0, 1))  # takes and gives what the classifier does
guarded.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])


def attacked(model, method):
    """The images moved so that a model's loss increases; of a guarded one, through its denoiser."""
    target = hgd_tf.load_target(model, image_size=28, input_range=(0, 1))
    return hgd_tf.SignGradientAttack([target], label="true")(images, EPSILON, method, labels)


oblivious = attacked(classifier, hgd_tf.fgsm())
adaptive = attacked(guarded, hgd_tf.projected_gradient_descent(20, 1 / 8))  # 20 steps of epsilon / 8
for title, model, pixels in (
    ("clean, no defence", classifier, images),
    ("clean, guarded", guarded, images),
    ("FGSM, no defence", classifier, oblivious),
    ("FGSM, guarded (oblivious: the attack knows the classifier, not the denoiser)", guarded, oblivious),
    ("PGD, guarded (adaptive: the attack knows both, and gets through)", guarded, adaptive),
):
    print(f"{100 * model.evaluate(pixels / 255, labels, verbose=0)[1]:5.1f} %  {title}")
