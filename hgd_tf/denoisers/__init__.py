"""Denoisers: images to images of the same shape, float32 in pixel units [0, 255]."""

from hgd_tf.denoisers.filters import gaussian, median
from hgd_tf.denoisers.networks import MIN_IMAGE_SIZE, PRECISIONS, dae, dunet, rescaled
from hgd_tf.denoisers.official import load_official_denoiser

DENOISERS = {"dunet": dunet, "dae": dae}
