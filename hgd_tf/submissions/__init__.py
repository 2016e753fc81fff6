"""Submissions to the NIPS 2017 competition: packed, unpacked, and checked as the organizers check them."""
