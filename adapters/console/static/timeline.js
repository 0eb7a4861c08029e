// The live marble timeline: it moves with the time, can be held, moved and zoomed, and is saved as a log for replay.

import { by, h, icon, put, say, show } from "/dom.js";
import { Moments, shape } from "/moments.js";
import { bearer } from "/session.js";
import { clock, duration, number, t } from "/words.js";

const SPANS = [10, 20, 45, 90, 180, 600, 1800, 7200, 28800];
const HEAD = 24;
const JOBS = 8;
const LISTED = 40;

/** `nameOf(job id)` is what its user calls it; `toast(text, bad)` tells the user. */
export function timeline({ nameOf, toast }) {
  const moments = new Moments();
  const canvas = by("time-canvas");
  const view = { span: 3, end: null, seen: true, hits: [], colours: {}, drawn: 0 };
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const now = () => Date.now() / 1000;
  const end = () => view.end ?? now();

  function colours() {
    const style = getComputedStyle(canvas);
    for (const name of ["ink", "soft", "line", "surface", "accent", "wait", "check", "upload", "render", "download", "in", "out", "good", "bad", "warm", "off", "on-warm"]) {
      view.colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    view.font = style.fontFamily;
  }

  function draw() {
    const wide = canvas.clientWidth;
    if (!wide) return;
    const narrow = wide < 620;
    const left = narrow ? 0 : 132;
    const high = narrow ? 40 : 32;
    const span = SPANS[view.span];
    const to = end();
    const from = to - span;
    const pad = 14;
    const at = (time) => left + ((time - from) / span) * (wide - left - pad);
    const seen = moments.lanes(from, to, JOBS, to);
    const tall = HEAD + seen.lanes.length * high + 8;
    size(wide, tall);
    const pen = canvas.getContext("2d");
    const scale = devicePixelRatio || 1;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, wide, tall);
    axis(pen, at, from, to, wide - pad, tall);
    view.hits = [];
    seen.lanes.forEach((lane, row) => drawLane(pen, lane, HEAD + row * high, { at, left, right: wide - pad, high, narrow, from, to }));
    label(seen, span);
    view.drawn = performance.now();
  }

  function size(wide, tall) {
    const scale = devicePixelRatio || 1;
    const [w, high] = [Math.round(wide * scale), Math.round(tall * scale)];
    if (canvas.width !== w || canvas.height !== high) {
      canvas.width = w;
      canvas.height = high;
      canvas.style.height = `${tall}px`;
    }
  }

  function axis(pen, at, from, to, right, tall) {
    const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
    const step = steps.find((one) => (to - from) / one <= Math.max(3, right / 110)) || 14400;
    pen.font = `11px ${view.font}`;
    pen.textAlign = "center";
    pen.lineWidth = 1;
    for (let time = Math.ceil(from / step) * step; time < to; time += step) {
      const x = Math.round(at(time)) + 0.5;
      pen.strokeStyle = view.colours.line;
      pen.beginPath();
      pen.moveTo(x, HEAD - 2);
      pen.lineTo(x, tall - 6);
      pen.stroke();
      if (x > 26 && x < right - 44) {
        pen.fillStyle = view.colours.soft;
        pen.fillText(clock(time, step < 60), x, 13);
      }
    }
    pen.textAlign = "right";
    pen.fillStyle = view.end === null ? view.colours.accent : view.colours.soft;
    pen.fillText(view.end === null ? t("time.now") : clock(to, true), right + 8, 13);
    pen.strokeStyle = view.end === null ? view.colours.accent : view.colours.soft;
    pen.beginPath();
    pen.moveTo(right, HEAD - 4);
    pen.lineTo(right, tall - 6);
    pen.stroke();
  }

  function drawLane(pen, lane, top, frame) {
    const { at, left, right, high, narrow, from, to } = frame;
    const middle = narrow ? top + high - 12 : top + high / 2;
    pen.strokeStyle = view.colours.line;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(left, middle);
    pen.lineTo(right, middle);
    pen.stroke();
    pen.save();
    pen.beginPath();
    pen.rect(left, top, right - left + 9, high);
    pen.clip();
    for (const span of lane.spans) drawSpan(pen, lane, span, middle, frame);
    for (const mark of lane.marks) {
      if (mark.at < from || mark.at > to) continue;
      glyph(pen, shape(mark), at(mark.at), middle);
      view.hits.push({ x: at(mark.at), y: middle, mark });
    }
    pen.restore();
    pen.font = `${lane.kind === "job" ? "" : "500 "}12px ${view.font}`;
    pen.textAlign = "left";
    pen.fillStyle = lane.kind === "job" ? view.colours.ink : view.colours.soft;
    const text = laneName(lane);
    pen.fillText(cut(pen, text, narrow ? right : left - 16), 4, narrow ? top + 13 : middle + 4);
  }

  function laneName(lane) {
    if (lane.kind === "job") return nameOf(lane.name);
    return lane.kind === "power" && lane.name ? lane.name : t(`lane.${lane.kind}`);
  }

  function drawSpan(pen, lane, span, y, { at, left, right, from, to }) {
    if (span.to < from || span.from > to) return;
    const x = Math.max(left, at(span.from));
    const wide = Math.max(1.5, Math.min(right, at(span.to)) - x);
    const tall = lane.kind === "job" ? 14 : lane.kind === "power" ? 14 : 4;
    pen.fillStyle = colourOf(lane, span.word);
    pen.beginPath();
    pen.roundRect(x, y - tall / 2, wide, tall, Math.min(3, wide / 2));
    pen.fill();
    if (lane.kind === "power" && wide > 44) {
      pen.font = `600 10px ${view.font}`;
      pen.textAlign = "left";
      const ground = colourOf(lane, span.word);
      pen.fillStyle = view.colours[ground === view.colours.off ? "ink" : ground === view.colours.warm ? "on-warm" : "surface"];
      pen.fillText(cut(pen, t(`phase.${span.word}`), wide - 10), x + 6, y + 3.5);
    }
  }

  function colourOf(lane, word) {
    const c = view.colours;
    if (lane.kind === "link") return word === "up" ? c.good : c.bad;
    if (lane.kind === "power") return { online: c.good, booted: c.warm, starting: c.warm, no_capacity: c.bad, failed: c.bad, lost: c.bad }[word] || c.off;
    return c[word] || c.wait;
  }

  function glyph(pen, kind, x, y) {
    const c = view.colours;
    pen.lineWidth = 1.6;
    pen.strokeStyle = c.surface;
    pen.fillStyle = { in: c.in, out: c.surface, event: c.ink, retry: c.warm, done: c.good, failed: c.bad, fault: c.bad, cancelled: c.soft }[kind] || c.soft;
    const big = ["done", "failed", "cancelled", "retry"].includes(kind);
    pen.beginPath();
    if (kind === "fault") {
      pen.moveTo(x, y - 6);
      pen.lineTo(x + 6, y + 5);
      pen.lineTo(x - 6, y + 5);
      pen.closePath();
    } else if (kind === "failed") pen.roundRect(x - 6.5, y - 6.5, 13, 13, 3);
    else pen.arc(x, y, big ? 7 : kind === "event" ? 3.6 : 4.6, 0, 7);
    if (kind === "out") {
      pen.fill();
      pen.strokeStyle = c.out;
      pen.lineWidth = 2.2;
      pen.stroke();
      return;
    }
    pen.stroke();
    pen.fill();
    const inks = { done: [[-3, 0.2], [-0.9, 2.4], [3.2, -2.2]], failed: [[-2.6, -2.6], [2.6, 2.6], null, [2.6, -2.6], [-2.6, 2.6]], cancelled: [[-3.2, 0], [3.2, 0]], retry: [[-3, -1], [0, 2.4], [3, -1]] }[kind];
    if (!inks) return;
    pen.beginPath();
    let begin = true;
    for (const point of inks) {
      if (point === null) begin = true;
      else {
        pen[begin ? "moveTo" : "lineTo"](x + point[0], y + point[1]);
        begin = false;
      }
    }
    pen.lineCap = "round";
    pen.strokeStyle = c.surface;
    pen.stroke();
  }

  function label(seen, span) {
    const text = t("time.label", { span: duration(span), messages: number(seen.messages), jobs: number(seen.jobs) });
    if (performance.now() - (view.told || -1e9) > 2000) {
      put(canvas, "aria-label", text);
      view.told = performance.now();
    }
  }

  // Holding, moving, zooming

  function hold(held) {
    view.end = held ? (view.end ?? now()) : null;
    put(by("time-pause"), "aria-pressed", String(held));
    by("time-pause").replaceChildren(icon(held ? "now" : "pause"), h("span", { text: t(held ? "time.go" : "time.pause") }));
    draw();
  }

  function zoom(by_) {
    view.span = Math.min(SPANS.length - 1, Math.max(0, view.span + by_));
    by("time-in").disabled = view.span === 0;
    by("time-out").disabled = view.span === SPANS.length - 1;
    view.told = 0;
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
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    for (const hit of view.hits) {
      const far = Math.hypot(hit.x - x, hit.y - y);
      if (far < 9 && (!best || far < best.far)) best = { ...hit, far };
    }
    const tip = by("time-tip");
    show(tip, Boolean(best));
    if (!best) return;
    tip.replaceChildren(h("strong", { text: best.mark.label }), h("span", { text: clock(best.mark.at, true) }), h("code", { text: best.mark.text }));
    tip.style.left = `${Math.min(Math.max(0, best.x - 20), Math.max(0, box.width - 300))}px`;
    tip.style.top = `${best.y + 14}px`;
  }

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

  // Words for what the picture shows

  for (const kind of ["wait", "check", "upload", "render", "download"]) {
    by("time-legend").append(h("li", {}, h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), h("span", { text: t(`span.${kind}`) })));
  }
  for (const kind of ["in", "out", "event"]) {
    by("time-legend").append(h("li", {}, h("span", { class: `marble ${kind}`, "aria-hidden": "true" }), h("span", { text: t(`mark.${kind}`) })));
  }
  by("time-list").addEventListener("toggle", list);

  function list() {
    if (!by("time-list").open) return;
    const rows = moments.rows.slice(-LISTED).reverse();
    by("time-rows").replaceChildren(...rows.map((row) => h("li", {}, h("time", { text: clock(row.at, true) }), h("span", { class: "dir", text: row.dir }), h("span", { text: row.label }), h("bdi", { class: "of", text: row.job ? nameOf(row.job) : "" }))));
  }

  // Time goes on

  function tick() {
    const every = still.matches ? 1000 : Math.max(33, (SPANS[view.span] / Math.max(1, canvas.clientWidth)) * 500);
    if (view.end === null && view.seen && !document.hidden && performance.now() - view.drawn >= every) draw();
    requestAnimationFrame(tick);
  }
  new IntersectionObserver((found) => { view.seen = found.at(-1).isIntersecting; }).observe(canvas);
  new ResizeObserver(draw).observe(by("time-box"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours(); draw(); });
  colours();
  hold(false);
  zoom(0);
  requestAnimationFrame(tick);

  return {
    add(boot, epoch, rows) {
      moments.add(boot, epoch, rows);
      list();
      if (view.end === null) draw();
    },
    more(rows) {
      this.add(moments.boot, moments.epoch, rows);
    },
    last: () => moments.last,
  };
}

function cut(pen, text, wide) {
  if (pen.measureText(text).width <= wide) return text;
  let short = text;
  while (short.length > 1 && pen.measureText(`${short}…`).width > wide) short = short.slice(0, -1);
  return `${short}…`;
}
