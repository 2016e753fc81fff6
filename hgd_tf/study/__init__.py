"""From description to table: training, then evaluation, of one run or several; shipping what came out."""

from hgd_tf.study.several import train_and_test, train_each
from hgd_tf.study.table_of_runs import evaluate_runs
