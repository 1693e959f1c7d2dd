"""Judging a model that stands: what a training run itself takes no time for."""

from core.assess.certificate import Effort, certify
from core.assess.stability import measure_stability

__all__ = ["Effort", "certify", "measure_stability"]
