"""Results as rows of text, for the terminal and for the pages of the zoo."""

from bn_keras.experiments.analysis import answers, curves, standard_error

LABELS = {"none": "without norm", "batch": "batch norm"}
ANSWER_COLUMNS = (
    "question",
    "arm",
    "lr",
    "steps",
    "of each seed",
    "seconds",
    "fewer steps",
    "less time",
)
SWEEP_COLUMNS = ("lr", "without norm", "batch norm")


def answer_rows(results):
    """Two rows for each question: the arm without norm, the arm with it."""
    rows = []
    for answer in answers(results):
        gains = [("1×", "1×"), (times(answer.fewer_steps), times(answer.less_time))]
        arms = (answer.without, answer.with_norm)
        for curve, crossing, gain in zip(arms, answer.crossings, gains, strict=True):
            rows.append(
                (
                    f"at {answer.question}",
                    LABELS[curve.arm],
                    f"{curve.learning_rate:g}",
                    count(crossing.step),
                    " ".join(map(count, crossing.step_of_seed)),
                    "never" if crossing.seconds is None else f"{crossing.seconds:.2f}",
                    *gain,
                )
            )
    return rows


def count(step):
    return "never" if step is None else f"{step:,}"


def times(ratio):
    return "–" if ratio is None else f"{ratio:.2f}×"


def sweep_rows(results):
    """For each learning rate the best accuracy of both arms, and how many runs diverged."""
    by_arm = curves(results)
    return [
        (f"{rate:g}", *(sweep_text(by_arm[arm][rate]) for arm in ("none", "batch")))
        for rate in results["recipe"]["learning_rates"]
    ]


def sweep_text(curve):
    if curve.diverged == len(curve.accuracy):
        return "diverged"
    text = f"{curve.best:.2%}"
    return f"{text} ({curve.diverged} of {len(curve.accuracy)} diverged)" if curve.diverged else text


def target_line(results):
    answer = answers(results)[0]
    return (
        f"target: {answer.target:.2%} test accuracy, the best that the arm without norm reaches "
        f"(mean of {len(results['recipe']['seeds'])} seeds, lr {answer.without.learning_rate:g})"
    )


def gain(answer):
    """What batch norm gains, or loses, in words."""
    if answer.fewer_steps is None:
        return "does not reach the target"
    steps = more_or_less(answer.fewer_steps, "fewer", "more")
    return f"{steps} steps, {more_or_less(answer.less_time, 'less', 'more')} time"


def more_or_less(ratio, less, more):
    size, word = (ratio, less) if ratio >= 1 else (1 / ratio, more)
    return f"{size:.1f}× {word}" if size < 10 else f"{size:.0f}× {word}"


def sensitivity_line(results):
    """The gains again with the target a standard error lower."""
    error = standard_error(results)
    gains = "; ".join(f"{gain(answer)} at {answer.question}" for answer in answers(results, lowered_by=error))
    return f"with the target one standard error ({100 * error:.2f} points) lower, batch norm: {gains}"


def warnings(results):
    """What a reader should know before believing the answers."""
    lines = []
    rates = results["recipe"]["learning_rates"]
    for curve in (answers(results)[1].without, answers(results)[1].with_norm):
        if len(rates) > 1 and curve.learning_rate in (min(rates), max(rates)):
            lines.append(
                f"The best learning rate of the arm '{LABELS[curve.arm]}' is {curve.learning_rate:g}, at the edge of "
                "the sweep: widen it with --rates."
            )
        if curve.best <= 1.5 / results["data"]["classes"]:
            lines.append(f"The arm '{LABELS[curve.arm]}' hardly learned: {curve.best:.1%} at its best.")
    if len(results["recipe"]["seeds"]) < 3:
        lines.append("Fewer than three seeds: the differences may be chance.")
    return lines
