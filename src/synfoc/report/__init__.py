"""Runs become tables, figures and one self-contained HTML page; no torch."""
