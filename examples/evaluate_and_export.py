"""What a classifier, a defence and an ensemble withstand, by what the attack knows; and the ensemble as a SavedModel.

python evaluate_and_export.py
"""

import tempfile

import tensorflow as tf

import hgd_tf

target, other, holdout = map(hgd_tf.load_target, ("mini_inception", "mini_inception_resnet", "mini_vgg"))
defense = hgd_tf.load_defense("mini_inception_lgd")
defenses = {
    "no defence": hgd_tf.Defense(None, target),
    "defended": defense,
    "ensemble": hgd_tf.Ensemble([hgd_tf.Flow([defense.denoiser], [target, other], "A→X&Y")]),
}
images = hgd_tf.load_fashion_mnist().test.head(100)  # or LabeledImages(images, labels) of one's own
with tempfile.TemporaryDirectory() as folder:
    sets = hgd_tf.SetCrafter(hgd_tf.Roles(target, (target, other), holdout), f"{folder}/sets")
    test_sets = hgd_tf.craft_test_sets(sets, images, adaptive_images=20)
    for name, each in defenses.items():
        accuracy = hgd_tf.evaluate_defense(each, test_sets).accuracy
        for column in hgd_tf.COLUMNS:
            print(f"{100 * accuracy[column.key]:5.1f} %  {name}, {column.key} ({column.threat_model})")

    exported = hgd_tf.export_defense(defenses["ensemble"], f"{folder}/ensemble/1")
    served = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    assert served(images=tf.constant(images.images))["classes"].shape == (100,)
