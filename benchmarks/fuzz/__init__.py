"""A fuzzer of everything that people bring along."""
