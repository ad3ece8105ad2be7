"""Many runs compared: a suite of cells, each one run, and the tables made of them.

suite.py and folder.py say what there is to do and what is done, cell.py does one of it, workers.py
and slurm.py do all of it, scores.py to page.py make tables of it.
"""
