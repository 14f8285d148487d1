"""Two commits built and measured side by side.

Each commit is checked out and installed into a folder of its own, which comes first on the path of
its processes. All other packages are those of the environment that runs the comparison. So both
sides share one torch and one BLAS, nothing is downloaded, and a ratio depends on the commits alone.
asv's own environments would install every dependency anew, which takes a minute and 1.3 GB instead
of five seconds per commit, and needs a network.

What a commit is asked for it does itself, in a worker that is given the names of functions, see
`script`.

Times are measured in turns. asv interleaves whole passes over a benchmark, so that more than a
minute lies between the times of one cell on the two commits, and a shared machine changes more in a
minute than the code did. Here two processes, one per commit, hold the same cell and take turns call
by call, so that each round is a pair of times from the same fraction of a second.

Each commit measures what its own `pudle run` would: its cases, its estimators, its plug-ins. Cells
are matched by name, so that a cell that one side lacks is noticed.
"""
