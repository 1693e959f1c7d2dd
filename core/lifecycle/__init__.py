"""The life of a store's segments on axes: a run, names that stay, going back.

A run reads, learns or assigns, compares with the run before, publishes, and loads the
store; the order is here, for every system that segments customers on axes, and what is
read, learnt and told is the system's.

Everything is written aside and published in one step, so a run that is killed has not
happened. What was published before is gone on from: ids and names of segments live on,
and who moved is written down. The store is loaded last, from the published files, in
one transaction of its own; where that fails, the next run tries again.
"""
