"""Tables of any rows: found, read, matched to our columns, validated."""
