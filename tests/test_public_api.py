"""What `import hgd_tf` offers."""

from __future__ import annotations

import doctest
import functools
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
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
    assert sorted(hgd_tf._HOMES) == sorted(hgd_tf.__all__)


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


@pytest.mark.parametrize(
    "module", ["hgd_tf.guidance.guided_denoiser", "hgd_tf.crafting.sets", "hgd_tf.evaluation.smoothing"]
)
def test_the_examples_in_docstrings_do_what_they_say(module):
    failed, attempted = doctest.testmod(importlib.import_module(module))
    assert attempted > 5 and not failed


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


@pytest.mark.parametrize("command", [["-m", "mine"], ["-c", "import mine"], ["mine/__main__.py"]])
def test_a_program_that_imports_the_package_is_not_silenced(command, tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("__init__", "__main__"):
        program = "import os, sys, hgd_tf; print(os.environ.get('TF_CPP_MIN_LOG_LEVEL'), len(sys.meta_path))"
        (tmp_path / "mine" / f"{name}.py").write_text(program)
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), str(tmp_path)])
    run = functools.partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    bare = run([sys.executable, "-c", "import sys; print(len(sys.meta_path))"]).stdout.strip()
    assert run([sys.executable, *command]).stdout.splitlines()[0] == f"None {bare}"
    as_command = "import runpy, os; runpy._get_module_details('hgd_tf.cli'); print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    assert run([sys.executable, "-c", as_command]).stdout == "3\n"
