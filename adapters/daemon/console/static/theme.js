// Light or dark. It runs before the page is painted, so it is no module.

{
  const KEY = "wakestream.theme"; // "light" or "dark"; nothing: as the system
  const systems = new Map();

  /** Applies the choice: it switches the rules for dark systems on or off. */
  const apply = () => {
    const theme = localStorage.getItem(KEY) ?? "";
    document.documentElement.style.colorScheme = theme;
    for (const sheet of document.styleSheets) {
      for (const rule of sheet.cssRules) {
        if (!systems.has(rule) && rule.media?.mediaText.includes("prefers-color-scheme: dark")) systems.set(rule, rule.media.mediaText);
        if (systems.has(rule)) rule.media.mediaText = { light: "not all", dark: "all" }[theme] ?? systems.get(rule);
      }
    }
    dispatchEvent(new Event("theme"));
  };

  apply();
  addEventListener("storage", (event) => { if (event.key === KEY) apply(); });
  addEventListener("themed", apply);
}
