"""`python -m gmpo_vl`, as `gmpo-vl`."""

import sys

from gmpo_vl.cli import main

sys.exit(main())
