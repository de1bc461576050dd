"""Displays of results, in the manner of scikit-learn's: ``XxxDisplay.from_result(result)``.

Every horizontal axis is lambda on a log scale, falling from left to right: models grow to the
right. A lambda of 0 has no place on it and is left out. Colours are those of Okabe and Ito, which
colour-blind readers can tell apart; what a line is stands beside the line. matplotlib is imported
when something is drawn (``pip install 'thresher[plots]'``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .results import CvResult, PathResult

__all__ = [
    "CoefPathDisplay",
    "ConvergenceDisplay",
    "CvCurveDisplay",
    "FeatureCountDisplay",
    "ResidualDisplay",
    "TrainValidationDisplay",
]

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
PALETTE = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
INK, QUIET, FAINT = "#222222", "#6b6b6b", "#d9d9d9"
UNDERFIT, OVERFIT = "#56B4E9", "#E69F00"


class Choice(NamedTuple):
    """A chosen lambda and how many features it uses (None: not known)."""

    lambda_: float
    n_features: int | None = None


class _Grid(NamedTuple):
    """Where one response and l1_ratio lie in a result, and which fits can be shown."""

    response: int
    l1_ratio: int
    shown: np.ndarray  # (L,) bool
    lambdas: np.ndarray  # (number shown,)
    title: str

    def of(self, values: np.ndarray) -> np.ndarray:
        return values[self.response, self.l1_ratio][self.shown]


def _response(result: PathResult, response: int | str) -> tuple[int, str]:
    """Position and name of a response."""
    names = result._names()[1]
    if isinstance(response, str):
        if response not in names:
            raise ValueError(f"response must be one of the {len(names)} names, got {response!r}")
        response = names.index(response)
    return range(result.n_responses)[response], names[response]


def _grid(
    result: PathResult, response: int | str, l1_ratio: int | None, *, cv: bool = False
) -> _Grid:
    """The fits of one response that can be shown; with `cv` those that have an error, too."""
    response, name = _response(result, response)
    if l1_ratio is None:
        l1_ratio = int(result.best[response, 0]) if isinstance(result, CvResult) else 0
    l1_ratio = range(len(result.l1_ratio))[l1_ratio]
    lambdas = result.lambdas[response, l1_ratio]
    shown = (lambdas > 0) & np.isfinite(result.gap[response, l1_ratio])
    if cv and isinstance(result, CvResult):
        shown = shown & np.isfinite(result.cv_error[response, l1_ratio])
    if not shown.any():
        raise ValueError(f"response {name}: no fit with a lambda above 0 was computed")
    title = name
    if len(result.l1_ratio) > 1:
        title += f", l1_ratio {result.l1_ratio[l1_ratio]:g}"
    return _Grid(response, l1_ratio, shown, lambdas[shown], title)


def _choices(result: PathResult, grid: _Grid) -> tuple[Choice | None, Choice | None]:
    """Best and one-standard-error choice, where they lie on this grid."""
    found = []
    for name in ("best", "one_se"):
        at = getattr(result, name)[grid.response] if isinstance(result, CvResult) else (-1, -1)
        known = at[0] == grid.l1_ratio and grid.shown[at[1]]
        place = (grid.response, at[0], at[1])
        found.append(
            Choice(float(result.lambdas[place]), int(result.n_nonzero[place])) if known else None
        )
    return found[0], found[1]


def _needs_cv(result: PathResult, what: str) -> CvResult:
    if not isinstance(result, CvResult):
        raise TypeError(
            f"{what} needs a result of cross_validate, got a {type(result).__name__} without "
            "cross-validation"
        )
    return result


def _new_axes(ax: Any) -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'thresher[plots]'") from error
    if ax is None:
        ax = pyplot.figure(figsize=(6.4, 4.0), layout="constrained").add_subplot()
    return ax


def _dress(ax: Any, *, title: str, ylabel: str, lambdas: np.ndarray | None = None) -> None:
    """Quiet frame, grid behind the data, title on the left."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(QUIET)
    ax.tick_params(which="both", colors=QUIET, labelcolor=INK, labelsize=9)
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_title(title, loc="left", fontsize=11, color=INK, pad=10)
    ax.set_ylabel(ylabel, fontsize=9.5, color=INK)
    if lambdas is None:
        return
    ax.set_xscale("log")
    if lambdas[0] > lambdas[-1]:
        ax.set_xlim(lambdas[0], lambdas[-1])
    else:
        ax.set_xlim(lambdas[0] * 1.5, lambdas[0] / 1.5)
    ax.set_xlabel("λ, falling: models grow to the right", fontsize=9.5, color=INK)


