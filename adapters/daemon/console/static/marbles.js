// Draws the timeline: lanes, spans and marbles on a canvas, in the page's colours.

import { shape } from "/moments.js";
import { clock, number, phase, t } from "/words.js";

const HEAD = 24;
const PAD = 14;
// An emoji may be several characters; older browsers have no segmenter.
const letters = Intl.Segmenter ? new Intl.Segmenter() : { segment: (text) => Array.from(text, (segment) => ({ segment })) };

/** Draws on `canvas`; `namesOf(job id)` are the names of its files. */
export function painter(canvas, namesOf) {
  const view = { colours: {}, font: "", hits: [] };

  function colours() {
    const style = getComputedStyle(canvas);
    for (const name of ["ink", "soft", "line", "surface", "accent", "wait", "check", "upload", "render", "download", "in", "out", "good", "bad", "warm", "off", "on-warm"]) {
      view.colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    view.font = style.fontFamily;
  }

  /** Draws the lanes of `lanesOf(from, to)` for the `span` seconds up to `to`, and returns them; `live`: the end is now. */
  function draw(lanesOf, to, span, live) {
    const wide = canvas.clientWidth;
    if (!wide) return null;
    const narrow = wide < 620;
    const left = narrow ? 4 : Math.round(Math.max(132, Math.min(240, wide * 0.25)));
    const high = narrow ? 40 : 32;
    const from = to - span;
    const at = (time) => left + ((time - from) / span) * (wide - left - PAD);
    const seen = lanesOf(from, to);
    const tall = HEAD + seen.lanes.length * high + (seen.hidden ? 26 : 8);
    size(wide, tall);
    const pen = canvas.getContext("2d");
    const scale = devicePixelRatio || 1;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, wide, tall);
    axis(pen, { at, from, to, left: narrow ? 26 : left, right: wide - PAD, tall, live });
    if (seen.hidden) {
      pen.font = `12px ${view.font}`;
      pen.textAlign = "left";
      pen.fillStyle = view.colours.soft;
      pen.fillText(t(seen.hidden === 1 ? "time.more.one" : "time.more", { count: number(seen.hidden) }), 4, tall - 8);
    }
    view.hits = [];
    seen.lanes.forEach((lane, row) => drawLane(pen, lane, HEAD + row * high, { at, left, right: wide - PAD, high, narrow, from, to }));
    return seen;
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

  function axis(pen, { at, from, to, left, right, tall, live }) {
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
      if (x > left && x < right - 64) {
        pen.fillStyle = view.colours.soft;
        pen.fillText(clock(time, step < 60), x, 13);
      }
    }
    pen.textAlign = "right";
    pen.fillStyle = live ? view.colours.accent : view.colours.soft;
    pen.fillText(live ? t("time.now") : clock(to, true), right + 8, 13);
    pen.strokeStyle = live ? view.colours.accent : view.colours.soft;
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
    pen.fillText(laneText(pen, laneNames(lane), narrow ? right : left - 16), 4, narrow ? top + 13 : middle + 4);
  }

  function laneNames(lane) {
    if (lane.kind === "job") return namesOf(lane.name);
    return [lane.kind === "power" && lane.name ? lane.name : t(`lane.${lane.kind}`)];
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
    pen.font = `600 10px ${view.font}`;
    const said = lane.kind === "power" ? phase(span.word) : "";
    if (said && pen.measureText(said).width <= wide - 10) {
      pen.textAlign = "left";
      const ground = colourOf(lane, span.word);
      pen.fillStyle = view.colours[ground === view.colours.off ? "ink" : ground === view.colours.warm ? "on-warm" : "surface"];
      pen.fillText(said, x + 6, y + 3.5);
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

  /** The mark at a point of the canvas, if any. */
  function under(x, y) {
    let best = null;
    for (const hit of view.hits) {
      const far = Math.hypot(hit.x - x, hit.y - y);
      if (far < 9 && (!best || far < best.far)) best = { ...hit, far };
    }
    return best;
  }

  colours();
  return { draw, under, colours };
}

const AND = " + ";

/** One or two names that fit: it drops extensions before it cuts, and shows both before one. */
export function laneText(pen, names, room) {
  const wide = (text) => pen.measureText(text).width;
  const whole = names.join(AND);
  if (names.length !== 2 || wide(whole) <= room) return fit(pen, whole, room);
  const stems = names.map((name) => name.replace(/\.[^.]{1,5}$/, ""));
  if (wide(stems.join(AND)) <= room) return stems.join(AND);
  const both = room - wide(AND);
  const [one, other] = stems.map(wide);
  const first = Math.max(both / 2, both - other);
  return [fit(pen, stems[0], first), fit(pen, stems[1], both - Math.min(first, one))].join(AND);
}

const fitted = new Map();

/** The part of a text that fits, computed once: the picture is drawn many times a second. */
function fit(pen, text, wide) {
  const key = `${pen.font} ${wide} ${text}`;
  if (fitted.size > 500) fitted.clear();
  if (!fitted.has(key)) fitted.set(key, cut(pen, text, wide));
  return fitted.get(key);
}

function cut(pen, text, wide) {
  if (pen.measureText(text).width <= wide) return text;
  const signs = Array.from(letters.segment(text), (each) => each.segment);
  while (signs.length > 1 && pen.measureText(`${signs.join("")}…`).width > wide) signs.pop();
  return `${signs.join("")}…`;
}
