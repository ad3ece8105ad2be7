"""Runs become tables, figures and one self-contained HTML page; no torch.

view.py      a run folder as the report sees it; constants that differ from the paper's
load.py      reads runs; what is damaged is left out and told
tables.py    scores for the terminal and the page        terminal.py   what commands print
figures.py   scores with intervals and learning curves, as inline SVG
pictures.py  cases with contours, as vectors over the image and as PNG files
facts.py     the head of the page          notes.py   what a reader should check
html.py      what every page has: head, policy, sections
page.py      write_report: all of it in one HTML file
"""
