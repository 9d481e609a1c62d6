"""Plots of what cells cost: params and mult-adds against the reward, seconds a child."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from nascli.report import figures
from nascli.report.figures import Picture
from nascli.report.search_data import SearchData, reward_of
from nascli.search.trial import Score, Trial

_LABEL_WIDTH, _LABEL_HEIGHT = 0.075, 0.06  # of the axes


def pareto_front(trials: Sequence[Trial], cost: Callable[[Score], int]) -> list[Trial]:
    """The scored trials that no other one beats in reward at the same cost or less, cheapest first."""
    front: list[Trial] = []
    scored = [(trial, trial.score) for trial in trials if trial.score is not None]
    for trial, score in sorted(scored, key=lambda each: (cost(each[1]), -each[1].reward, each[0].id)):
        if not front or score.reward > reward_of(front[-1]):
            front.append(trial)
    return front


def cost_pictures(data: SearchData) -> list[Picture]:
    """Reward against params and against mult-adds, with the Pareto fronts."""
    if not data.scored:
        return []
    size = _image_size(data)
    return [
        _cost_picture(data, "params", "Params and reward", "trainable params of the child", lambda score: score.params),
        _cost_picture(
            data,
            "mult-adds",
            "Mult-adds and reward",
            f"mult-adds of one image{size}",
            lambda score: score.mult_adds,
        ),
    ]


def seconds_picture(data: SearchData) -> Picture | None:
    """How long evaluations took; None where no time is known."""
    seconds = [trial.score.seconds for trial in data.scored if trial.score is not None]
    if not seconds or max(seconds) <= 0:
        return None
    figure, axes = figures.plain_axes("seconds of an evaluation", "children")
    axes.hist(seconds, bins=min(30, max(5, len(seconds) // 3)), color=figures.SKY, edgecolor="white")
    middle = sorted(seconds)[len(seconds) // 2]
    axes.axvline(middle, color=figures.VERMILLION, linestyle="--", label=f"median {middle:.3g} s")
    axes.legend()
    return figures.finish(
        figure,
        "seconds",
        "Time of a child",
        f"From {min(seconds):.3g} to {max(seconds):.3g} seconds, {sum(seconds):,.0f} in all.",
        f"Histogram of the seconds of {len(seconds)} evaluations, median {middle:.3g}.",
    )


def _cost_picture(data: SearchData, name: str, title: str, label: str, cost: Callable[[Score], int]) -> Picture:
    figure, axes = figures.plain_axes(label, "reward (proxy accuracy)" if data.trains else "reward")
    points = [(cost(trial.score), trial.score.reward) for trial in data.scored if trial.score is not None]
    dense = len(points) > figures.DENSE
    costs, rewards = zip(*points, strict=True)
    axes.scatter(costs, rewards, s=6 if dense else 16, color=figures.SKY, linewidths=0, rasterized=dense)
    front = pareto_front(data.scored, cost)
    x = [cost(trial.score) for trial in front if trial.score is not None]
    y = [reward_of(trial) for trial in front]
    axes.step(x, y, where="post", color=figures.VERMILLION, linewidth=1.2)
    axes.scatter(x, y, s=26, color=figures.VERMILLION, zorder=3)
    axes.margins(x=0.06, y=0.08)
    labelled = _label_front(axes, front, cost)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if data.trains:
        figures.percent_axis(axes)
    said = ", ".join(str(trial.id) for trial in labelled)
    rest = "" if len(labelled) == len(front) else ", the better ones where there is room"
    return figures.finish(
        figure,
        name,
        title,
        f"Every evaluated cell. Red: the {len(front)} cells that no other beats at the same cost or less, with the "
        f"number of the trial{rest}.",
        f"Scatter of reward against {label} for {len(points)} cells; on the Pareto front are the trials {said}.",
    )


def _label_front(axes: Axes, front: Sequence[Trial], cost: Callable[[Score], int]) -> list[Trial]:
    """Write trial numbers beside the points of the front, best first, as long as none covers another."""
    taken: list[tuple[float, float]] = []
    labelled = []
    for trial in reversed(front):
        assert trial.score is not None
        point = (cost(trial.score), trial.score.reward)
        x, y = axes.transAxes.inverted().transform(axes.transData.transform(point))
        if all(abs(x - other) > _LABEL_WIDTH or abs(y - above) > _LABEL_HEIGHT for other, above in taken):
            taken.append((x, y))
            labelled.append(trial)
            axes.annotate(str(trial.id), point, xytext=(-4, 4), textcoords="offset points", ha="right", fontsize=8.5)
    return labelled[::-1]


def _image_size(data: SearchData) -> str:
    size = data.recipe.network.image_size
    return f", {size}×{size}" if size else ""
