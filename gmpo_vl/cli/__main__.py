"""`python -m gmpo_vl.cli`, as `gmpo-vl`."""

import sys

from gmpo_vl.cli import main

sys.exit(main())
