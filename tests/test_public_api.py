"""What `import hgd_tf` offers."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import hgd_tf


@pytest.mark.parametrize("name", hgd_tf.__all__)
def test_every_public_name_is_the_one_of_its_home(name):
    home = importlib.import_module(hgd_tf._HOMES[name])
    assert getattr(hgd_tf, name) is getattr(home, name)


@pytest.mark.parametrize("name", hgd_tf.__all__)
def test_every_public_name_is_documented(name):
    assert len(getattr(hgd_tf, name).__doc__ or "") > 20


def test_the_homes_are_of_the_public_names():
    assert list(hgd_tf._HOMES) == hgd_tf.__all__ == sorted(set(hgd_tf.__all__))


def test_no_package_gives_another_thing_the_name_of_one_of_its_modules():
    """`import hgd_tf.a.b as b` would bring the thing."""
    packages = [found.name for found in pkgutil.walk_packages(hgd_tf.__path__, "hgd_tf.") if found.ispkg]
    hidden = [
        f"{package.__name__}.{module.name}"
        for package in map(importlib.import_module, ["hgd_tf", *packages])
        for module in pkgutil.iter_modules(package.__path__)
        if not isinstance(getattr(package, module.name, package), ModuleType)
    ]
    assert len(packages) > 5
    assert not hidden


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'hgd_tf' has no attribute 'denoise_everything'"):
        hgd_tf.denoise_everything  # noqa: B018  the access is the test
    assert not hasattr(hgd_tf, "denoise_everything")


def test_dir_shows_every_public_name():
    assert set(hgd_tf.__all__) <= set(dir(hgd_tf))
    assert "__version__" in dir(hgd_tf)


def test_importing_the_package_does_not_import_tensorflow():
    program = "import sys, hgd_tf; print(hgd_tf.__version__, 'tensorflow' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [hgd_tf.__version__, "False", "False"]
    assert done.stderr == ""