def _features(count: int) -> str:
    return "1 feature" if count == 1 else f"{count} features"


def _below_title(ax: Any, parts: list[tuple[str, str]]) -> None:
    """A line of coloured texts between title and axes."""
    ax.set_title(ax.get_title("left"), loc="left", fontsize=11, color=INK, pad=22)
    place: dict[str, Any] = {"xy": (0, 1), "xycoords": "axes fraction", "xytext": (0, 5)}
    for text, color in parts:
        drawn = ax.annotate(
            text, textcoords="offset points", va="bottom", fontsize=8.5, color=color, **place
        )
        place = {"xy": (1, 0), "xycoords": drawn, "xytext": (12, 0)}
        place["annotation_clip"] = False


def _mark_choices(ax: Any, best: Choice | None, one_se: Choice | None) -> None:
    """A line for each choice, with its name at the top; numbers stand below the title."""
    if best is None:
        return
    same = one_se is not None and one_se.lambda_ == best.lambda_
    marked = [(best, "best = 1 s.e." if same else "best", BLUE, "left")]
    if one_se is not None and not same:
        marked.insert(0, (one_se, "1 s.e.", VERMILION, "right"))
    parts = []
    for choice, name, color, side in marked:
        ax.axvline(choice.lambda_, color=color, linewidth=1.1, linestyle=(0, (4, 2)))
        across = _across(ax, choice.lambda_)
        if not 0.08 <= across <= 0.92:
            side = "left" if across < 0.5 else "right"
        ax.annotate(
            name,
            (choice.lambda_, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4 if side == "left" else -4, -2),
            textcoords="offset points",
            ha=side,
            va="top",
            fontsize=8.5,
            color=color,
        )
        text = f"{name}: λ {choice.lambda_:.3g}"
        if choice.n_features is not None:
            text += f", {_features(choice.n_features)}"
        parts.append((text, color))
    _below_title(ax, parts)


def _across(ax: Any, lambda_: float) -> float:
    """Where a lambda lies between the left (0) and the right (1) end of the axes."""
    left, right = ax.get_xlim()
    return float(np.log(lambda_ / left) / np.log(right / left))


