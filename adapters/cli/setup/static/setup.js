// The set-up page: sends the pasted code to the program on this machine, which joins the hub.

import { by, say, show } from "./dom.js";
import { knows, lang, t, translate } from "./words.js";

const token = (/(?:^|[#&])link=([\w-]+)/.exec(location.hash) || [])[1] || sessionStorage.getItem("setup") || "";
if (token) sessionStorage.setItem("setup", token);
history.replaceState(null, "", location.pathname);

translate(document);
say(by("how"), t("read.how"));

/** Joins; returns what is wrong, or an empty text. */
async function joined(line) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  try {
    const body = JSON.stringify({ line, lang });
    const response = await fetch("/setup/join", { method: "POST", headers, body, cache: "no-store", credentials: "omit" });
    if (response.ok) return "";
    const plain = await response.json().catch(() => ({}));
    return knows(`wrong.${plain.code}`) ? t(`wrong.${plain.code}`) : plain.error || `HTTP ${response.status}`;
  } catch {
    return t("wrong.gone");
  }
}

by("join").addEventListener("submit", async (event) => {
  event.preventDefault();
  say(by("wrong"), "");
  by("go").disabled = true;
  say(by("go"), t("join.going"));
  const wrong = await joined(by("code").value);
  by("go").disabled = false;
  say(by("go"), t("join.go"));
  say(by("wrong"), wrong);
  if (wrong) return by("code").focus();
  show(by("ways"), false);
  show(by("done"), true);
  return by("done-title").focus();
});
