"""The benchmark's page and pictures, and the table of docs/performance.md, all from the stored results alone."""

import statistics

from bn_keras.bench import report
from bn_keras.bench.cases import GROUPS, case_of
from bn_keras.bench.results import entries_of, read_results
from bn_keras.lab.markdown import facts, size, table
from bn_keras.lab.results import RESULTS, digest_of
from bn_keras.pages.registry import Request

PERFORMANCE_COLUMNS = ("layer", "shape", "bn_keras, ms", "Keras, ms", "Keras over bn_keras")


def files(request: Request) -> dict[str, str]:
    """The page, and a picture for each group that has figures."""
    from bn_keras.bench.plot import figure_of
    from bn_keras.lab.plot import svg

    results, digest = read_results(request.results), digest_of(request.results / RESULTS)
    pictures = {f"{group}.svg": svg(figure_of(results, group), digest) for group, *_ in report.sections(results)}
    return {"README.md": page_text(results)} | pictures


def performance(request: Request) -> str:
    """The README's table: a training step of our layers beside Keras' in float32."""
    return performance_text(read_results(request.results))


def performance_text(results):
    machine, versions = results["machine"], results["versions"]
    return f"""\
Milliseconds of a training step, forward and backward, in float32 on {machine["cores"]} cores of {machine["processor"]}:
medians of {results["rounds"]} rounds, with the lowest and the highest ratio in brackets (Keras {versions["keras"]},
TensorFlow {versions["tensorflow"]}).

{table(PERFORMANCE_COLUMNS, performance_rows(results))}
"""


def performance_rows(results):
    """A row for each training step that both libraries have."""
    for entry in entries_of(results, "batch-float32") + entries_of(results, "layer"):
        case = case_of(entry)
        if case.mode == "training" and report.ratios(entry, "keras", "bn_keras"):
            ms = [report.number(statistics.median(entry["peers"][name]["ms"])) for name in ("bn_keras", "keras")]
            ratio = report.ratio_text(entry, "keras", "bn_keras")
            yield report.NAMES[case.layer], size(case.shape) + report.axis_text(case), *ms, ratio


def page_text(results):
    machine, versions = facts(results["machine"]), facts(results["versions"])
    return f"""# How fast the layers are beside their peers

{METHOD.format(rounds=results["rounds"])}
- Machine: {machine}. It copied {bandwidth_text(results)} (bytes read plus bytes written).
- Versions: {versions}. Started {results["started"]}.

{"".join(section(*each) for each in report.sections(results))}{left_out_text(results)}
---
`bn-keras bench` measures the figures; `results.json` has every round.
"""


METHOD = """\
- Each peer runs in a process of its own, a fresh one for each section of this page, with a thread per core. The peers
  take turns, never two at once, in a new random order each round, so that a drift of the machine's speed affects all.
- A turn is as many calls as take 0.2 s, after one untimed call. A figure is the median over {rounds} rounds, with the
  lowest and the highest in brackets. A ratio is taken round by round; more than 1 is slower than the first peer.
- A training step is forward and backward. It returns the output and the gradients of the input, the scale and the
  offset, so that no peer can skip work. TensorFlow's peers run in a `tf.function`, PyTorch as it is usually called, JAX
  (flax.linen) under `jit`. `fused_op` is TensorFlow's kernel alone, without moving statistics.
- PyTorch's batch, group and instance norm have channels first, as is usual in PyTorch.
- The floor is the time to move the bytes that a layer must move at least, at the bandwidth at which the machine copies
  large arrays (NumPy, a thread per core), measured before and after each case. A training step of batch norm moves 8
  tensors of x's size, a training step of the other layers 5, and inference 2. An input that fits into the caches can be
  faster than the floor.
- Memory is how much a call lifts the resident memory of a process that has made the same call before. A library that
  keeps freed memory, as JAX does, shows no lift."""


def bandwidth_text(results):
    found = [each["copy"] / 1e9 for entry in results["cases"] for each in entry.get("bandwidth", {}).values()]
    return f"{min(found):.1f} to {max(found):.1f} GB/s meanwhile" if found else "at an unknown rate"


def section(group, columns, rows):
    title = GROUPS[group].title
    return f"## {title}\n\n![{title}]({group}.svg)\n\n{table(columns, rows)}\n\n"


def left_out_text(results):
    lines = report.omissions(results)
    return "## Left out\n\n" + "\n".join(f"- {line}" for line in lines) + "\n\n" if lines else ""
