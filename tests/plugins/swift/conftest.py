"""These tests run where ms-swift is installed: `make test-swift`. Elsewhere they are not collected."""

from importlib.metadata import PackageNotFoundError, version

try:
    version("ms-swift")
except PackageNotFoundError:
    collect_ignore_glob = ["*.py"]
