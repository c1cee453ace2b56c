"""What the benchmarks share: clusters, measuring, tools, checks, tables."""
