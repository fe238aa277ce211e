"""The page of int8: trained networks quantized for LiteRT and ONNX Runtime, beside float32, folded and not.

Each network is written to four files per format. One process that cannot import bn_keras classifies the test images
with all four, and then answers one image in turns. A result is stored as soon as a network is measured.
"""

import dataclasses
import pathlib
import statistics
import tempfile

import keras
import numpy as np

from bn_keras import export
from bn_keras.choices.formats import FORMATS
from bn_keras.experiments.data import load
from bn_keras.export.formats import require
from bn_keras.lab.machine import provenance, versions
from bn_keras.lab.markdown import facts, table_of
from bn_keras.lab.results import ResultsFile
from bn_keras.models import build
from bn_keras.pages.registry import Request
from bn_keras.pages.serving import CALLS, served_in_turns

FILE = ResultsFile("bn-keras page int8", "files", ("network", "data", "calibration", "tested", "accuracy", "versions"))
RUNTIMES = ("onnxruntime", "tf2onnx")
# A result of other versions of these is measured again.
DECIDING = ("bn_keras", "tensorflow", "keras", "onnxruntime")
THREADS, BATCH, WORST = 1, 100, 3


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which networks by their data, in which formats, in how many turns; and the examples of calibration."""

    networks: dict[str, str] = dataclasses.field(
        default_factory=lambda: {"inception_small": "mnist", "mlp_sigmoid": "mnist", "resnet20": "digits"}
    )
    formats: tuple[str, ...] = ("tflite", "onnx")
    rounds: int = 15
    calibration: int = 512


QUICK = Settings(networks={"mlp_sigmoid": "digits"}, formats=("tflite",), rounds=1, calibration=64)


def text(request: Request) -> str:
    """The page, after measuring the networks without a current result in `request.results`."""
    settings = QUICK if request.quick else Settings()
    for format in settings.formats:
        require(FORMATS[format], check=True)
    results = {} if request.results is None else current_results(settings, request.results)
    request.watcher.begin("network", len(settings.networks), len(results))
    for name in settings.networks:
        if name in results:
            continue
        request.watcher.item_begins(name)
        keras.backend.clear_session()
        results[name] = measure(name, settings)
        if request.results is not None:
            FILE.write(results[name], path_of(name, request.results))
        request.watcher.item_ends(f"{len(results[name]['files'])} files on {results[name]['data']}")
    return page_text([results[name] for name in settings.networks], settings)


def path_of(name: str, folder: pathlib.Path) -> pathlib.Path:
    return folder / f"{name}.json"


def current_results(settings: Settings, folder: pathlib.Path) -> dict[str, dict]:
    """The stored results that the installed versions of `DECIDING` made."""
    stored = {name: FILE.read(path_of(name, folder)) for name in settings.networks if path_of(name, folder).exists()}
    today = deciding(versions(*RUNTIMES))
    return {name: result for name, result in stored.items() if deciding(result["versions"]) == today}


def deciding(found: dict[str, str]) -> list[str | None]:
    return [found.get(package) for package in DECIDING]


def measure(name: str, settings: Settings) -> dict:
    """The result of one network, as it is stored: facts, and a dict for each file."""
    made_by, data = provenance(*RUNTIMES), data_named(settings.networks[name])
    model = build(name, weights=data.name)
    chosen = np.random.default_rng(0).permutation(data.train.examples)[: settings.calibration]
    calibration, images = (part.astype(np.float32) for part in (data.train.inputs[chosen], data.test.inputs))
    predictions = np.concatenate([np.asarray(model(batch, training=False)) for batch in batches_of(images)])
    files = []
    for format in settings.formats:
        files += files_of(model, format, calibration, images, data.test.labels, settings.rounds)
    return {
        "network": name,
        "data": data.name,
        "calibration": len(calibration),
        "tested": len(images),
        "accuracy": accuracy(predictions, data.test.labels),
        "rounds": settings.rounds,
        **made_by,
        "files": files,
    }


def data_named(name):
    """A data set; the digits of scikit-learn where it is neither on this machine nor to be downloaded."""
    try:
        return load(name)
    except FileNotFoundError:
        return load("digits")


def batches_of(images):
    """All images, some at a time."""
    return [images[i : i + BATCH] for i in range(0, len(images), BATCH)]


def accuracy(predictions, labels):
    return float((predictions.argmax(-1) == labels).mean())


def files_of(model, format, calibration, images, labels, rounds):
    """A dict for each of four files: float32 and int8, as it is and folded."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        made = []
        for fold in (False, True):
            common = {"format": format, "fold": fold, "report": None}
            paths = [folder / f"{kind}_{fold}{FORMATS[format].suffix}" for kind in ("float32", "int8")]
            made.append(export.export(model, paths[0], check=False, **common))
            limits = {"least_agreement": 0.0, "most_difference": float("inf")}  # the page shows what there is
            made.append(export.quantize(model, paths[1], calibration, **common, **limits))
        found = served_in_turns(made, [images[:1], *batches_of(images)], rounds, folder, THREADS)
    right = [accuracy(np.concatenate(outputs[1:]), labels) for outputs in found["outputs"]]
    times = found["milliseconds"]
    return [
        row_of(file, right[i], times[i], times[i - i % 2], found["runtime"], fold=i >= 2) for i, file in enumerate(made)
    ]


