"""python -m tests.broker.schemas [--replayed]"""

import sys

from tests.broker.schemas import main

main(sys.argv[1:])
