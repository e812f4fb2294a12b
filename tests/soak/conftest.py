"""The soak is a program, run by `make soak`: pytest finds no tests here."""

collect_ignore_glob = ["*.py"]
