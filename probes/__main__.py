"""`python -m probes` is `probes`."""

import sys

from probes.cli.main import main

sys.exit(main())
