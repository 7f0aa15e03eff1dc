"""``python -m medley_producer`` is ``medley``."""

import sys

from medley_producer.cli import main

sys.exit(main())
