"""Benchmarks: each prints a table, compares with a peer in the same run, and writes a CSV."""