def _spread(places: np.ndarray, room: float) -> np.ndarray:
    """The ascending places nearest to the given ascending ones that lie `room` apart."""
    offsets = np.arange(len(places)) * room
    blocks: list[list[float]] = []  # sum, count; means ascend
    for place in places - offsets:
        blocks.append([place, 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    means = np.concatenate([np.full(int(count), total / count) for total, count in blocks])
    return means + offsets


@dataclass(kw_only=True, eq=False, repr=False)
class CoefPathDisplay:
    """Coefficients of one response along lambda; the largest are named.

    Parameters
    ----------
    lambdas : array of shape (L,), [X][y]
    coef : array of shape (n_features_shown, L), [y]/[X]
        Rows of features that are used somewhere.
    names : list of n_features_shown str
    named : list of int
        Rows that are coloured and named.
    best, one_se : Choice, optional
    title : str

    Attributes
    ----------
    ax_, figure_ : the axes and figure drawn on
    lines_ : list of Line2D
    """

    lambdas: np.ndarray
    coef: np.ndarray
    names: list[str]
    named: list[int]
    best: Choice | None = None
    one_se: Choice | None = None
    title: str = ""

    @classmethod
    def from_result(
        cls,
        result: PathResult,
        *,
        response: int | str = 0,
        l1_ratio: int | None = None,
        n_named: int = 8,
        ax: Any = None,
    ) -> CoefPathDisplay:
        """Draw the path of one response.

        Parameters
        ----------
        result : PathResult or CvResult
        response : int or str
        l1_ratio : int, optional
            Position in `result.l1_ratio`; None: the best one, or the first without
            cross-validation.
        n_named : int
            How many features to name: the largest at the best lambda, or else at the last.
        ax : matplotlib axes, optional
        """
        grid = _grid(result, response, l1_ratio)
        kept = result._model.coef_kept[grid.response, grid.l1_ratio] != 0
        if not kept[grid.shown].all():
            raise ValueError(
                "the coefficients of this path were not kept: cross_validate without keep_chosen"
            )
        path = result.coef_path(grid.response, grid.l1_ratio)[:, grid.shown].tocsr()
        used = np.flatnonzero(np.diff(path.indptr))
        coef = path[used].toarray()
        best, one_se = _choices(result, grid)
        at = -1 if best is None else int(np.flatnonzero(grid.lambdas == best.lambda_)[0])
        order = np.argsort(-abs(coef[:, at]), kind="stable")[:n_named]
        names = result._names()[0]
        return cls(
            lambdas=grid.lambdas,
            coef=coef,
            names=[names[j] for j in used],
            named=[int(k) for k in order if coef[k, at] != 0],
            best=best,
            one_se=one_se,
            title=f"Coefficients: {grid.title}",
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> CoefPathDisplay:
        """Draw on `ax`, or on new axes."""
        ax = _new_axes(ax)
        self.ax_, self.figure_, self.lines_ = ax, ax.figure, []
        _dress(ax, title=self.title, ylabel="coefficient", lambdas=self.lambdas)
        ax.axhline(0, color=QUIET, linewidth=0.8)
        colour = {k: PALETTE[i % len(PALETTE)] for i, k in enumerate(self.named)}
        for k in sorted(range(len(self.coef)), key=lambda k: k in colour):
            style = {"color": colour[k], "linewidth": 1.5} if k in colour else {}
            quiet = {"color": "#b5b5b5", "linewidth": 0.7}
            self.lines_ += ax.plot(self.lambdas, self.coef[k], **(style or quiet))
        ax.margins(y=0.08)
        _mark_choices(ax, self.best, self.one_se)
        self._name_lines(ax, colour)
        return self

    def _name_lines(self, ax: Any, colour: dict[int, str]) -> None:
        if not colour:
            return
        low, high = ax.get_ylim()
        ax.set_ylim(low, high)
        height = ax.get_window_extent().height / ax.figure.dpi * 72
        rows = sorted(colour, key=lambda k: self.coef[k, -1])
        ends = np.array([(self.coef[k, -1] - low) / (high - low) for k in rows])
        for k, end, place in zip(rows, ends, _spread(ends, 10.5 / height), strict=True):
            name = self.names[k]
            ax.annotate(
                name if len(name) <= 24 else name[:23] + "…",
                (1.0, end),
                xycoords="axes fraction",
                xytext=(12, (place - end) * height),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                color=colour[k],
                arrowprops={
                    "arrowstyle": "-",
                    "color": colour[k],
                    "linewidth": 0.6,
                    "shrinkA": 0,
                    "shrinkB": 0,
                    "relpos": (0, 0.5),
                },
            )


@dataclass(kw_only=True, eq=False, repr=False)
class CvCurveDisplay:
    """Cross-validated error along lambda, with its standard error and both choices.

    Parameters
    ----------
    lambdas, error, se : arrays of shape (L,), [X][y] and [y]^2
    best, one_se : Choice
    null_error : float, optional
        Error of the model without features on the training rows, [y]^2.
    title : str

    Attributes
    ----------
    ax_, figure_ : the axes and figure drawn on
    line_ : Line2D
    band_ : the error band
    """

    lambdas: np.ndarray
    error: np.ndarray
    se: np.ndarray
    best: Choice | None
    one_se: Choice | None
    null_error: float | None = None
    title: str = ""

    @classmethod
    def from_result(
        cls,
        result: CvResult,
        *,
        response: int | str = 0,
        l1_ratio: int | None = None,
        ax: Any = None,
    ) -> CvCurveDisplay:
        """Draw the curve of one response; parameters as in `CoefPathDisplay.from_result`."""
        result = _needs_cv(result, "CvCurveDisplay")
        grid = _grid(result, response, l1_ratio, cv=True)
        best, one_se = _choices(result, grid)
        null = null_variance(result)[grid.response]
        return cls(
            lambdas=grid.lambdas,
            error=grid.of(result.cv_error),
            se=grid.of(result.cv_se),
            best=best,
            one_se=one_se,
            null_error=None if np.isnan(null) else float(null),
            title=f"Cross-validation: {grid.title}",
        ).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, *, response: int = 0, ax: Any = None) -> CvCurveDisplay:
        """Draw the curve of a fitted LassoCV or ElasticNetCV, ours or scikit-learn's.

        Folds are averaged plainly, as these estimators do; the standard error is that of the mean
        over folds. Of several l1_ratios the chosen one is drawn.

        Parameters
        ----------
        estimator : LassoCV or ElasticNetCV
        response : int
        ax : matplotlib axes, optional
        """
        if not hasattr(estimator, "mse_path_"):
            raise TypeError(
                "estimator must be a fitted LassoCV or ElasticNetCV, got "
                f"{type(estimator).__name__} without mse_path_"
            )
        several = np.ndim(estimator.alpha_) > 0
        ratios = np.atleast_1d(getattr(estimator, "l1_ratio", 1.0))
        errors, alphas, alpha = estimator.mse_path_, estimator.alphas_, estimator.alpha_
        chosen = getattr(estimator, "l1_ratio_", ratios[0])
        if several:
            alphas = alphas if alphas.ndim == 1 else alphas[response]
            errors, alpha = errors[response], alpha[response]
            chosen = np.atleast_1d(chosen)[response if np.ndim(chosen) else 0]
        if errors.ndim == 3:
            a = int(np.flatnonzero(ratios == chosen)[0])
            errors, alphas = errors[a], alphas if alphas.ndim == 1 else alphas[a]
        shown = alphas > 0
        error = errors.mean(axis=1)
        se = errors.std(axis=1, ddof=1) / np.sqrt(errors.shape[1])
        at = int(error.argmin())
        within = int(np.flatnonzero(error <= error[at] + se[at])[0])
        title = f"Cross-validation: {type(estimator).__name__}"
        return cls(
            lambdas=alphas[shown],
            error=error[shown],
            se=se[shown],
            best=Choice(float(alpha)),
            one_se=Choice(float(alphas[within])),
            title=f"{title}, response {response}" if several else title,
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> CvCurveDisplay:
        """Draw on `ax`, or on new axes."""
        ax = _new_axes(ax)
        self.ax_, self.figure_ = ax, ax.figure
        _dress(ax, title=self.title, ylabel="mean squared error ± s.e.", lambdas=self.lambdas)
        self.band_ = ax.fill_between(
            self.lambdas,
            self.error - self.se,
            self.error + self.se,
            color=BLUE,
            alpha=0.15,
            linewidth=0,
        )
        (self.line_,) = ax.plot(self.lambdas, self.error, color=BLUE, linewidth=1.8)
        top = np.nanmax(self.error + np.nan_to_num(self.se))
        if self.null_error is not None and self.null_error < 2 * top:
            ax.axhline(self.null_error, color=QUIET, linewidth=0.9, linestyle=(0, (1, 2)))
            ax.annotate(
                "variance of the response",
                (1, self.null_error),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 3),
                textcoords="offset points",
                ha="right",
                fontsize=8.5,
                color=QUIET,
            )
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, 0) if low > -0.1 * high else low, high + 0.08 * (high - low))
        _mark_choices(ax, self.best, self.one_se)
        for choice, color in ((self.one_se, VERMILION), (self.best, BLUE)):
            if choice is not None:
                at = int(np.argmin(abs(np.log(self.lambdas / choice.lambda_))))
                ax.plot(self.lambdas[at], self.error[at], "o", color=color, markersize=5.5)
        return self


