// The results of a job, each shown by its type. They come from other machines: text stays text, and nothing of it runs.

import { button, h, named, say } from "/dom.js";
import { bytes, t } from "/words.js";

const PRELOADED = 2; // each holds a connection, and a browser has only six
const TEXT_MOST = 200000;
const SHOWN = ["video", "audio", "image", "text", "json"];

/** The results that exist. */
export const made = (job) => job.outputs.filter((one) => one.here);

/** The word for the button that shows them; empty if there is only a download. */
export function showWord(job) {
  const all = made(job);
  if (all.length === 1 && !SHOWN.includes(all[0].shown)) return "";
  return all.length === 1 && ["video", "audio"].includes(all[0].shown) ? "card.play" : "card.show";
}

/** All results of a job as one element. `url` is their address, `download(output)` saves one. */
export function gallery(job, url, download) {
  const all = made(job);
  const given = all.length === 1 && all[0].shown === "video" ? job.inputs.find((one) => one.here && one.shown === "video") : null;
  if (given) return compared(job, url, given, all[0]);
  const media = all.filter((one) => one.shown === "video" || one.shown === "audio");
  const figures = all.map((one) => {
    const ahead = media.indexOf(one) < PRELOADED ? "metadata" : "none";
    const found = figure(one, `${url}&name=${encodeURIComponent(one.name)}`, all.length === 1, ahead);
    if (all.length === 1) return found;
    const save = button(t("card.download"), "down", () => download(one));
    save.setAttribute("aria-label", `${t("card.download")}: ${one.file}`);
    const caption = h("figcaption", {}, h("span", { class: "made-name" }, named(one.file)), h("span", { class: "made-size", text: bytes(one.size) }), save);
    return h("figure", { class: "made", "data-shown": one.shown || "file" }, found, caption);
  });
  const pictures = all.length > 1 && all.every((one) => one.shown === "image");
  return h("div", { class: pictures ? "gallery pictures" : "gallery", tabindex: "-1", role: "group", "aria-label": t("card.results") }, ...figures);
}

/** Input and result side by side; the player of the result moves both, and the input has no sound. */
function compared(job, url, given, result) {
  const before = h("video", { src: `${url}&input=${encodeURIComponent(given.name)}`, playsinline: true, preload: "metadata", tabindex: "-1", "aria-label": t("card.input", { name: given.file }) });
  const after = figure(result, `${url}&name=${encodeURIComponent(result.name)}`, true, "metadata");
  before.muted = true;
  const frame = (player, words) => h("figure", { class: "made" }, player, h("figcaption", { text: words }));
  const left = frame(before, t("card.before"));
  const box = h("div", { class: "gallery pair", tabindex: "-1", role: "group", "aria-label": t("card.results") }, left, frame(after, t("card.after")));
  linked(after, before);
  before.addEventListener("error", () => left.remove()); // a format that the browser cannot play
  return box;
}

/** The main results of jobs side by side, each with what differs in its parameters; the first player moves the others. */
export function sideBySide(members) {
  const names = [...new Set(members.flatMap(({ card }) => Object.keys(card.params)))];
  const text = (card, name) => JSON.stringify(card.params[name]);
  const differ = names.filter((name) => new Set(members.map(({ card }) => text(card, name))).size > 1);
  const figures = members.map(({ card, url }) => {
    const [one] = made(card);
    const words = differ.filter((name) => name in card.params).map((name) => `${name} ${text(card, name)}`).join(" · ") || one.file;
    return h("figure", { class: "made" }, figure(one, `${url}&name=${encodeURIComponent(one.name)}`, false, "metadata"), h("figcaption", { text: words }));
  });
  const [leader, ...others] = figures.map((each) => each.querySelector("video, audio")).filter(Boolean);
  for (const each of others) {
    Object.assign(each, { muted: true, controls: false });
    linked(leader, each);
  }
  return h("div", { class: "gallery pictures family", tabindex: "-1", role: "group", "aria-label": t("card.results") }, ...figures);
}

const DRIFT = 0.15; // seconds

/** `follower` plays what `leader` plays, at the same place. A shorter one stops at its end. */
function linked(leader, follower) {
  const place = () => Math.min(leader.currentTime, follower.duration || Infinity);
  const meet = (most = 0) => { if (Math.abs(follower.currentTime - place()) > most) follower.currentTime = place(); };
  const play = () => { if (leader.currentTime < (follower.duration || Infinity)) follower.play().catch(() => {}); };
  leader.addEventListener("playing", () => { meet(DRIFT); play(); });
  for (const stop of ["pause", "waiting", "ended"]) leader.addEventListener(stop, () => { follower.pause(); meet(DRIFT); });
  leader.addEventListener("seeking", () => meet());
  leader.addEventListener("ratechange", () => { follower.playbackRate = leader.playbackRate; });
  leader.addEventListener("timeupdate", () => { if (!leader.paused) meet(DRIFT); });
  follower.addEventListener("loadedmetadata", () => { meet(DRIFT); if (!leader.paused) play(); });
}

function figure(one, src, alone, preload) {
  const label = t("card.player", { name: one.file });
  switch (one.shown) {
    case "video": return h("video", { src, controls: true, autoplay: alone, playsinline: true, preload, "aria-label": label });
    case "audio": return h("audio", { src, controls: true, autoplay: alone, preload, "aria-label": label });
    case "image": return h("img", { src, alt: label, class: "made-image", loading: "lazy" });
    case "text":
    case "json": return text(one, src, label);
    default: return null;
  }
}

function text(one, src, label) {
  const box = h("pre", { class: "made-text", tabindex: "0", role: "region", "aria-label": label, dir: "auto", text: "…" });
  const note = h("p", { class: "hint", hidden: one.size <= TEXT_MOST, text: t("card.cut", { size: bytes(TEXT_MOST) }) });
  fetch(src, { headers: { Range: `bytes=0-${TEXT_MOST - 1}` }, cache: "no-store", credentials: "omit" })
    .then((answer) => (answer.ok ? answer.text() : Promise.reject(new Error(String(answer.status)))))
    .then((content) => say(box, one.shown === "json" && one.size <= TEXT_MOST ? indented(content) : content))
    .catch(() => say(box, t("bad.result_gone")));
  return h("div", {}, box, note);
}

/** JSON of one line on several; its numbers and texts stay as they are. Other text is unchanged. */
export function indented(source) {
  if (source.trim().includes("\n")) return source;
  let depth = 0;
  const line = () => `\n${"  ".repeat(Math.min(20, Math.max(0, depth)))}`;
  const parts = source.match(/"(?:\\.|[^"\\])*"|[{[]\s*[}\]]|[{}[\],:]|[^\s"{}[\],:]+|"/g) || [];
  return parts.map((part) => {
    if (part === "{" || part === "[") { depth += 1; return part + line(); }
    if (part === "}" || part === "]") { depth -= 1; return line() + part; }
    return part === "," ? part + line() : part === ":" ? ": " : part;
  }).join("");
}

/** Stops what plays. */
export function hush(element) {
  for (const each of element.querySelectorAll("video, audio")) each.pause();
}
