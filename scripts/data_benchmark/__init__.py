"""Parts of scripts/benchmark_data.py."""
