"""These are not this project's own tests: `make compatibility` runs them in an environment that has what they import."""

collect_ignore_glob = ["*"]
