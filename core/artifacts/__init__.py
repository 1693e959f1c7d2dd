"""Sets of artifacts: files, manifest, arrays, tracking."""
