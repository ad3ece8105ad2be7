"""The head of the report: what was run, with what, and what differs from the paper."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from html import escape

from synfoc.answers import answer_title
from synfoc.report.notes import PROTOCOLS, RULES
from synfoc.report.view import RunView, changes, show


def facts(view: RunView) -> dict[str, str]:
    """Name -> text of everything a reader must know of one run; "" where it is not known."""
    config, summary, metrics = view.config, view.summary, view.metrics
    data, supervised = config.data, not config.method.about.unlabeled
    batch = f"{config.method.batch}" + ("" if supervised else f" + {config.method.batch}")
    steps = summary.get("steps", config.train.steps)
    step = metrics.get("step") or summary.get("best_step")
    protocol = metrics.get("protocol")
    return {
        "Data": data.path.name + (f" ({data.set})" if data.set else ""),
        "Classes": ", ".join(metrics.get("classes") or data.classes or ()),
        "Labeled images": _images(view, "labeled"),
        "Unlabeled images": "not used" if supervised else _images(view, "unlabeled"),
        "Test images": _images(view, "test"),
        "Networks": _networks(view),
        "Training": f"{show(steps)} steps, batch {batch}, seed {config.train.seed}",
        "Machine": _machine(view),
        "Time": _time(view),
        "Peak memory": f"{summary['peak_memory_gib']:.1f} GiB"
        if summary.get("peak_memory_gib")
        else "",
        "Checkpoint": (f"step {show(step)}; " if step is not None else "")
        + f"rule {view.rule}: {RULES.get(view.rule, '')}".removesuffix(": "),
        "Protocol": f"{protocol}: {PROTOCOLS.get(protocol, '')}" if protocol else "",
        "Recommended branch": _recommended(view),
    }


def facts_html(views: Sequence[RunView]) -> str:
    """Return the facts as a table, one column per run; a fact that all runs share stands once."""
    columns = [facts(view) for view in views]
    rows = []
    for name in columns[0]:
        texts = [column[name] for column in columns]
        if not any(texts):
            continue
        if len(set(texts)) == 1:
            cells = f'<td colspan="{len(texts)}">{escape(texts[0])}</td>'
        else:
            cells = "".join(f"<td>{escape(text) or '–'}</td>" for text in texts)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>\n')
    head = ""
    if len(views) > 1:
        width = f"{80 // len(views)}%"
        names = "".join(
            f'<th scope="col" style="width: {width}">{escape(view.name)}</th>' for view in views
        )
        head = f"<thead><tr><td></td>{names}</tr></thead>\n"
    return (
        f'<div class="wide"><table class="facts">{head}<tbody>{"".join(rows)}</tbody></table></div>'
    )


def changes_html(views: Sequence[RunView]) -> str:
    """Return the constants that are not the paper's, run by run; said on page 1, as promised."""
    parts = []
    for view in views:
        found = changes(view.config)
        who = f"{escape(view.name)}: " if len(views) > 1 else ""
        if not found:
            parts.append(f'<p class="note">{who}all constants are the paper’s.</p>')
            continue
        listed = "".join(
            f"<li><code>{escape(c.key)}</code> {escape(c.value)} "
            f'<span class="paper">(paper: {escape(c.paper)})</span></li>'
            for c in found
        )
        parts.append(
            f'<p class="note">{who}constants that differ from the paper’s</p>'
            f'<ul class="changes">{listed}</ul>'
        )
    return "".join(parts)


def repeat_html(view: RunView) -> str:
    """Command, config and environment that repeat the run, folded."""
    name = shlex.quote(view.folder.path.name)
    command = f"synfoc train {name}/config.yaml --out {name}-again"
    environment = json.dumps(view.environment, indent=1, ensure_ascii=False)
    first = f"<h3>{escape(view.name)}</h3>\n<pre>{escape(command)}</pre>\n"
    for title, text in (("Config", view.config.to_yaml()), ("Environment", environment)):
        fold = f"<summary>{title}</summary>\n<pre>{escape(text)}</pre>"
        first += f'<details class="raw">{fold}</details>\n'
    return first


def duration(seconds: float) -> str:
    """For example `45 s`, `4 min 10 s`, `11 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _images(view: RunView, part: str) -> str:
    labeled, images = view.config.data.labeled, view.images(part)
    if not images:
        if part != "labeled" or not (labeled.domain or labeled.count):
            return ""
        return f"{labeled.count or 'all'} from {labeled.domain or 'any domain'}"
    total, domains = sum(images.values()), {d: n for d, n in images.items() if d}
    if len(images) == 1:
        return " from ".join([show(total), *(d for d in domains if view.standing(d))])
    listed = ", ".join(f"{domain} {show(n)}" for domain, n in domains.items())
    return f"{show(total)} ({listed})"


def _networks(view: RunView) -> str:
    config, parts = view.config, []
    if config.method.branches != "medsam":
        parts.append(config.unet.title)
    if config.method.branches != "unet":
        m = config.medsam
        parts.append(f"foundation model {m.weights} at {m.side} px, LoRA rank {m.rank}")
    if config.method.has_guide:
        m = config.medsam
        parts.append(f"guided by foundation model {m.weights} at {m.side} px, asked with boxes")
    return "; ".join(parts)


def _machine(view: RunView) -> str:
    summary, environment = view.summary, view.environment
    device = summary.get("device") or environment.get("device")
    cpus = f"{environment['cpus']} CPUs" if environment.get("cpus") else ""
    torch = environment.get("versions", {}).get("torch")
    parts = (device, summary.get("precision"), cpus, f"torch {torch}" if torch else "")
    return ", ".join(str(part) for part in parts if part)


def _time(view: RunView) -> str:
    seconds, each = view.summary.get("seconds"), view.summary.get("seconds_per_step")
    parts = [duration(seconds)] if seconds is not None else []
    return ", ".join(parts + ([f"{each:.2f} s per step"] if each is not None else []))


def _recommended(view: RunView) -> str:
    if view.recommended is None:
        return ""
    name = answer_title(view.recommended)
    why = view.summary.get("why")
    return f"{name}: {why}" if why else name
