"""Not this project's own tests: `make compatibility` runs them where what they import is installed."""

collect_ignore_glob = ["*"]
