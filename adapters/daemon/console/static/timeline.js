// The live marble timeline in a panel that opens. It can be paused, moved, zoomed, limited to some jobs, and saved as a log.

import { by, h, icon, put, say, show } from "/dom.js";
import { painter } from "/marbles.js";
import { Moments } from "/moments.js";
import { bearer } from "/session.js";
import { clock, duration, number, t } from "/words.js";

const SPANS = [10, 20, 45, 90, 180, 600, 1800, 7200, 28800];
const JOBS = 10;
const LISTED = 40;
const OPEN = "wakestream.timeline";

/** `namesOf(job id)` are the names of its files, `nameOf` joins them; `toast(text, bad)` shows a message. */
export function timeline({ namesOf, nameOf, toast }) {
  const moments = new Moments();
  const canvas = by("time-canvas");
  const paint = painter(canvas, namesOf);
  const view = { span: innerWidth < 700 ? 2 : 3, end: null, seen: true, drawn: 0, told: -1e9, wide: 1000 };
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const now = () => Date.now() / 1000;
  const end = () => view.end ?? now();

  const panel = by("time");
  const filter = by("time-filter");

  /** Whether a row or a lane of this job is shown: all words of the filter are in its names or its id. */
  function fits(id) {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = words.length && id ? [id, ...namesOf(id)].join(" ").toLowerCase() : "";
    return words.every((word) => text.includes(word));
  }

  function draw() {
    if (!panel.open) return;
    const to = end();
    const span = SPANS[view.span];
    const seen = paint.draw((from) => moments.lanes(from, to, JOBS, to, fits), to, span, view.end === null);
    view.drawn = performance.now();
    if (!seen || view.drawn - view.told < 2000) return;
    view.told = view.drawn;
    put(canvas, "aria-label", t("time.label", { span: duration(span), messages: number(seen.messages), jobs: number(seen.jobs) }));
  }

  // Pause, move, zoom

  function hold(held) {
    view.end = held ? (view.end ?? Math.max(now(), moments.rows.at(-1)?.at ?? 0)) : null;
    put(by("time-pause"), "aria-pressed", String(held));
    by("time-pause").replaceChildren(icon(held ? "now" : "pause"), h("span", { text: t(held ? "time.go" : "time.pause") }));
    draw();
    list();
    run();
  }

  function zoom(steps) {
    view.span = Math.min(SPANS.length - 1, Math.max(0, view.span + steps));
    by("time-in").disabled = view.span === 0;
    by("time-out").disabled = view.span === SPANS.length - 1;
    view.told = -1e9;
    draw();
  }

  function move(seconds) {
    if (view.end === null) hold(true);
    view.end = Math.min(now(), view.end + seconds);
    draw();
  }

  canvas.addEventListener("keydown", (event) => {
    const step = SPANS[view.span] / 8;
    const keys = {
      ArrowLeft: () => move(-step), ArrowRight: () => move(step), "+": () => zoom(-1), "=": () => zoom(-1), "-": () => zoom(1),
      " ": () => hold(view.end === null), End: () => hold(false), Home: () => moments.rows.length && move(moments.rows[0].at + SPANS[view.span] - end()),
    };
    if (keys[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, end: end() };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag && Math.abs(event.clientX - drag.x) > 3) {
      if (view.end === null) hold(true);
      view.end = Math.min(now(), drag.end - ((event.clientX - drag.x) / canvas.clientWidth) * SPANS[view.span]);
      draw();
    }
    point(event);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { drag = null; });
  canvas.addEventListener("pointerleave", () => show(by("time-tip"), false));

  function point(event) {
    const box = canvas.getBoundingClientRect();
    const best = paint.under(event.clientX - box.left, event.clientY - box.top);
    const tip = by("time-tip");
    show(tip, Boolean(best));
    if (!best) return;
    tip.replaceChildren(h("strong", { text: best.mark.label }), h("span", { text: clock(best.mark.at, true) }), h("code", { text: best.mark.text }));
    tip.style.left = `${Math.min(Math.max(0, best.x - 20), Math.max(0, box.width - 300))}px`;
    tip.style.top = `${best.y + 14}px`;
  }

  let pinched = 0;
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // leave scrolling to the page; browsers report a pinch with ctrl
    event.preventDefault();
    pinched += event.deltaY;
    if (Math.abs(pinched) < 40) return;
    zoom(Math.sign(pinched));
    pinched = 0;
  }, { passive: false });
  by("time-pause").addEventListener("click", () => hold(view.end === null));
  by("time-in").append(icon("plus"));
  by("time-out").append(icon("minus"));
  by("time-in").addEventListener("click", () => zoom(-1));
  by("time-out").addEventListener("click", () => zoom(1));
  by("time-save").append(icon("down"), h("span", { text: t("time.save") }));
  by("time-save").addEventListener("click", async () => {
    try {
      const response = await fetch("/console/log", { headers: bearer(), cache: "no-store", credentials: "omit" });
      if (!response.ok) throw new Error(String(response.status));
      const url = URL.createObjectURL(await response.blob());
      const stamp = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
      h("a", { href: url, download: `daemon-${stamp}.jsonl` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
      toast(t("toast.saved"));
    } catch {
      toast(t("toast.offline"), true);
    }
  });

  // The picture as text

  for (const kind of ["wait", "check", "upload", "render", "download"]) {
    by("time-legend").append(h("li", {}, h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), h("span", { text: t(`span.${kind}`) })));
  }
  for (const kind of ["in", "out", "event", "fault"]) {
    by("time-legend").append(h("li", {}, h("span", { class: `marble ${kind}`, "aria-hidden": "true" }), h("span", { text: t(`mark.${kind}`) })));
  }
  by("time-list").addEventListener("toggle", list);

  function list() {
    if (!by("time-list").open || !panel.open) return;
    by("time-rows").replaceChildren(...moments.latest(LISTED, view.end ?? Infinity, fits).map((row) => h("li", {}, h("time", { text: clock(row.at, true) }), h("span", { class: "dir", text: row.dir }), h("span", { text: row.label }), h("bdi", { class: "of", text: row.job ? nameOf(row.job) : "" }))));
  }

  // Updates over time

  let ticking = 0;

  /** Draws again and again while there is something to see. */
  function run() {
    ticking ||= requestAnimationFrame(tick);
  }

  function tick() {
    ticking = 0;
    if (!panel.open || view.end !== null || !view.seen) return;
    const every = still.matches ? 1000 : Math.max(33, (SPANS[view.span] / view.wide) * 500);
    if (performance.now() - view.drawn >= every) draw();
    run();
  }
  new IntersectionObserver((found) => { view.seen = found.at(-1).isIntersecting; run(); }).observe(canvas);
  new ResizeObserver(() => { view.wide = Math.max(1, canvas.clientWidth); draw(); }).observe(by("time-box"));
  const recolour = () => { paint.colours(); draw(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  addEventListener("theme", recolour);
  panel.open = localStorage.getItem(OPEN) === "open";
  panel.addEventListener("toggle", () => {
    localStorage.setItem(OPEN, panel.open ? "open" : "closed");
    draw();
    list();
    run();
  });
  filter.addEventListener("input", () => {
    view.told = -1e9;
    draw();
    list();
  });
  hold(false);
  zoom(0);

  function add(boot, epoch, rows) {
    moments.add(boot, epoch, rows);
    list();
    if (view.end === null) draw();
  }

  return {
    add(boot, epoch, rows) {
      view.told = -1e9; // these are many: the label must not stay as it was
      add(boot, epoch, rows);
    },
    /** The phases of the GPUs from the hub's status. */
    power(hub) {
      for (const gpu of hub.gpus || []) if (gpu.since) moments.told(gpu.gpu, gpu.phase, gpu.since);
    },
    more: (rows) => add(moments.boot, moments.epoch, rows),
    last: () => moments.last,
  };
}