@dataclass(kw_only=True, eq=False, repr=False)
class FeatureCountDisplay:
    """Number of features that are used along lambda.

    Parameters
    ----------
    lambdas, n_features : arrays of shape (L,)
    best, one_se : Choice, optional
    limit : int, optional
        Most features a Lasso can use without ties: min(n_samples, n_features); drawn if near.
    title : str

    Attributes
    ----------
    ax_, figure_ : the axes and figure drawn on
    line_ : Line2D
    """

    lambdas: np.ndarray
    n_features: np.ndarray
    best: Choice | None = None
    one_se: Choice | None = None
    limit: int | None = None
    title: str = ""

    @classmethod
    def from_result(
        cls,
        result: PathResult,
        *,
        response: int | str = 0,
        l1_ratio: int | None = None,
        ax: Any = None,
    ) -> FeatureCountDisplay:
        """Draw the counts of one response; parameters as in `CoefPathDisplay.from_result`."""
        grid = _grid(result, response, l1_ratio)
        best, one_se = _choices(result, grid)
        lasso = result.l1_ratio[grid.l1_ratio] == 1
        return cls(
            lambdas=grid.lambdas,
            n_features=grid.of(result.n_nonzero),
            best=best,
            one_se=one_se,
            limit=min(result.n_samples, result.n_features) if lasso else None,
            title=f"Features in use: {grid.title}",
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> FeatureCountDisplay:
        """Draw on `ax`, or on new axes."""
        ax = _new_axes(ax)
        self.ax_, self.figure_ = ax, ax.figure
        _dress(ax, title=self.title, ylabel="features", lambdas=self.lambdas)
        (self.line_,) = ax.plot(
            self.lambdas, self.n_features, color=INK, linewidth=1.5, drawstyle="steps-post"
        )
        most = max(int(self.n_features.max()), 1)
        if self.limit is not None and self.limit <= 1.3 * most:
            ax.axhline(self.limit, color=QUIET, linewidth=0.9, linestyle=(0, (1, 2)))
            ax.annotate(
                f"min(samples, features) = {self.limit}",
                (0, self.limit),
                xycoords=("axes fraction", "data"),
                xytext=(3, 3),
                textcoords="offset points",
                fontsize=8.5,
                color=QUIET,
            )
            most = max(most, self.limit)
        ax.set_ylim(0, 1.15 * most)
        ax.yaxis.get_major_locator().set_params(integer=True)
        _mark_choices(ax, self.best, self.one_se)
        for choice, color in ((self.one_se, VERMILION), (self.best, BLUE)):
            if choice is not None and choice.n_features is not None:
                ax.plot(choice.lambda_, choice.n_features, "o", color=color, markersize=5.5)
        return self


@dataclass(kw_only=True, eq=False, repr=False)
class TrainValidationDisplay:
    """Training against validation error; where a model is too small or too large is shaded.

    The shaded ranges are those whose cross-validated error lies more than one standard error above
    the least: left of the best lambda the model underfits, right of it it overfits. What is not
    shaded is as good as the best one can tell.

    Parameters
    ----------
    lambdas, cv_error, cv_se, train_error : arrays of shape (L,), [X][y] and [y]^2
    best, one_se : Choice, optional
    title : str

    Attributes
    ----------
    ax_, figure_ : the axes and figure drawn on
    lines_ : list of two Line2D: validation, training
    shades_ : dict of "underfitting" and "overfitting", each (larger, smaller lambda), where any
    """

    lambdas: np.ndarray
    cv_error: np.ndarray
    cv_se: np.ndarray
    train_error: np.ndarray
    best: Choice | None = None
    one_se: Choice | None = None
    title: str = ""

    @classmethod
    def from_result(
        cls,
        result: CvResult,
        *,
        response: int | str = 0,
        l1_ratio: int | None = None,
        ax: Any = None,
    ) -> TrainValidationDisplay:
        """Draw both errors of one response; parameters as in `CoefPathDisplay.from_result`."""
        result = _needs_cv(result, "TrainValidationDisplay")
        grid = _grid(result, response, l1_ratio, cv=True)
        best, one_se = _choices(result, grid)
        return cls(
            lambdas=grid.lambdas,
            cv_error=grid.of(result.cv_error),
            cv_se=grid.of(result.cv_se),
            train_error=grid.of(result.train_error),
            best=best,
            one_se=one_se,
            title=f"Training and validation: {grid.title}",
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> TrainValidationDisplay:
        """Draw on `ax`, or on new axes."""
        ax = _new_axes(ax)
        self.ax_, self.figure_ = ax, ax.figure
        _dress(ax, title=self.title, ylabel="mean squared error", lambdas=self.lambdas)
        self.shades_ = fit_ranges(self.lambdas, self.cv_error, self.cv_se)
        for name, color in (("underfitting", UNDERFIT), ("overfitting", OVERFIT)):
            if name in self.shades_:
                ax.axvspan(*self.shades_[name], color=color, alpha=0.16, linewidth=0)
        self.lines_ = ax.plot(self.lambdas, self.cv_error, color=BLUE, linewidth=1.8)
        self.lines_ += ax.plot(self.lambdas, self.train_error, color=VERMILION, linewidth=1.8)
        high = float(np.nanmax([self.cv_error, self.train_error]))
        ax.set_ylim(0, 1.22 * high if high > 0 else 1)
        for name, ink in (("underfitting", "#1f6f9f"), ("overfitting", "#8a5c00")):
            if name in self.shades_:
                first, last = self.shades_[name]
                ax.annotate(
                    name,
                    (float(np.sqrt(first * last)), 0.975),
                    xycoords=("data", "axes fraction"),
                    ha="center",
                    va="top",
                    fontsize=9,
                    color=ink,
                    style="italic",
                )
        for values, name, color in (
            (self.cv_error, "validation", BLUE),
            (self.train_error, "training", VERMILION),
        ):
            ax.annotate(
                name,
                (1.0, values[-1]),
                xycoords=("axes fraction", "data"),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=color,
            )
        if self.best is not None:
            at = int(np.argmin(abs(np.log(self.lambdas / self.best.lambda_))))
            cv, train = self.cv_error[at], self.train_error[at]
            ax.plot([self.best.lambda_] * 2, [train, cv], color=INK, linewidth=1.0)
            ax.plot(self.best.lambda_, cv, "o", color=BLUE, markersize=5.5)
            ax.plot(self.best.lambda_, train, "o", color=VERMILION, markersize=5.5)
            text = f"best: λ {self.best.lambda_:.3g}"
            if cv > 0:
                text += f", training error {100 * train / cv:.2g} % of validation error"
            _below_title(ax, [(text, INK)])
        return self


@dataclass(kw_only=True, eq=False, repr=False)
class ResidualDisplay:
    """Residuals against fitted values.

    Parameters
    ----------
    predicted, residual : arrays of shape (n_samples,), [y]
    title, how : str
        `how` says where the predictions come from.

    Attributes
    ----------
    ax_, figure_ : the axes and figure drawn on
    points_ : PathCollection
    """

    predicted: np.ndarray
    residual: np.ndarray
    how: str = ""
    title: str = ""

    @classmethod
    def from_result(
        cls,
        result: PathResult,
        X: Any,
        Y: Any,
        *,
        response: int | str = 0,
        choice: Any = None,
        ax: Any = None,
    ) -> ResidualDisplay:
        """Draw the residuals of one response.

        Parameters
        ----------
        result : PathResult or CvResult
        X : array of shape (n_rows, n_features)
        Y : array of shape (n_rows, n_responses) or (n_rows,)
        response : int or str
        choice : see `PathResult.choice`
            None: the out-of-fold predictions, if the result has them
            (``cross_validate(..., predictions=True)``), or else "best".
        ax : matplotlib axes, optional
        """
        r, name = _response(result, response)
        observed = np.asarray(Y, dtype=np.float64).reshape(len(Y), -1)[:, r]
        held_out = result.predictions if isinstance(result, CvResult) else None
        if choice is None and held_out is not None:
            predicted, how = held_out[:, r], "of rows the fit has not seen"
        else:
            if choice is None and not isinstance(result, CvResult):
                raise ValueError("choice must be given for a result without cross-validation")
            predicted = result.predict(X, "best" if choice is None else choice)[:, r]
            how = "of the fit on all rows"
        return cls.from_predictions(observed, predicted, how=how, title=f"Residuals: {name}", ax=ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, response: int = 0, ax: Any = None
    ) -> ResidualDisplay:
        """Draw the residuals of any fitted regressor.

        Parameters
        ----------
        estimator : fitted regressor
        X : array of shape (n_rows, n_features)
        y : array of shape (n_rows,) or (n_rows, n_responses)
        response : int
        ax : matplotlib axes, optional
        """
        observed = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        predicted = np.asarray(estimator.predict(X), dtype=np.float64).reshape(observed.shape)
        return cls.from_predictions(
            observed[:, response],
            predicted[:, response],
            title=f"Residuals: {type(estimator).__name__}",
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls, y: Any, predicted: Any, *, how: str = "", title: str = "Residuals", ax: Any = None
    ) -> ResidualDisplay:
        """Draw observed minus predicted values, both of shape (n_rows,)."""
        y, predicted = np.asarray(y, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
        known = np.isfinite(y) & np.isfinite(predicted)
        return cls(
            predicted=predicted[known], residual=(y - predicted)[known], how=how, title=title
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> ResidualDisplay:
        """Draw on `ax`, or on new axes."""
        ax = _new_axes(ax)
        self.ax_, self.figure_ = ax, ax.figure
        _dress(ax, title=self.title, ylabel="residual: observed − predicted")
        spread = float(np.sqrt(np.mean(self.residual**2))) if len(self.residual) else 0.0
        ax.axhspan(-spread, spread, color=BLUE, alpha=0.08, linewidth=0)
        ax.axhline(0, color=QUIET, linewidth=0.9)
        many = len(self.residual)
        self.points_ = ax.scatter(
            self.predicted,
            self.residual,
            s=22 if many < 300 else 9,
            color=BLUE,
            alpha=0.8 if many < 300 else 0.35,
            linewidths=0,
            rasterized=many > 2000,
        )
        ax.annotate(
            f"± root mean square, {spread:.3g}",
            (1, spread),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color="#1f6f9f",
        )
        label = f"predicted, {self.how}" if self.how else "predicted"
        ax.set_xlabel(label, fontsize=9.5, color=INK)
        reach = 1.15 * max(float(abs(self.residual).max(initial=0.0)), spread)
        if reach > 0:
            ax.set_ylim(-reach, reach)
        return self


@dataclass(kw_only=True, eq=False, repr=False)
class ConvergenceDisplay:
    """The certificate of every fit: relative duality gap against the tolerance.

    Parameters
    ----------
    lambdas : list of arrays, [X][y]
        One for each line; lines may differ in length.
    gaps : list of arrays
        Duality gap over half the variance of the response; drawn at 1e-18 where it is less.
    converged : list of bool arrays
    tol : float, optional
    title : str

    Attributes
    ----------
    ax_, figure_ : the axes and figure drawn on
    lines_ : list of Line2D
    """

    FLOOR: ClassVar[float] = 1e-18

    lambdas: list[np.ndarray]
    gaps: list[np.ndarray]
    converged: list[np.ndarray]
    tol: float | None = None
    title: str = ""

    @classmethod
    def from_result(
        cls,
        result: PathResult,
        *,
        response: int | str | None = None,
        l1_ratio: int | None = None,
        ax: Any = None,
    ) -> ConvergenceDisplay:
        """Draw the gaps.

        Parameters
        ----------
        result : PathResult or CvResult
        response : int or str, optional
            None: all responses that have a fit, as points.
        l1_ratio : int, optional
        ax : matplotlib axes, optional
        """
        chosen: Any = [response]
        if response is None:
            done = np.isfinite(result.gap).reshape(result.n_responses, -1).any(axis=1)
            chosen = np.flatnonzero(done) if done.any() else [0]
        grids = [_grid(result, r, l1_ratio) for r in chosen]
        tol = result.metadata.get("tol", "")
        count = sum(len(grid.lambdas) for grid in grids)
        several = f"{len(grids)} responses, {count} fits"
        return cls(
            lambdas=[grid.lambdas for grid in grids],
            gaps=[grid.of(result.gap) for grid in grids],
            converged=[grid.of(result.converged) for grid in grids],
            tol=float(tol) if tol else None,
            title=f"Certificates: {grids[0].title if len(grids) == 1 else several}",
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> ConvergenceDisplay:
        """Draw on `ax`, or on new axes."""
        ax = _new_axes(ax)
        self.ax_, self.figure_, self.lines_ = ax, ax.figure, []
        ends = np.array([max(v[0] for v in self.lambdas), min(v[-1] for v in self.lambdas)])
        _dress(ax, title=self.title, ylabel="relative duality gap", lambdas=ends)
        ax.set_yscale("log")
        single = len(self.lambdas) == 1
        few = sum(map(len, self.lambdas)) < 1000
        style: dict[str, Any] = {
            "color": BLUE,
            "linewidth": 1.0 if single else 0.0,
            "marker": "o",
            "markersize": 3.2 if few else 2.2,
            "markeredgewidth": 0.0,
            "alpha": 0.9 if few else 0.45,
            "rasterized": sum(map(len, self.lambdas)) > 5000,
        }
        for lambdas, gaps, converged in zip(self.lambdas, self.gaps, self.converged, strict=True):
            drawn = np.maximum(gaps, self.FLOOR)
            self.lines_ += ax.plot(lambdas, drawn, **style)
            if not converged.all():
                ax.plot(
                    lambdas[~converged],
                    drawn[~converged],
                    linestyle="none",
                    marker="X",
                    markersize=6,
                    color=VERMILION,
                )
        bad = sum(int((~converged).sum()) for converged in self.converged)
        worst = max(float(gaps.max()) for gaps in self.gaps)
        note = f"worst {worst:.2g}"
        if bad:
            note += f"; {bad} did not converge (crosses)"
        if any((gaps < self.FLOOR).any() for gaps in self.gaps):
            note += f"; what is below {self.FLOOR:g} stands there"
        _below_title(ax, [(note, VERMILION if bad else INK)])
        low = min(float(np.maximum(gaps, self.FLOOR).min()) for gaps in self.gaps)
        top = max(worst, self.FLOOR, self.tol or 0.0)
        ax.set_ylim(low / 3, top * 30)
        if self.tol:
            ax.axhline(self.tol, color=VERMILION, linewidth=1.1, linestyle=(0, (4, 2)))
            ax.annotate(
                f"tolerance {self.tol:.2g}",
                (1, self.tol),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 4),
                textcoords="offset points",
                ha="right",
                fontsize=8.5,
                color=VERMILION,
            )
        return self


def fit_ranges(
    lambdas: np.ndarray, error: np.ndarray, se: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Where the error lies more than one standard error above the least.

    Parameters
    ----------
    lambdas, error, se : arrays of shape (L,), lambda descending

    Returns
    -------
    dict
        "underfitting": (first lambda, first lambda within one s.e.) and "overfitting": (last lambda
        within one s.e., last lambda); a range that is empty is absent.
    """
    at = int(np.nanargmin(error))
    limit = error[at] + (se[at] if np.isfinite(se[at]) else 0.0)
    within = np.flatnonzero(error <= limit)
    ranges = {}
    if within[0] > 0:
        ranges["underfitting"] = (float(lambdas[0]), float(lambdas[within[0]]))
    if within[-1] < len(lambdas) - 1:
        ranges["overfitting"] = (float(lambdas[within[-1]]), float(lambdas[-1]))
    return ranges


def null_variance(result: PathResult) -> np.ndarray:
    """Variance of each response, [y]^2, read off a fit that is all but empty; NaN without one.

    A fit with objective P that explains the share d of the variance V has P <= V/2 (it is no worse
    than no features) and P >= (1 - d) V/2 (the penalty is no gain): d bounds the relative error.

    Returns
    -------
    array of shape (R,)
    """
    deviance = result.deviance.reshape(result.n_responses, -1)
    objective = result.objective.reshape(result.n_responses, -1)
    first = np.argmin(np.where(np.isfinite(deviance), abs(deviance), np.inf), axis=1)
    rows = np.arange(result.n_responses)
    return np.where(abs(deviance[rows, first]) < 1e-6, 2 * objective[rows, first], np.nan)
