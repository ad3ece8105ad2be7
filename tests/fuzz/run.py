"""Feed mutated input of every kind to the real command line; see CONTRIBUTING.md.

    make fuzz N=10000 SEED=1           N drawn cases, and the fixed hostile ones
    python -m fuzz.run --only 17       case 17 of the seed alone (in tests/, with the venv's python)

Every case runs in a forked child of a process that has imported everything: no traceback, no hang
(60 s), no crash, below 2 GiB, no torn file, no input changed, nothing that runs, nothing written
outside of the out, status 0, 1, 2 or 130, and with status 2 what was found, expected, and a fix.
Exit status 1 where a case was bad.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fuzz.cases import Case, Verdict, fixed, numbered, run_case, sweep
from fuzz.judge import snapshot
from fuzz.known import KNOWN
from fuzz.stock import Stock, import_everything, make_stock, run_cells_here

LOOK_SECONDS = 10.0


def main(words: Sequence[str] | None = None) -> int:
    """Run the cases that the words choose; the exit status."""
    given = _parse(words)
    cases = _chosen(given)
    import_everything()
    run_cells_here()
    keep = given.keep
    root = Path(keep or tempfile.mkdtemp(prefix="synfoc-fuzz-"))
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    try:
        stock = make_stock(root / "stock")
        before = snapshot(stock.root)
        gc.collect()
        gc.freeze()  # else every child copies what the collector marks
        known = KNOWN if given.short else ()
        verdicts = _run(cases, stock, root, known, given.processes, keep=bool(keep))
        touched = before != snapshot(stock.root)
    finally:
        if not keep:
            sweep(root)
    if touched:
        print("bad: a case wrote into what all cases share (run them one at a time: --only)")
    return _tell(verdicts) or int(touched)


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=0, metavar="N", help="drawn cases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="K", help="case K alone")
    parser.add_argument("--kind", action="append", help="cases of this kind alone")
    parser.add_argument("--hostile", metavar="NAME", help="one fixed case; `all`: all of them")
    parser.add_argument("--short", action="store_true", help="as `make test`: few fixed cases")
    parser.add_argument("--keep", metavar="DIR", help="a new folder whose files stay to look at")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args(words)


def _chosen(given: argparse.Namespace) -> list[Case]:
    if given.only is not None:
        return [numbered(given.seed, given.only)]
    if given.hostile:
        return [case for case in fixed() if given.hostile in (case.name, "all")]
    drawn = [numbered(given.seed, number) for number in range(given.cases)]
    chosen = [*fixed(short=given.short), *drawn]
    return [case for case in chosen if not given.kind or case.kind in given.kind]


def _run(
    cases: Sequence[Case],
    stock: Stock,
    root: Path,
    known: Sequence[str],
    processes: int,
    *,
    keep: bool,
) -> list[Verdict]:
    work = partial(_one, stock=stock, root=root, keep=keep)
    verdicts: list[Verdict] = []
    start = last = time.monotonic()
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for found in pool.imap_unordered(work, cases):
            verdict = _without(found, known)
            verdicts.append(verdict)
            if verdict.faults:
                _tell_fault(verdict)
            now = time.monotonic()
            if now - last > LOOK_SECONDS:
                last = now
                left = (now - start) / len(verdicts) * (len(cases) - len(verdicts))
                bad = sum(bool(v.faults) for v in verdicts)
                print(f"{len(verdicts)}/{len(cases)}  bad {bad}  ETA {left:.0f} s", flush=True)
    return verdicts


def _one(case: Case, *, stock: Stock, root: Path, keep: bool) -> Verdict:
    """One case in a folder of its own, which is deleted unless it is to be looked at."""
    name = f"{case.kind}-{case.name}".replace(" ", "_").replace("/", "_")
    try:
        return run_case(case, stock, root / name)
    except Exception as error:  # a mistake of ours in one case must not end the others
        told = f"the harness failed: {type(error).__name__}: {error}"
        return Verdict(case, None, (told,), "", 0.0, 0)
    finally:
        if not keep:
            sweep(root / name)


def _without(verdict: Verdict, known: Sequence[str]) -> Verdict:
    """The verdict without the faults that are known."""
    left = [fault for fault in verdict.faults if not any(part in fault for part in known)]
    return replace(verdict, faults=tuple(left))


def _tell_fault(verdict: Verdict) -> None:
    print(f"bad: {verdict.case.kind} {verdict.case.name}: {'; '.join(verdict.faults)!a}")
    print(f"     {verdict.command!a}\n     {verdict.case.again}", flush=True)


def _tell(verdicts: Sequence[Verdict]) -> int:
    """Print counts per kind and status; 1 where a case was bad."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        counts[verdict.case.kind][str(verdict.status)] += 1
        counts[verdict.case.kind]["bad"] += bool(verdict.faults)
        counts[verdict.case.kind]["s"] += verdict.seconds
    columns = ["0", "1", "2", "130", "None", "bad"]
    print(f"{'kind':14}" + "".join(f"{name:>7}" for name in [*columns, "s/case", "cases"]))
    for kind, found in sorted(counts.items()):
        number = sum(found[name] for name in columns[:-1])
        shown = "".join(f"{found[name]:7}" for name in columns)
        print(f"{kind:14}{shown}{found['s'] / max(1, number):7.2f}{number:7}")
    bad = sum(bool(verdict.faults) for verdict in verdicts)
    largest = max((verdict.peak for verdict in verdicts), default=0) / 2**20
    slowest = max((verdict.seconds for verdict in verdicts), default=0)
    print(f"{len(verdicts)} cases, {bad} bad; at most {slowest:.1f} s and {largest:.0f} MiB")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
