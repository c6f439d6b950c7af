"use strict";
{
  const told = document.getElementById("told");
  const words = new Intl.Collator("en", { numeric: true });

  // numbers by value, words by word, what has no value always last
  const compare = (column, sign) => (one, other) => {
    const a = one.cells[column], b = other.cells[column];
    const missing = a.hasAttribute("data-missing") - b.hasAttribute("data-missing");
    if (missing || a.hasAttribute("data-missing")) return missing;
    if ("sort" in a.dataset && "sort" in b.dataset) return sign * (a.dataset.sort - b.dataset.sort);
    return sign * words.compare(a.textContent.trim(), b.textContent.trim());
  };

  const sort = (button) => {
    const header = button.closest("th"), table = button.closest("table"), body = table.tBodies[0];
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...[...body.rows].sort(compare(header.cellIndex, down ? -1 : 1)));
    told.textContent = `${table.caption.textContent}: sorted by ${button.textContent}, ${down ? "descending" : "ascending"}`;
  };
  for (const button of document.querySelectorAll(".sort")) button.addEventListener("click", () => sort(button));

  // a page from a file may not be allowed to remember
  const remembered = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
  const theme = document.getElementById("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const show = (dark) => theme.setAttribute("aria-pressed", String(dark));
  const set = (dark) => { document.documentElement.dataset.theme = dark ? "dark" : "light"; show(dark); };
  if (remembered) set(remembered === "dark"); else show(system.matches);
  system.addEventListener("change", () => { if (!document.documentElement.dataset.theme) show(system.matches); });
  theme.addEventListener("click", () => {
    const dark = theme.getAttribute("aria-pressed") !== "true";
    set(dark);
    try { localStorage.setItem("theme", dark ? "dark" : "light"); } catch { /* then not */ }
  });
  theme.hidden = false;

  // what does not scroll needs no stop of the keyboard
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth || target.scrollHeight > target.clientHeight) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const region of document.querySelectorAll(".scroll")) watch.observe(region);
}
