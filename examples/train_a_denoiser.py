"""A denoiser for a Keras classifier of one's own, trained on one's own arrays.

python train_a_denoiser.py
"""

import numpy as np
import tensorflow as tf

import hgd_tf

EPSILON = 16  # of pixels in [0, 255]

data = hgd_tf.load_fashion_mnist()  # a subset that comes with the package; uint8 (N, 28, 28, 1)
images, labels = data.train.head(1000)
tf.keras.utils.set_random_seed(0)
layers = tf.keras.layers
classifier = tf.keras.Sequential(
    [
        tf.keras.Input((28, 28, 1)),
        layers.Rescaling(1 / 255),
        layers.Conv2D(32, 3, strides=2, activation="relu"),
        layers.Conv2D(64, 3, strides=2, activation="relu"),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ]
)
classifier.compile("adam", "sparse_categorical_crossentropy")
classifier.fit(data.train.images, data.train.labels, batch_size=32, epochs=6, verbose=0)

target = hgd_tf.load_target(classifier, image_size=28)
attack = hgd_tf.SignGradientAttack([target])
methods = [hgd_tf.METHODS[name] for name in ("fgsm", "ifgsm4")]
attacked = np.concatenate([attack(images, EPSILON, method) for method in methods])
pairs = np.concatenate([images, images]), np.concatenate([labels, labels])

denoiser = hgd_tf.dunet(width=1 / 32, channels=1, zero_head=True)  # or a model of hgd_tf.keras
model = hgd_tf.GuidedDenoiser(denoiser, target, "logits")  # or "feature+logits", or a Guidance of one's own
model.compile(hgd_tf.keras.optimizers.Adam(0.003))
model.fit(attacked, pairs, batch_size=50, epochs=8, verbose=0)

images, labels = data.test.head(250)
undefended, defended = hgd_tf.Defense(None, target), hgd_tf.Defense(denoiser, target)
for title, pixels in (("clean", images), ("FGSM", attack(images, EPSILON))):
    for name, defense in ((f"{title}, no defence", undefended), (f"{title}, defended (oblivious)", defended)):
        print(f"{100 * np.mean(defense(pixels)['classes'] == labels):5.1f} %  {name}")
