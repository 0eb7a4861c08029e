// Small pictures of files, which the daemon makes. They are asked for when they stay in view, two at a time.

import { h, icon } from "/dom.js";
import { call } from "/session.js";

const KEPT = 200;
const AT_ONCE = 2;
const STAYS = 250;
const PICTURED = ["video", "image"];
const known = new Map();
const queue = [];
let busy = 0;

/** The preview at this address: `image` is a data URL or null, `format` a list of words. Null if there is none. `first`: before others that wait. */
export function preview(path, first = false) {
  if (!known.has(path)) {
    if (known.size >= KEPT) known.delete(known.keys().next().value);
    known.set(path, inTurn(() => call("GET", path), first).catch(() => { known.delete(path); return null; }));
  }
  return known.get(path);
}

async function inTurn(work, first) {
  if (busy < AT_ONCE) busy += 1;
  else await new Promise((go) => { if (first) queue.unshift(go); else queue.push(go); });
  try {
    return await work();
  } finally {
    const next = queue.shift();
    if (next) next();
    else busy -= 1;
  }
}

const soon = new Map();
const seen = new IntersectionObserver((found) => {
  for (const { target, isIntersecting } of found) {
    clearTimeout(soon.get(target));
    soon.delete(target);
    if (isIntersecting) soon.set(target, setTimeout(() => look(target), STAYS)); // not for all that a scroll passes
  }
});

function look(target) {
  soon.delete(target);
  seen.unobserve(target);
  fill(target);
}

async function fill(thumb) {
  const path = thumb.dataset.of;
  const found = await preview(path);
  if (!found?.image || thumb.dataset.of !== path) return;
  thumb.replaceChildren(h("img", { src: found.image, alt: "" }));
  thumb.title = found.format.join("  ·  ");
}

/** An empty place for a picture. */
export const thumb = () => h("span", { class: "thumb", "aria-hidden": "true" });

/** Shows the picture of a job in its place: of the result, or else of an input. False if the job has none. */
export function picture(place, job) {
  const shows = (one) => one.here && PICTURED.includes(one.shown);
  const made = job.outcome ? job.outputs.find(shows) : null;
  const given = job.inputs.find(shows);
  const query = made ? `output=${encodeURIComponent(made.name)}` : given ? `input=${encodeURIComponent(given.name)}` : "";
  const path = query && `/console/previews/jobs/${encodeURIComponent(job.id)}?${query}`;
  if ((place.dataset.of ?? "") === path) return path !== "";
  place.dataset.of = path;
  place.replaceChildren(icon((made ?? given)?.shown ?? "file"));
  if (path) seen.observe(place);
  return path !== "";
}
