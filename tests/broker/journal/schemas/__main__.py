"""python -m tests.broker.journal.schemas [--replayed]"""

import sys

from tests.broker.journal.schemas import main

main(sys.argv[1:])
