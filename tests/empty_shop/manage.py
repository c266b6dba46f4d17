"""Django's commands for the empty shop."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "configured")
execute_from_command_line(sys.argv)