def row_of(file, right, times, of_float32, runtime, fold):
    """What is stored of a file; `faster` compares it with the float32 file beside it, turn by turn."""
    ratios = [plain / own for plain, own in zip(of_float32, times, strict=True)]
    row = {
        "format": file.format,
        "runtime": runtime,
        "int8": isinstance(file, export.Quantized),
        "fold": fold,
        "bytes": file.bytes,
        "accuracy": right,
        "milliseconds": statistics.median(times),
        "faster": [statistics.median(ratios), min(ratios), max(ratios)],
    }
    if row["int8"]:
        layers = [[each.layer, each.error, each.rounding] for each in file.layers]
        row |= {"agreement": file.agreement, "mean": file.mean_difference, "largest": file.largest_difference}
        row |= {"layers": layers, "floats": len(file.floats)}
    return row


def page_text(results: list[dict], settings: Settings) -> str:
    """The page that follows from results."""
    rows = [row for result in results for row in rows_of(result)]
    drops = [drop_of(result, file) for result in results for file in result["files"] if file["int8"] and file["fold"]]
    first = results[0]
    return f"""\
# int8 beside float32

{INTRODUCTION.format(calls=CALLS, **dataclasses.asdict(settings))}
{table_of([network_of(result) for result in results])}

## Size, accuracy and latency

{COLUMNS}
{table_of(rows)}

Median speed of int8 over float32: {"; ".join(speeds_of(results, settings))}.

## Where the error comes from

{LAYERS}
{table_of(drops)}

Versions: {facts(first["versions"])}; {first["machine"]["cores"]} cores of {first["machine"]["processor"]}.
"""


def network_of(result):
    return {
        "network": result["network"],
        "data": result["data"],
        "calibration examples": f"{result['calibration']:,}",
        "test images": f"{result['tested']:,}",
        "accuracy of the Keras model": f"{result['accuracy']:.2%}",
    }


def rows_of(result):
    """A row for each format, folded and not."""
    files = {(file["format"], file["fold"], file["int8"]): file for file in result["files"]}
    for (format, fold, int8), whole in files.items():
        if not int8:
            small = files[format, fold, True]
            median, lowest, highest = small["faster"]
            yield {
                "network, data": f"{result['network']}, {result['data']}",
                "served with": whole["runtime"],
                "folded": "yes" if fold else "no",
                "float32: kB": f"{whole['bytes'] / 1e3:,.0f}",
                "int8: kB": f"{small['bytes'] / 1e3:,.0f}",
                "float32: accuracy": f"{whole['accuracy']:.2%}",
                "int8: accuracy": f"{small['accuracy']:.2%}",
                "top-1 agrees": f"{small['agreement']:.1%}",
                "float32: ms": f"{whole['milliseconds']:.3f}",
                "int8: ms": f"{small['milliseconds']:.3f}",
                "float32/int8": f"{median:.2f} ({lowest:.2f}–{highest:.2f})",
            }


def speeds_of(results, settings):
    """The lowest and the highest median ratio of each format, in words."""
    for format in settings.formats:
        files = [file for result in results for file in result["files"] if file["format"] == format and file["int8"]]
        medians = [file["faster"][0] for file in files]
        yield f"{min(medians):.2f} to {max(medians):.2f} times with {files[0]['runtime']}"


def drop_of(result, file):
    layers = [layer for layer in file["layers"] if layer[2] is not None]
    rounded = sorted(layers, key=lambda layer: layer[2], reverse=True)
    return {
        "network, data": f"{result['network']}, {result['data']}",
        "served with": file["runtime"],
        "mean difference": f"{file['mean']:.2%}",
        "largest": f"{file['largest']:.2%}",
        "error of the outputs": f"{next(error for _, error, rounding in file['layers'] if rounding is None):.2%}",
        "largest rounding errors": ", ".join(f"{name} {rounding:.2%}" for name, _, rounding in rounded[:WORST]),
        "activations in float32": str(file["floats"]),
    }


INTRODUCTION = """\
Shipped weights (`build(…, weights=…)`) in files of `bn_keras.export.export` and `bn_keras.export.quantize`, served by a
process that cannot import bn_keras.

- The ranges of int8 come from {calibration} training images. Accuracy is that of all test images.
- Latency is that of one image with one thread: the median of {rounds} turns of {calls} calls, in which the four files
  of a network alternate. The ratio is taken turn by turn: its median, and in brackets the lowest and the highest.
- Where MNIST is not on the machine and cannot be downloaded, the digits of scikit-learn take its place. The table names
  the data.
"""

COLUMNS = """\
*folded: no* is the file of the model as it is (`fold=False`). *top-1 agrees* is the share of the calibration images
that the int8 file and the Keras model classify alike.
"""

LAYERS = """\
The folded int8 files on the calibration images. Differences are those to the Keras model, over the largest output. A
rounding error is the part that a layer itself adds: the mean relative error of an element of its float32 activation in
int8. The error of the outputs, the norm of the difference over the norm, holds those of all layers.
"""
