"""Speed and start-up of exported defenses beside the same networks in Keras, PyTorch and ONNX Runtime, on the CPU.

    pip install -e '.[imagenet,parity]' torch onnx==1.18.0 onnxruntime
    python benchmarks/defense.py [--rounds=15] [--threads=2] [--batch_size=20] [--start_ups=3]
    python benchmarks/defense.py --quick

The single defense (--defense) and the ensemble (--models) are exported as `python -m hgd_tf.export` does, and their
signature `serving_default` is called. Every program gets the same batch, uint8 at 299 pixels in a NumPy array, resizes
it itself (bilinear, antialiased), computes in float32 on as many threads, and gives logits in a NumPy array:

- Keras: `defense(images)` as it is loaded, operation by operation; and the same in a `tf.function`;
- PyTorch: the same weights, an image denoised once for all targets; eager (channels first, or last), with batch
  normalization folded by torch.fx, traced and frozen, optimized for inference, compiled (with the weights frozen by
  inductor or not). A word says how many batch normalizations the folding left. The quickest way counts;
- ONNX Runtime: exported from PyTorch's folded network, for this batch size. Left out where it is not installed.

Programs take turns in one process. A row of the tables says images a second; the ratio of the medians, its time over
ours; and how far its logits are from ours at most, which must not be above LOGITS_TOLERANCE. Above 1 we are faster.
Start-up is the time from the start of a Python process, imports and loading included, to its first logits of the batch;
processes take turns too. PyTorch's model is a file there: the folded network, or the traced and frozen one.
--quick leaves out what compiles, and takes every program's turn three times.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Callable, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# PyTorch's threads would wait for each other by spinning: with any other work on the machine, 15 times as slow.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import tensorflow as tf
import torch
from absl import app, flags, logging
from torch_networks import export_onnx, folded, torch_ensemble
from turns import median_seconds

from hgd_tf.defenses import Classifier, load_defense
from hgd_tf.defenses.exporting import export_defense
from hgd_tf.targets import resize_to

IMAGE_SIZE, COARSE_SIZE, NOISE = 299, 20, 8.0
LOGITS_TOLERANCE = 1e-3  # logits have a standard deviation of about 1
OURS, FOLDED, TRACED, ONNX = "exported", "PyTorch, folded", "PyTorch, traced and frozen", "ONNX Runtime"

_DEFENSE = flags.DEFINE_string("defense", "efficientnet_lite0_lgd", "The single defense.")
_MODELS = flags.DEFINE_string(
    "models", str(Path(__file__).parents[1] / "submission" / "fast.json"), "Description of the ensemble."
)
_ROUNDS = flags.DEFINE_integer("rounds", 15, "Turns of every program.", 3)
_START_UPS = flags.DEFINE_integer("start_ups", 3, "Processes of every program.", 1)
_THREADS = flags.DEFINE_integer("threads", 2, "Of every library.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 20, "Images a call.", 1)
_QUICK = flags.DEFINE_bool("quick", False, "Three rounds, one start-up, nothing that compiles.")

Program = Callable[[], np.ndarray]  # gives the batch's logits

THREADS_OF = {
    "tensorflow": """
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(threads)
""",
    "torch": "import torch\ntorch.set_num_threads(threads)\n",
}
# What a process runs, given the model's path, the images and the number of threads.
START_UPS = {
    OURS: THREADS_OF["tensorflow"]
    + "model = tf.saved_model.load(path)\nmodel.signatures['serving_default'](images=tf.constant(images))['logits']",
    "Keras": THREADS_OF["tensorflow"]
    + """
from hgd_tf.defenses import load_defense
load_defense(path)(images)['logits']""",
    FOLDED: THREADS_OF["torch"]
    + "with torch.inference_mode():\n    torch.load(path, weights_only=False)(torch.from_numpy(images))",
    TRACED: THREADS_OF["torch"] + "with torch.inference_mode():\n    torch.jit.load(path)(torch.from_numpy(images))",
    ONNX: """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider']).run(None, {'images': images})""",
}
PROCESS = """
import sys, warnings
import numpy
warnings.simplefilter('ignore')
path, images, threads = sys.argv[1], numpy.load(sys.argv[2]), int(sys.argv[3])
{code}
print('ready', flush=True)
"""


class Subject(NamedTuple):
    """What is compared: its name, where it is loaded from, and itself."""

    title: str
    source: str
    classifier: Classifier


