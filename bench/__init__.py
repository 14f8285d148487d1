"""The benchmarks that asv runs, and the frozen list of cases they run over."""
