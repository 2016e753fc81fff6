"""The one door to what classifies, whatever names it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

from hgd_tf.defenses.ensemble import Classifier
from hgd_tf.defenses.line_up import read_line_up
from hgd_tf.defenses.saving import load_saved
from hgd_tf.foundation.bundled import bundled
from hgd_tf.foundation.stack import outside_graphs
from hgd_tf.targets import Target
from hgd_tf.targets.reading import CustomObjects


@outside_graphs
def load_defense(
    source: Union[str, Path],
    *,
    target: Optional[Target] = None,
    custom_objects: CustomObjects = None,
    safe_mode: Optional[bool] = None,
) -> Classifier:
    """Loads what `save_defense` or a training run wrote, a defense that comes with the package, or a line-up.

    Args:
      source: a folder, or a shipped defense's name, such as `efficientnet_lite0_lgd`: a `Defense`; or the JSON file of
        a line-up, such as `submission/models.json`: an `Ensemble`.
      target: the classifier, instead of the one that the folder names or holds.
      custom_objects, safe_mode: of a user's target, as in `load_target`; the module that it was loaded with is known.

    Raises:
      RunError: the folder, or a file, is missing or damaged.
      TargetError: the target cannot be loaded, or does not fit the denoiser.
      ValueError: another argument stands beside a line-up, which says all itself.
    """
    if not is_line_up(source):
        return load_saved(source, target, custom_objects, safe_mode)
    if any(option is not None for option in (target, custom_objects, safe_mode)):
        raise ValueError(f"{source} is a line-up, which says all itself: expected no other argument")
    return read_line_up(source).load()


def is_line_up(source: Union[str, Path]) -> bool:
    """Whether `load_defense` would read the JSON file of a line-up."""
    path = bundled(source)
    return path.is_file() or (path.suffix == ".json" and not path.is_dir())