def subjects() -> list[Subject]:
    named = {Path(_DEFENSE.value).name: _DEFENSE.value, f"ensemble {Path(_MODELS.value).stem}": _MODELS.value}
    return [Subject(title, source, load_defense(source)) for title, source in named.items()]


def random_images() -> np.ndarray:
    """Smooth ones with some noise, as photographs are; uint8 (N, H, W, 3)."""
    generator = np.random.default_rng(0)
    coarse = generator.uniform(0, 255, (_BATCH_SIZE.value, COARSE_SIZE, COARSE_SIZE, 3))
    smooth = tf.image.resize(coarse, (IMAGE_SIZE, IMAGE_SIZE), "bicubic").numpy()
    return np.clip(smooth + generator.normal(0, NOISE, smooth.shape), 0, 255).astype(np.uint8)


# --- programs ---


def tensorflow_programs(subject: Subject, images: np.ndarray, path: Path) -> dict[str, Program]:
    loaded = tf.saved_model.load(str(path))
    graph = tf.function(lambda images: subject.classifier(images)["logits"])
    return {
        OURS: lambda: loaded.signatures["serving_default"](images=tf.constant(images))["logits"].numpy(),
        "Keras": lambda: subject.classifier(images)["logits"].numpy(),
        "Keras, tf.function": lambda: graph(tf.constant(images)).numpy(),
    }


def torch_programs(network: torch.nn.Module, fused: torch.nn.Module, images: torch.Tensor) -> dict[str, Program]:
    """Every way to run the network that runs; one that fails is left out with a word."""
    makers: dict[str, Callable[[], Any]] = {
        "eager, channels first": lambda: copy.deepcopy(network).to(memory_format=torch.contiguous_format),
        "eager": lambda: network,
        "folded": lambda: fused,
        "folded, channels first": lambda: copy.deepcopy(fused).to(memory_format=torch.contiguous_format),
        "traced and frozen": lambda: traced(fused, images),
        "optimized for inference": lambda: torch.jit.optimize_for_inference(torch.jit.trace(network, images)),
    }
    if not _QUICK.value:
        makers["compiled"] = lambda: torch.compile(fused)
        makers["compiled, frozen"] = lambda: torch.compile(network, options={"freezing": True})
    programs = {}
    for way, make in makers.items():
        try:
            with torch.no_grad():
                program = _torch_program(make(), images)
                program()
            programs[f"PyTorch, {way}"] = program
        except Exception as error:  # the ways differ in what they support
            print(f"PyTorch, {way}: does not run ({type(error).__name__})", flush=True)
    return programs


def traced(network: torch.nn.Module, images: torch.Tensor) -> torch.jit.ScriptModule:
    with torch.no_grad():
        return torch.jit.freeze(torch.jit.trace(network, images))


