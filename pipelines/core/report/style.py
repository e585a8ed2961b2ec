"""The style sheet of every page: light and dark by the reader's setting, legible from 400 pixels up."""

from __future__ import annotations

from pipelines.core.report.theme import css_variables

_RULES = """
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; color: var(--ink); background: var(--page);
  max-width: 78rem; margin: 0 auto; padding: 1.2rem 1rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; } h4 { font-size: .88rem; margin: 0; font-weight: 600; }
p, li, dd { max-width: 76ch; } p { margin: .4rem 0; } small, .soft { color: var(--soft); font-weight: 400; }
.lead { font-size: 1.05rem; max-width: 90ch; } code { font-size: .92em; }
.facts { display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; margin: .6rem 0 1rem; font-size: .9rem; }
.facts div { max-width: 100%; } .facts dt { display: inline; color: var(--soft); }
.facts dd { display: inline; margin: 0; }
.facts dt::after { content: ": "; }
.scroll { overflow-x: auto; max-width: 100%; } .scroll:focus-visible { outline: 2px solid var(--mark); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; min-width: 100%; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 400; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--page); z-index: 1; }
td.words, th.words { text-align: left; } td.wide { white-space: normal; min-width: 14rem; }
td small, th small { display: block; } tbody th:first-child small { white-space: nowrap; }
.own, tr.own > td, tr.own > th { color: var(--s0); font-weight: 600; } .own small { font-weight: 400; }
u { text-decoration-thickness: 2px; text-underline-offset: 3px; }
tr.next > * { border-bottom-style: dotted; }
.ahead { color: var(--ahead); font-weight: 600; } .behind { color: var(--behind); font-weight: 600; }
.unclear, .unknown { color: var(--soft); }
figure { margin: 1.6rem 0; } figcaption { margin-bottom: .4rem; } figcaption strong { display: block; }
figcaption span { color: var(--soft); font-size: .9rem; display: block; max-width: 90ch; }
.panels { display: grid; gap: 1rem 1.4rem; align-items: end;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--w)), 1fr)); }
.panel { min-width: 0; }
.plot { display: block; width: 100%; height: auto; } .plot * { stroke-linejoin: round; stroke-linecap: butt; }
.plot text { white-space: pre; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; padding: 0; margin: .2rem 0 .7rem; list-style: none;
  font-size: .88rem; } .legend li { display: flex; align-items: center; gap: .4rem; } .key { flex: none; }
.lines { list-style: none; margin: .2rem 0 .8rem; padding: 0; } .lines li { max-width: none; }
details { margin: .4rem 0; } summary { cursor: pointer; padding: .25rem 0; }
.notice { border-left: 4px solid var(--behind); background: var(--panel); padding: .5rem .9rem; }
dl.glossary dt { font-weight: 600; margin-top: .5rem; } dl.glossary dd { margin: 0; color: var(--soft); }
@media (min-width: 900px) { .verdict td small { display: inline; margin-left: .6em; } }
@media (max-width: 640px) { body { font-size: 15px; } h1 { font-size: 1.3rem; } th, td { padding: .3rem .4rem; }
  .verdict tbody th { white-space: normal; min-width: 6rem; } .many { gap: .6rem; --w: 150px !important; } }
@media print { details > * { display: block; } .scroll { overflow: visible; } }
"""

STYLE = (
    f":root {{ color-scheme: light dark; {css_variables('light')} }}\n"
    f"@media (prefers-color-scheme: dark) {{ :root {{ {css_variables('dark')} }} }}{_RULES}"
)
