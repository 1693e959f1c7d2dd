"""Segments of any feature table: learnt, named, placed, written and kept.

`StableSegmenter` is the estimator for notebooks and pipelines; `run_fit` is what
``run.sh fit`` runs.
"""
