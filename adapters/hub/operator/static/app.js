// Connects the parts of the operator's page: login, the hub's news, and the panels.

import { by, h, say, show } from "./dom.js";
import { showDepot, showGpus, showJobs, showLeases, showOverview } from "./gpus.js";
import { invites } from "./invites.js";
import { call, follow, knock, leave, Refusal, session } from "./link.js";
import { licenses } from "./licenses.js";
import { log } from "./log.js";
import { showBudgets, showCosts, showPlan } from "./money.js";
import { duration, knows, moment, t, translate } from "./words.js";

const known = { state: null, at: 0, costs: null, license: "", version: "", until: 0 };
let parts = null;
let open = false;

export function toast(text, bad = false) {
  const note = h("p", { class: bad ? "toast bad" : "toast", text });
  by("toasts").append(note);
  setTimeout(() => note.remove(), 9000);
}

/** The answer of a call, or null; the reason is shown. */
async function asked(name, given) {
  try {
    return await call(name, given);
  } catch (error) {
    toast(error instanceof Refusal ? t("refused", { why: error.message }) : t("offline"), true);
    return null;
  }
}

// News of the hub

const hear = {
  welcome(message) {
    Object.assign(known, { license: message.license, version: message.version, until: message.until });
    if (!open) enter();
    parts.licenses.mine(message.license);
    parts.log.begin();
    say(by("foot"), t("foot", { version: known.version, license: known.license, time: moment(known.until) }));
  },
  state({ value }) {
    known.state = value;
    draw();
    showBudgets(value, known.state);
  },
  costs({ value }) {
    known.costs = value;
    if (known.state) showCosts(value, known.state);
  },
  plan: ({ value }) => showPlan(value, known.state),
  invites: ({ value }) => parts.invites.show(value),
  book: () => parts.licenses.refresh(),
  log: ({ value }) => parts.log.add(value),
};

function draw() {
  const { state } = known;
  if (!state) return;
  showOverview(state);
  showGpus(state);
  showJobs(state);
  showLeases(state);
  showDepot(state);
  if (known.costs) showCosts(known.costs, state);
  show(by("disk"), state.disk_low);
  const running = state.all_leases;
  document.title = `${state.queue || running ? `(${state.queue + running}) ` : ""}wakestream ${t("hub")}`;
}

// Texts contain times.
setInterval(() => {
  if (document.hidden || !open) return;
  draw();
  parts.invites.tick();
}, 1000);

// Login

function enter() {
  open = true;
  parts ??= { licenses: licenses({ asked, toast }), invites: invites({ asked, toast }), log: log() };
  show(by("door"), false);
  show(by("house"), true);
  show(by("leave"), true);
  by("work").focus({ preventScroll: true });
}

function linked(how) {
  document.body.dataset.link = how;
  say(by("link-text"), t(`link.${how}`));
}

/** Shows the login, with the reason why it is needed. */
function lock(text = "") {
  open = false;
  known.state = null;
  parts?.licenses.forget();
  parts?.invites.forget();
  parts?.log.forget();
  linked("locked");
  document.title = `wakestream ${t("hub")}`;
  show(by("house"), false);
  show(by("leave"), false);
  show(by("door"), true);
  say(by("door-wrong"), text);
  say(by("foot"), "");
}

function command(text) {
  show(by("door-code"), Boolean(text));
  say(by("door-code").firstElementChild, text);
}

/** Shows what stands in the way of a login: no TLS, or no admin license yet. */
function explain(hello) {
  show(by("door-form"), hello.secure);
  by("door").dataset.secure = hello.secure;
  if (!hello.secure) {
    say(by("door-text"), t("door.plain"));
    return command(`ssh -L 8765:127.0.0.1:${location.port || 80} ${location.hostname}`);
  }
  say(by("door-text"), t(hello.admins ? "door.text" : "door.none"));
  return command(hello.admins ? "" : "wakestream license issue --role admin > admin.key");
}

function why(refused, entered) {
  if (refused.code === "no_session" && entered) return t("door.ended");
  if (refused.code === "too_many_keys") return t("door.too_many_keys", { time: duration(refused.wait) });
  if (refused.code === "no_admin") return t("door.no_admin", { role: t(`role.${refused.role}`) });
  return t(knows(`door.${refused.code}`) ? `door.${refused.code}` : "door.other");
}

async function run(key) {
  let entered = !key;
  const heard = (message) => {
    entered ||= message.type === "welcome";
    if (message.type === "hello") explain(message);
    else hear[message.type]?.(message);
  };
  const refused = await follow({ key, hear: heard, linked });
  by("door-form").querySelector("button").disabled = false;
  lock(refused ? why(refused, entered) : "");
  if (refused?.code === "revoked") explain((await knock()) || { secure: true, admins: true }); // it may have been the last one
  if (!by("door-form").hidden) by("door-key").focus();
}

async function begin() {
  if (session()) return run("");
  const hello = await knock();
  if (!hello) {
    linked("down");
    show(by("door"), true);
    show(by("door-form"), false);
    say(by("door-text"), t("door.away"));
    return setTimeout(begin, 1500);
  }
  explain(hello);
  return lock();
}

by("door-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = by("door-key").value.trim();
  by("door-key").value = "";
  say(by("door-wrong"), "");
  if (!key) return;
  event.target.querySelector("button").disabled = true;
  run(key);
});
by("leave").addEventListener("click", leave);

translate(document);
begin();
