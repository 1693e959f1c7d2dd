"""`StableSegmenter`: segments of any feature table, for notebooks and pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from core.errors import (
    ConfigError,
    FeatureMismatchError,
    ModelError,
    ModelTypeError,
    SchemaError,
)
from core.models.centroids import Assignment
from core.models.preprocessing import checked_matrix
from core.segments.axes import AxesModel, FittedAxis
from core.segments.published import Verdict
from core.tables.frames import polars_table
from core.tabular.assign import TableAssigner
from core.tabular.columns import TableEncoding
from core.tabular.learn import FitOptions, learn_segments, verdict_of

if TYPE_CHECKING:
    from core.segments.explain import Explanation
    from core.segments.identity import IdentityEvent

Labels = npt.NDArray[np.int64]
_NO_FRAME = (
    "Pass rows of numbers, or a frame (pandas, Polars, Arrow), which may hold text and "
    "categories, too."
)


class StableSegmenter(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # sklearn is untyped
    TransformerMixin,  # type: ignore[misc]
    ClusterMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Segment the rows of any feature table, and say how far to trust the segments.

    Numbers, categories and missing values are taken as they are
    (`core.tabular.columns`); the number of segments is found, and a verdict tells what
    the segments are (`core.tabular.learn`). A refit keeps ids and names.

    Parameters
    ----------
    n_segments : int or None
        Segments wanted; None: as many as there are groups with gaps between them, else
        the most that come back in refits.
    max_segments : int
        Most segments that are looked for, at least 2.
    categories : sequence of str
        Numeric columns that stand for categories, such as codes; columns of a
        categorical type are taken so anyway.
    drop : sequence of str
        Columns to leave out, such as dates and ids.
    seed : int
        Of everything random.

    Attributes
    ----------
    labels_ : ndarray of shape (n_rows,), int64
        Permanent id of each row's segment; -1 where nothing is known of a row. In a
        first fit they count from 0, by descending size.
    strengths_ : ndarray of shape (n_rows,), float64
        0 on the border to another segment, 1 at the own centre or beyond it; 0 for -1.
    runners_up_ : ndarray of shape (n_rows,), int64
        The second nearest segment; -1 where there is none.
    verdict_ : core.segments.published.Verdict
        Its `kind` is 'natural' (groups with gaps between them), 'reproducible' (no
        groups, but the same cut comes back in refits) or 'constructive' (neither).
    stability_ : dict or None
        How well the segments come back when everything is learnt anew on 80% of the
        rows (``ari``, ``lowest_ari``, ``ami``, ``n_refits``); None for one segment.
    segments_ : DataFrame
        A row per segment: ``segment_id``, ``segment`` (its name), ``size``, ``share``,
        and ``why`` it has that name.
    events_ : tuple of IdentityEvent
        What the last `refit` did to the segments before it; empty after `fit`.
    version_ : int
        1 after `fit`, and one more after every `refit`.
    encoding_ : core.tabular.columns.TableEncoding
        What becomes of every column, and of those left out, why.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Their names, if a frame was passed to `fit`.

    Examples
    --------
    >>> spend = [[20.0 + i % 7, i % 3] for i in range(60)]
    >>> spend += [[90.0 + i % 7, 8 + i % 3] for i in range(40)]
    >>> segmenter = StableSegmenter().fit(spend)
    >>> segmenter.verdict_.kind, segmenter.segments_["size"].to_list()
    ('natural', [60, 40])
    >>> segmenter.predict([[95.0, 9.0]]).tolist()
    [1]
    """

    def __init__(
        self,
        n_segments: int | None = None,
        *,
        max_segments: int = 10,
        categories: Sequence[str] = (),
        drop: Sequence[str] = (),
        seed: int = 42,
    ) -> None:
        self.n_segments = n_segments
        self.max_segments = max_segments
        self.categories = categories
        self.drop = drop
        self.seed = seed

    def fit(self, X: Any, y: None = None) -> Self:
        """Learn the segments from scratch; ids count from 0.

        Parameters
        ----------
        X : frame or array-like of shape (n_rows, n_columns)
            A pandas, Polars or Arrow table with numbers, text, true and false and
            missing values; or numbers, NaN where a value is missing.
        y : None
            Ignored.

        Raises
        ------
        ConfigError
            For an impossible parameter.
        SchemaError
            For dates, infinite numbers, or a table without a column to segment by.
        ModelError
            For an array that is no table of finite numbers.
        """
        options = self._options()
        table = self._table(X, is_fit=True)
        if table.height < 2:
            raise ModelError(
                f"`StableSegmenter` received n_samples = {table.height} row; expected "
                "at least 2 to divide."
            )
        encoding = self._learnt_encoding(table, X)
        axis = learn_segments(
            encoding, encoding.matrix(encoding.encode(table)), options
        )
        return self._learnt(encoding, axis, table, version=1)

    def refit(self, X: Any) -> Self:
        """Learn the segments anew; those that live on keep their ids and names.

        A segment lives on where most of its rows, as the model before places them, are
        in one new segment and are most of it (`core.segments.identity`). Ids that have
        gone are not given out again.

        Parameters
        ----------
        X : frame or array-like of shape (n_rows, n_columns)
            As for `fit`; its columns may be others, if the ones before are among them.

        Raises
        ------
        FeatureMismatchError
            If `X` lacks a column that the model before was learnt from.
        """
        check_is_fitted(self)
        options, before = self._options(), self._assigner
        table = self._table(X, is_fit=True)
        try:
            old = before.assign(table).labels
        except FeatureMismatchError:
            self._restore(before)
            raise
        encoding = self._learnt_encoding(table, X)
        encoded = encoding.matrix(encoding.encode(table))
        axis = learn_segments(encoding, encoded, options, before.axis, old)
        return self._learnt(encoding, axis, table, version=before.version + 1)

    def predict(self, X: Any) -> Labels:
        """Return the permanent ids of rows, new ones or those of `fit`.

        Parameters
        ----------
        X : frame or array-like of shape (n_rows, n_columns)

        Returns
        -------
        ndarray of shape (n_rows,), int64
            -1 where nothing is known of a row.
        """
        return self.assign(X).labels

    def assign(self, X: Any) -> Assignment:
        """Return ids, strengths, runners-up and distances of rows.

        Parameters
        ----------
        X : frame or array-like of shape (n_rows, n_columns)
        """
        check_is_fitted(self)
        return self._assigner.assign(self._table(X, is_fit=False))

    def transform(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the distances of rows to the segments' centres, by ascending id.

        Parameters
        ----------
        X : frame or array-like of shape (n_rows, n_columns)

        Returns
        -------
        ndarray of shape (n_rows, n_segments), float64
            Euclidean, columns on one scale; NaN where nothing is known of a row.
        """
        check_is_fitted(self)
        encoding, model = self.encoding_, self._assigner.axis.model
        table = encoding.matrix(encoding.encode(self._table(X, is_fit=False)))
        assert model is not None  # of every table that was learnt from
        clusters = [s.cluster for s in self._assigner.axis.segments if s.id >= 0]
        return model.distances(table)[:, clusters]

    def explain(self, X: Any, row: int = 0) -> Explanation:
        """Explain why a row is in its segment, and what would move it to another.

        Parameters
        ----------
        X : frame or array-like of shape (n_rows, n_columns)
            The row among those to compare it with, such as the table of `fit`.
        row : int
            Its place in `X`.
        """
        from core.tabular.explain import explain_row

        check_is_fitted(self)
        table = self._table(X, is_fit=False)
        if not 0 <= row < table.height:
            raise ConfigError(
                f"`row` is {row}; expected a place from 0 to {table.height - 1:,} in "
                "the table."
            )
        return explain_row(self._assigner, table, row, str(row))

    def to_dir(self, folder: str | Path) -> Path:
        """Save the model: arrays and JSON under a manifest of digests; no rows.

        Parameters
        ----------
        folder : path
            Made where it is not there; a model in it is kept as an earlier version.
        """
        from core.tabular.saved import save_model

        check_is_fitted(self)
        return save_model(self._assigner, Path(folder))

    @classmethod
    def from_dir(cls, folder: str | Path) -> Self:
        """Return the model that `to_dir` or the verb ``fit`` saved in a folder.

        It predicts, explains and refits as the original; of the training rows it has
        no `labels_`, `strengths_` and `runners_up_`.

        Raises
        ------
        ArtifactError
            If there is none, or a file has changed.
        """
        found = TableAssigner.load(folder)
        params = {name: found.options[name] for name in cls().get_params()}
        for name in ("categories", "drop"):
            params[name] = tuple(params[name])
        made = cls(**params)
        made._restore(found)
        return made

    @property
    def n_segments_(self) -> int:
        """Segments that were found."""
        return self.segments_.height

    @property
    def _n_features_out(self) -> int:
        return self.n_segments_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags

    def _options(self) -> FitOptions:
        """Return the options, checked."""
        least = {"n_segments": 1, "max_segments": 2, "seed": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            is_whole = isinstance(value, int | np.integer) and value is not True
            if name == "n_segments" and value is None:
                continue
            if not is_whole or not smallest <= value < 2**32:
                raise ConfigError(
                    f"`{name}` is {value!r}; expected a whole number of at least "
                    f"{smallest}."
                )
        for name in ("categories", "drop"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(
                    f"`{name}` is {getattr(self, name)!r}; expected a list of columns."
                )
        wanted = None if self.n_segments is None else int(self.n_segments)
        return FitOptions(wanted, int(self.max_segments), int(self.seed))

    def _learnt_encoding(self, table: pl.DataFrame, X: Any) -> TableEncoding:
        categories = [*self.categories, *_categorical_columns(X)]
        return TableEncoding.learn(table, categories=categories, drop=self.drop)

    def _table(self, X: Any, *, is_fit: bool) -> pl.DataFrame:
        """Return a frame in Polars; an array by names ``x0``, ``x1`` and so on."""
        try:
            frame = nw.from_native(X)
        except nw.exceptions.DuplicateError as error:
            message = " ".join(str(error).split())
            raise SchemaError(f"the table names a column twice: {message}.") from None
        except TypeError:
            matrix = checked_matrix(
                self, X, is_fit=is_fit, allow_nan=True, cure=_NO_FRAME
            )
            names = [f"x{place}" for place in range(matrix.shape[1])]
            return pl.DataFrame(matrix, schema=names)
        if isinstance(frame, nw.LazyFrame):
            raise ModelTypeError(
                f"`{type(X).__name__}` is a query that has not run yet; expected its "
                "rows. Collect them first: `.collect()` in Polars, `.pl()` in DuckDB."
            )
        try:
            validate_data(self, X, reset=is_fit, skip_check_array=True)
        except ValueError as error:
            known = ", ".join(map(repr, getattr(self, "feature_names_in_", ())))
            cure = f"Pass the columns of `fit`, in their order: {known}."
            raise ModelError(f"{str(error).rstrip()}\n{cure}") from None
        except TypeError as error:
            raise ModelTypeError(str(error)) from None
        if not len(frame):
            raise ModelError("the table has no rows; expected at least one.")
        return polars_table(frame)

    def _learnt(
        self,
        encoding: TableEncoding,
        axis: FittedAxis,
        table: pl.DataFrame,
        version: int,
    ) -> Self:
        """Keep what was learnt, and where it places the table."""
        today = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
        options = {**asdict(self._options()), "drop": list(self.drop)}
        options |= {"categories": list(self.categories)}
        options |= {"n_features_in": self.n_features_in_}
        if hasattr(self, "feature_names_in_"):
            options["feature_names_in"] = [str(n) for n in self.feature_names_in_]
        assigner = TableAssigner(
            model=AxesModel((axis,)),
            encoding=encoding,
            options=options,
            reference_date=today,
            version=version,
        )
        self._restore(assigner)
        found = assigner.assign(table)
        self.labels_, self.strengths_ = found.labels, found.strength
        self.runners_up_ = found.runner_up
        return self

    def _restore(self, assigner: TableAssigner) -> None:
        axis = assigner.axis
        self._assigner, self.encoding_ = assigner, assigner.encoding
        self.verdict_: Verdict = verdict_of(axis)
        self.stability_: dict[str, Any] | None = axis.report["refits"]
        self.events_: tuple[IdentityEvent, ...] = axis.events
        self.version_ = assigner.version
        names = assigner.options.get("feature_names_in")
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        self.n_features_in_ = int(assigner.options["n_features_in"])
        kept = [segment for segment in axis.segments if segment.id >= 0]
        self.segments_ = pl.DataFrame(
            {
                "segment_id": [s.id for s in kept],
                "segment": [s.name for s in kept],
                "size": [s.size for s in kept],
                "share": [s.share for s in kept],
                "why": [s.why for s in kept],
            }
        )


def _categorical_columns(X: Any) -> list[str]:
    """Return the columns of a categorical type, whatever its levels are."""
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    if not isinstance(frame, nw.DataFrame):
        return []
    kinds = (nw.Categorical, nw.Enum)
    return [str(name) for name, dtype in frame.schema.items() if dtype in kinds]
