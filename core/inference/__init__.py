"""One assigner for everyone: training rows, a new file, one shop in a request."""

from core.inference.model import PREDICTION_SCHEMA, Model, excluded_rows
from core.inference.predictions import (
    insights_of,
    score_training,
    segment_insights,
    write_batches,
    write_predictions,
)
from core.inference.segments import SEGMENT_STATE, SEGMENTS, SegmentAssigner
from core.inference.states import (
    CLUSTER_STATE,
    ENCODER_STATE,
    extension_states,
    feature_matrix,
    join_states,
    load_encoder,
    state_part,
)

__all__ = [
    "CLUSTER_STATE",
    "ENCODER_STATE",
    "PREDICTION_SCHEMA",
    "SEGMENTS",
    "SEGMENT_STATE",
    "Model",
    "SegmentAssigner",
    "excluded_rows",
    "extension_states",
    "feature_matrix",
    "insights_of",
    "join_states",
    "load_encoder",
    "score_training",
    "segment_insights",
    "state_part",
    "write_batches",
    "write_predictions",
]
