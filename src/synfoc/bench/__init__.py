"""Many runs compared: a suite of cells, each one run, and the tables made of them.

suite.py and folder.py say what there is to do and what is done, cell.py does one of it, workers.py
and slurm.py do all of it. What comes out:

    scores.py -> compare.py        cases -> means, intervals, differences      regret.py
    gather.py                      a suite in any state -> all that is shown   trust.py
    compose.py -> tables.py        its tables, as Markdown, LaTeX, CSV, HTML   published.py
    results.py                     write_results: tables/, results.json and, by page.py, report.html
"""
