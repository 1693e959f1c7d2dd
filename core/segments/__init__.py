"""Published segments: ids, versions, names, movement, contract, profiles."""
