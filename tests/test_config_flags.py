"""Flags of configurations' fields."""

import pytest
from absl import flags

from hgd_tf.config_flags import define_flag
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.foundation.description import settings


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("labels", "", None),
        ("labels", "table.csv", "table.csv"),
        ("ens_target", "", None),
        ("image_size", "", None),
        ("image_size", "32", 32),
        ("input_range", "-1,1", (-1.0, 1.0)),
        ("networks", "IncV3=mini_vgg", {"IncV3": "mini_vgg"}),
        ("test_sizes", "", ()),
    ],
)
def test_a_text_is_read_as_the_field_has_it_and_empty_is_null_where_that_may_be(name, text, value):
    command_line = flags.FlagValues()
    define_flag(settings(ExperimentConfig)[name], command_line)
    command_line(["program", f"--{name}={text}"])
    assert command_line[name].value == value
