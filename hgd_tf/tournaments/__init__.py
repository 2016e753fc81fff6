"""Tournaments between attacks and defences, as the NIPS 2017 competition held them: every pair, scores, reports."""
