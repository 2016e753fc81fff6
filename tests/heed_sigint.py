"""A program for `python -c` that runs the rest of its arguments as a Python command which SIGINT interrupts.

Shells start background jobs with SIGINT ignored, and children inherit that: tests may run in such a job.
"""

HEED_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, sys.argv[1:])
"""
