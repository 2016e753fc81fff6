"""The former name of `hgd_tf/make_dataset.py`; it goes with the next version."""

import runpy
import sys

if __name__ == "__main__":
    print("python -m hgd_tf.competition.make_dataset is now called python -m hgd_tf.make_dataset", file=sys.stderr)
    runpy.run_module("hgd_tf.make_dataset", run_name="__main__", alter_sys=True)
