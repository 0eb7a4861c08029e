// The settings: those of this browser apply at once, those of the daemon when they are saved.

import { by, h, icon, put, say, show } from "/dom.js";
import { refused } from "/sentences.js";
import { call } from "/session.js";
import { notifies, switchNotifications } from "/signals.js";
import { t } from "/words.js";

const LANG = "wakestream.lang";
const THEME = "wakestream.theme";
const FIELDS = ["output_folder", "name_pattern", "at_once"];
const MOST = 200; // jobs at a time, without a limit in the daemon's flags
const FIELD_OF = { folder: "output_folder", pattern: "name_pattern", at: "at_once" };

/** Connects the dialog; `toast(text)` shows a message, `money()` says what GPUs cost and may cost. Returns `told(settings)` for those of the daemon, and `hasFolder()`. */
export function settings(toast, money) {
  const dialog = by("settings");
  let known = {};

  function fill() {
    by("set-lang").value = localStorage.getItem(LANG) ?? "";
    by("set-theme").value = localStorage.getItem(THEME) ?? "";
    by("set-notify").checked = notifies();
    for (const field of FIELDS) by(`set-${field}`).value = known[field] || "";
    put(by("set-at_once"), "max", Math.min(MOST, known.at_once_most));
    say(by("set-once-help"), known.at_once_most < MOST ? t("set.once.most", { count: known.at_once_most }) : t("set.once.help"));
    by("set-money").replaceChildren(...money().map((text) => h("li", { text })));
    complain("", "");
    say(by("set-notify-wrong"), "");
  }

  function complain(field, text) {
    for (const each of FIELDS) {
      say(by(`set-${each}-wrong`), each === field ? text : "");
      put(by(`set-${each}`), "aria-invalid", each === field ? "true" : null);
    }
    if (field) by(`set-${field}`).focus();
  }

  function keep(key, value) {
    if (value) localStorage.setItem(key, value);
    else localStorage.removeItem(key);
  }

  async function save(event) {
    event.preventDefault();
    const given = { output_folder: by("set-output_folder").value.trim(), name_pattern: by("set-name_pattern").value || "{name}", at_once: Number(by("set-at_once").value || 0) };
    try {
      known = await call("PUT", "/console/settings", given);
      dialog.close();
      toast(t("set.saved"));
    } catch (error) {
      const field = FIELD_OF[String(error.code).split("_")[0]];
      if (field) complain(field, refused(error));
      else toast(refused(error), true);
    }
  }

  by("settings-open").append(icon("gear"));
  show(by("settings-open"), true);
  by("settings-open").addEventListener("click", () => { fill(); dialog.showModal(); });
  by("settings-close").addEventListener("click", () => dialog.close());
  by("settings-form").addEventListener("submit", save);
  say(by("set-pattern-help"), t("set.pattern.help", {}));
  by("set-lang").addEventListener("change", () => { keep(LANG, by("set-lang").value); location.reload(); });
  by("set-theme").addEventListener("change", () => { keep(THEME, by("set-theme").value); dispatchEvent(new Event("themed")); });
  by("set-notify").addEventListener("change", async () => {
    const wanted = by("set-notify").checked;
    by("set-notify").checked = await switchNotifications(wanted);
    say(by("set-notify-wrong"), wanted && !by("set-notify").checked ? t("set.notify.blocked") : "");
  });
  addEventListener("storage", ({ key }) => {
    if (key === LANG) location.reload();
    else if (dialog.open) {
      by("set-theme").value = localStorage.getItem(THEME) ?? "";
      by("set-notify").checked = notifies();
    }
  });
  return {
    told(plain) {
      const changed = JSON.stringify(plain) !== JSON.stringify(known);
      known = plain;
      if (changed && dialog.open) fill();
    },
    hasFolder: () => Boolean(known.output_folder),
  };
}