def _torch_program(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> Program:
    def run() -> np.ndarray:
        with torch.no_grad():  # inductor freezes the weights under no other
            return network(images).numpy()

    return run


def onnx_programs(path: str, images: np.ndarray) -> dict[str, Program]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = _THREADS.value, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return {ONNX: lambda: session.run(None, {"images": images})[0]}


# --- measurements ---


def logits_differences(programs: dict[str, Program]) -> dict[str, float]:
    """How far each program's logits are from ours at most.

    Raises:
      SystemExit: one's are too far.
    """
    ours = programs[OURS]()
    differences = {name: float(np.abs(program() - ours).max()) for name, program in programs.items()}
    worst = max(differences, key=differences.__getitem__)
    if not differences[worst] <= LOGITS_TOLERANCE:
        raise SystemExit(f"the programs do not do the same: logits of {worst!r} differ by {differences[worst]:.1e}")
    return differences


def start_up_seconds(models: dict[str, str], images: Path) -> dict[str, float]:
    """Median seconds from the start of a process to its first logits, by program; `models` are their files."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(1 if _QUICK.value else _START_UPS.value):
        for name, path in models.items():
            seconds[name].append(_seconds_to_ready(START_UPS[name], [path, str(images), str(_THREADS.value)]))
    return {name: float(np.median(values)) for name, values in seconds.items()}


def _seconds_to_ready(code: str, arguments: list[str]) -> float:
    command = [sys.executable, "-c", PROCESS.format(code=code), *arguments]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline().strip() == "ready"
        seconds = time.perf_counter() - start
    if not ready:
        raise SystemExit(f"a process gave no logits:\n{code}")
    return seconds


def print_parts(path: Path, images: np.ndarray) -> None:
    """What the parts of a single exported defense take, as differences of its signatures' medians."""
    signatures = tf.saved_model.load(str(path)).signatures
    size = signatures["denoise"].structured_outputs["denoised"].shape[1]
    encoded = tf.stack([tf.io.encode_png(image) for image in images])
    resize = tf.function(lambda images: resize_to(images, size))
    programs = {
        "resize": lambda: resize(tf.constant(images)).numpy(),
        "denoise": lambda: signatures["denoise"](images=tf.constant(images))["denoised"].numpy(),
        "answer": lambda: signatures["serving_default"](images=tf.constant(images))["logits"].numpy(),
        "decode": lambda: signatures["serving_bytes"](image_bytes=encoded)["logits"].numpy(),
    }
    seconds = median_seconds(programs, _rounds())
    resized, denoised, answered, decoded = (1e3 * seconds[name] / len(images) for name in programs)
    print(
        f"parts of the exported defense, ms an image: decode {decoded - answered:.1f} (PNG), resize {resized:.1f}, "
        f"denoise {denoised - resized:.1f}, target {answered - denoised:.1f}",
        flush=True,
    )


def compare(subject: Subject, images: np.ndarray, folder: Path) -> list[str]:
    """Prints what is remarkable; returns the subject's table."""
    path = folder / subject.title.replace(" ", "_") / "1"
    export_defense(subject.classifier, path, subject.source)
    tensor = torch.from_numpy(images)
    network = torch_ensemble(subject.classifier)
    fused = folded(network)
    counts = [sum(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules()) for net in (network, fused)]
    print(f"{subject.title}: PyTorch has {counts[0]} batch normalizations, {counts[1]} when folded", flush=True)
    models = {OURS: str(path), "Keras": subject.source}
    models |= {way: str(folder / f"{way}.pt") for way in (FOLDED, TRACED)}
    torch.save(fused, models[FOLDED])
    torch.jit.save(traced(fused, tensor), models[TRACED])
    programs = tensorflow_programs(subject, images, path) | torch_programs(network, fused, tensor)
    if all(importlib.util.find_spec(module) for module in ("onnx", "onnxruntime")):
        models[ONNX] = str(folder / "model.onnx")
        export_onnx(fused, tensor, Path(models[ONNX]))
        programs |= onnx_programs(models[ONNX], images)
    else:
        print(f"{ONNX} is not installed", flush=True)
    differences = logits_differences(programs)
    seconds = median_seconds(programs, _rounds())
    if subject.title == Path(_DEFENSE.value).name:
        print_parts(path, images)
    np.save(folder / "images.npy", images)
    return table(subject.title, seconds, start_up_seconds(models, folder / "images.npy"), differences)


def _rounds() -> int:
    return 3 if _QUICK.value else _ROUNDS.value


def table(
    title: str, seconds: dict[str, float], start_ups: dict[str, float], differences: dict[str, float]
) -> list[str]:
    """In Markdown; the quickest of PyTorch's ways, which counts, is set in bold."""
    in_torch = [name for name in seconds if name.startswith("PyTorch")]
    best = {min(in_torch, key=seconds.__getitem__)} if in_torch else set()
    lines = [f"| {title} | images/s | ratio | start-up, s | ratio | logits differ by |", "| --- |" + " ---: |" * 5]
    for name, value in seconds.items():
        begin = start_ups.get(name)
        start_up = "| |" if begin is None else f"{begin:.1f} | {begin / start_ups[OURS]:.2f} |"
        shown = f"**{name}**" if name in best else name
        lines.append(
            f"| {shown} | {_BATCH_SIZE.value / value:.1f} | {value / seconds[OURS]:.2f} | {start_up} "
            f"{differences[name]:.0e} |"
        )
    return lines


def main(_) -> None:
    warnings.simplefilter("ignore")
    logging.set_verbosity(logging.ERROR)
    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    tf.config.threading.set_inter_op_parallelism_threads(_THREADS.value)
    torch.set_num_threads(_THREADS.value)
    images, tables = random_images(), []
    for subject in subjects():
        with tempfile.TemporaryDirectory() as folder:
            tables += ["", *compare(subject, images, Path(folder))]
    print(f"\nbatch {_BATCH_SIZE.value}, {_THREADS.value} threads, float32; logits agree within {LOGITS_TOLERANCE:.0e}")
    print("\n".join(tables))


if __name__ == "__main__":
    app.run(main)
