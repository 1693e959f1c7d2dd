"""What a segmentation may be called, derived from figures by fixed thresholds.

``natural``
    Density structure beyond what data without structure shows, and at least two
    clusters that hold it. The segments are those clusters.
``reproducible``
    No such structure, but a partition that comes out the same again and again when
    everything is learnt anew on other shops. A useful map of a continuum, not groups
    that exist.
``constructive``
    Neither: a convenient cut. Simple rules do the same and are easier to explain.

A verdict is *provisional* as long as it rests on the quick check of a training run, and
*certified* once the whole pipeline has been refitted on nulls (see
`core.evaluation.certificate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from core.errors import ArtifactError, ModelError

VerdictKind = Literal["natural", "reproducible", "constructive"]

# Steinley (2004): an adjusted Rand index from 0.8 is good recovery, below 0.65 poor.
REPRODUCIBLE_ARI = 0.8
# Hennig (2007): a cluster whose Jaccard similarity is at most 0.5 has dissolved.
DISSOLVED_JACCARD = 0.5

MEANINGS: dict[VerdictKind, str] = {
    "natural": "the shops form groups of their own, denser than data without structure",
    "reproducible": "no groups of their own, but a partition that comes out the same "
    "again and again",
    "constructive": "no groups of their own, and no partition that comes out the same; "
    "a convenient cut, for which simple rules are recommended",
}


@dataclass(frozen=True)
class Verdict:
    """What the segments may be called, and what that rests on.

    Attributes
    ----------
    kind : {'natural', 'reproducible', 'constructive'}
        See the module.
    is_certified : bool
        Whether the whole pipeline was refitted on nulls; else it is provisional.
    basis : dict
        JSON-able figures that it was derived from, by name.
    """

    kind: VerdictKind
    is_certified: bool
    basis: dict[str, Any] = field(default_factory=dict)

    @property
    def meaning(self) -> str:
        """The kind in words."""
        return MEANINGS[self.kind]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "kind": self.kind,
            "is_certified": self.is_certified,
            "basis": dict(self.basis),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """Return the verdict that `as_dict` has described.

        Raises
        ------
        ArtifactError
            If a value is missing or is none that a verdict can have.
        """
        kind, is_certified = values.get("kind"), values.get("is_certified")
        basis = values.get("basis")
        is_sound = kind in get_args(VerdictKind) and isinstance(is_certified, bool)
        if not (is_sound and isinstance(basis, Mapping)):
            raise ArtifactError(
                f"the saved verdict is {dict(values)!r}; expected `kind` (one of "
                f"{', '.join(get_args(VerdictKind))}), `is_certified` and `basis`. Run "
                "the inference pipeline again."
            )
        return cls(kind, is_certified, dict(basis))  # type: ignore[arg-type]  # checked


def derive_verdict(
    *,
    is_structured: bool,
    n_clusters: int,
    partition_ari: float | None,
    cluster_jaccard: float | None = None,
    is_certified: bool,
    **figures: Any,
) -> Verdict:
    """Derive the kind of verdict from figures.

    Parameters
    ----------
    is_structured : bool
        Whether the structure score lies beyond the nulls', with the margin: of the
        quick check (`core.evaluation.null`) or of the certificate.
    n_clusters : int
        Clusters that the published model has found; with fewer than 2 there is nothing
        natural to publish.
    partition_ari : float or None
        Mean adjusted Rand index, over all shops, between the partition and refits of
        it on 80% of the shops; None where it was not measured, which counts as not
        reproducible.
    cluster_jaccard : float or None
        Mean over the clustered shops of their cluster's Jaccard similarity under
        refits of the whole pipeline; None where it was not measured, which demands
        nothing. At most 0.5, the clusters at hand have dissolved, whatever structure
        there is: they are not called natural.
    is_certified : bool
        Whether the figures are those of the certificate.
    **figures
        Further JSON-able figures to be kept in the basis.

    Raises
    ------
    ModelError
        For a figure outside its range.
    """
    for name, value in (("ari", partition_ari), ("jaccard", cluster_jaccard)):
        if value is not None and not -1 <= value <= 1:
            raise ModelError(f"the {name} is {value}; expected a number up to 1.")
    is_dissolved = cluster_jaccard is not None and cluster_jaccard <= DISSOLVED_JACCARD
    kind: VerdictKind = "constructive"
    if is_structured and n_clusters > 1 and not is_dissolved:
        kind = "natural"
    elif partition_ari is not None and partition_ari >= REPRODUCIBLE_ARI:
        kind = "reproducible"
    basis = {
        "is_structured": is_structured,
        "n_clusters": n_clusters,
        "cluster_jaccard": cluster_jaccard,
        "dissolved_jaccard": DISSOLVED_JACCARD,
        "partition_ari": partition_ari,
        "reproducible_ari": REPRODUCIBLE_ARI,
    }
    return Verdict(kind, is_certified, basis | figures)
