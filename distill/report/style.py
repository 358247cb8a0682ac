"""How pages look: light or dark as the reader has it, from a phone's width up."""

STYLE = """
:root { color-scheme: light dark;
  --fg: #1b2530; --muted: #55626f; --page: #f5f7f9; --card: #ffffff; --line: #dbe1e7;
  --accent: #1f5fa8; --cell: #1f5fa8; --wrong: #c2410c; --good: #15803d;
  --c0: #1f5fa8; --c1: #c2410c; --c2: #15803d; --c3: #7e22ce; --c4: #b3246b;
  --c5: #0e7490; --c6: #8a6100; --c7: #4b5563; --c8: #e11d48; --c9: #5b7f0c; }
@media (prefers-color-scheme: dark) { :root {
  --fg: #e4eaf0; --muted: #a3afbb; --page: #11161c; --card: #1a2129; --line: #2f3a45;
  --accent: #84b9f2; --cell: #3f86cf; --wrong: #e0662f; --good: #4ade80;
  --c0: #7cb4f0; --c1: #fb923c; --c2: #4ade80; --c3: #c59bf5; --c4: #f487b6;
  --c5: #4fd1e0; --c6: #e3b341; --c7: #a8b3bf; --c8: #fb7185; --c9: #a3d34a; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
html { scroll-padding-top: 1rem; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: var(--fg); background: var(--page);
  overflow-wrap: break-word; }
.frame { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 0 0 .75rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
main section, main > .lead { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; padding: 1rem 1.1rem; margin: 1rem 0; }
main > .lead { background: none; border: 0; padding: 0; }
.muted, small, figcaption small { color: var(--muted); }
nav.contents { display: none; }
@media (min-width: 80rem) {
  .frame.with-contents { max-width: 84rem; display: grid; grid-template-columns: 13rem 1fr;
    gap: 0 2rem; }
  .with-contents > header, .with-contents > footer { grid-column: 2; }
  .with-contents > main { grid-column: 2; min-width: 0; }
  nav.contents { display: block; grid-row: 1 / span 3; font-size: .875rem; }
  nav.contents ul { position: sticky; top: 1.5rem; list-style: none; margin: 0; padding: 0;
    max-height: calc(100vh - 3rem); overflow-y: auto; }
  nav.contents a { display: block; padding: .2rem 0; text-decoration: none; color: var(--muted); }
  nav.contents a:hover { color: var(--accent); text-decoration: underline; } }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr));
  gap: .75rem; margin: 0; padding: 0; list-style: none; }
.cards li { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: .75rem .9rem; }
.cards .what { color: var(--muted); font-size: .875rem; }
.cards .value { font-size: 1.7rem; font-weight: 600; line-height: 1.25;
  font-variant-numeric: tabular-nums; color: var(--accent); }
.cards .beside { font-size: .875rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { font-weight: 600; color: var(--muted); }
.scroll { overflow-x: auto; margin: .75rem 0; }
.wide { font-size: .9rem; }
.wide td, .wide th { white-space: nowrap; }
.wide th:first-child, .wide td:first-child { position: sticky; left: 0; background: var(--card); }
@media (max-width: 40rem) { .wide td:first-child { white-space: normal; min-width: 7rem; } }
pre { background: var(--page); border: 1px solid var(--line); border-radius: 6px; padding: .75rem;
  overflow-x: auto; font-size: .8rem; margin: .5rem 0; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--muted); width: fit-content; }
details details { margin-left: 0; }
.charts { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
figure { margin: .75rem 0; min-width: 0; }
figure img.drawing { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
figcaption { color: var(--muted); font-size: .9rem; }
.chart { max-width: 40rem; } .chart.broad { max-width: 60rem; }
.chart figcaption { color: var(--fg); font-weight: 600; }
figure details { margin: .25rem 0; font-size: .85rem; }
.chart figcaption small { display: block; font-weight: 400; }
.chart svg { display: block; width: 100%; height: auto; }
.plot { touch-action: pan-y; } .plot.several { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); }
.chart text { font: 11px system-ui, sans-serif; fill: var(--muted); }
.chart text.count { fill: var(--fg); }
.rule { stroke: var(--line); stroke-width: 1; }
.reference { stroke: var(--muted); stroke-dasharray: 4 4; }
.curve { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; }
.dot { fill: var(--c); fill-opacity: .75; }
.dots { fill: none; stroke-width: 6; stroke-linecap: round; stroke-opacity: .75; }
.bar { fill: var(--c0); }
.cell.right { fill: var(--cell); } .cell.wrong { fill: var(--wrong); }
.cell { stroke: var(--line); stroke-width: .5; }
.mark { fill: none; stroke: var(--fg); stroke-width: 1.5; pointer-events: none; }
.log-scale, svg.is-log .linear-scale { display: none; } svg.is-log .log-scale { display: inline; }
.readout { margin: .15rem 0 0; min-height: 1.4em; font-size: .85rem; max-width: none;
  font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; list-style: none; margin: .25rem 0;
  padding: 0; font-size: .85rem; }
.legend li { max-width: 18rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.key { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .35em; }
button { font: inherit; font-size: .8rem; color: var(--accent); background: none;
  border: 1px solid var(--line); border-radius: 6px; padding: .05rem .5rem; cursor: pointer; }
button[aria-pressed=true] { background: var(--accent); color: var(--card); }
.toggle { float: right; margin-left: .5rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
  gap: 1rem .75rem; list-style: none; margin: .75rem 0; padding: 0; font-size: .85rem; }
.pictures img { display: block; width: 96px; height: 96px; object-fit: contain;
  background: var(--page); border-radius: 6px; margin-bottom: .25rem; }
.pictures img.small { image-rendering: pixelated; }
.pictures .line { display: block; overflow: hidden; text-overflow: ellipsis;
  display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; }
.pictures .bad { color: var(--wrong); font-weight: 600; }
@media (prefers-color-scheme: light) { .pictures .bad { color: #a8380a; } }
@media (max-width: 26rem) { .pictures { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
progress { width: 100%; height: .8rem; accent-color: var(--accent); }
.status { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .25rem 0; }
.badge { display: inline-block; border-radius: 999px; padding: 0 .6rem; font-size: .85rem;
  border: 1px solid currentColor; color: var(--muted); }
.badge.running { color: var(--accent); } .badge.finished { color: var(--good); }
.badge.stopped { color: var(--wrong); }
footer { color: var(--muted); font-size: .85rem; margin-top: 2rem; }
@media print { body { background: none; } nav.contents, button { display: none; } }
"""
