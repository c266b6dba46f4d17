"""The single questions that a pass is made of, and the report of what came of them."""

from __future__ import annotations

import logging

logger = logging.getLogger("oscar_bitsby")
