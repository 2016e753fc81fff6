#!/usr/bin/env bash
# Trains what experiments compares, into runs/comparison: every denoiser for as many steps, on the same photographs,
# from first steps of its own kind. Stopped and started again, it goes on where it was.
#   experiments/train.sh PHOTOGRAPHS LABELS.csv [GROUP...]
# Groups: guidances efficiency transfer classes. Without one: all of them.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "expected: experiments/train.sh PHOTOGRAPHS LABELS.csv [GROUP...]; received $# arguments" >&2
    exit 2
fi
photographs=$(realpath -e "$1")
labels=$(realpath -e "$2")
shift 2
cd "$(dirname "$0")/.."

train() { # NAME FLAG...: one run
    local name=$1
    shift
    echo "== runs/comparison/$name"
    python -m hgd_tf.train "$@" --run_dir="runs/comparison/$name" --images="$photographs" --labels="$labels"
}
first() { # NAME FLAG...: first steps
    local name=$1
    shift
    train "$name" --flagfile=first_steps.flags --image_size=128 --width=0.25 --precision=float32 --epochs=2 "$@"
}
guided() { # NAME FLAGFILE FIRST FLAG...: a denoiser from those first steps
    local name=$1 guidance=$2 start=$3
    shift 3
    train "$name" --flagfile="$guidance.flags" --flagfile=comparison.flags --init_from="runs/comparison/$start" "$@"
}
with_first_steps() { # NAME FLAG...: a network of its own, with its own first steps
    local name=$1
    shift
    first "first_$name" "$@"
    guided "$name" distillation "first_$name" "$@"
}

basis() { # what every group begins from
    first first
    guided distillation distillation first
}
guidances() { # Tables 2, 3 and 8
    basis
    guided logits lgd first
    guided feature fgd first
    guided label cgd first
    guided pixel pixel first
    first first_dae --denoiser=dae
    guided dae dae first_dae
}
efficiency() { # three widths, two resolutions; what folded pixels is of code that is no longer there (commit 1659860)
    basis
    with_first_steps narrow --width=0.125
    with_first_steps wide --width=0.5
    guided larger distillation first --image_size=160
}
transfer() { # Tables 5 and 9: Lite1 and Lite2, each with a denoiser of its own and one that goes on from Lite0's
    basis
    local lite1=(--target=efficientnet_lite1 --members=target,efficientnet_lite0)
    local lite2=(--target=efficientnet_lite2 --members=target,efficientnet_lite1 --holdout=efficientnet_lite0)
    guided lite1 distillation first "${lite1[@]}"
    guided lite1_tuned distillation distillation "${lite1[@]}" --steps_per_epoch=150
    guided lite2 distillation first "${lite2[@]}"
    guided lite2_tuned distillation distillation "${lite2[@]}" --steps_per_epoch=150
}
classes() { # Table 4: three quarters of the classes are trained on, first steps included
    basis
    with_first_steps seen_classes --class_split
}
groups=("$@")
if [[ $# -eq 0 ]]; then
    groups=(guidances efficiency transfer classes)
fi
for group in "${groups[@]}"; do
    case $group in
    guidances | efficiency | transfer | classes) ;;
    *)
        echo "expected a group of guidances, efficiency, transfer, classes; received $group" >&2
        exit 2
        ;;
    esac
done
for group in "${groups[@]}"; do
    "$group"
done
