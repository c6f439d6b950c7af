// The contrast of every word that is shown, as WCAG defines it: of its colour with what lies behind it.
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const parsed = new Map();
function rgba(color) {
  if (!parsed.has(color)) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    parsed.set(color, [r, g, b, a / 255]);
  }
  return parsed.get(color);
}
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
function behind(element) {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
}
function luminance(color) {
  const [r, g, b] = color.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}
function contrasts() {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest(".unseen, script, style, desc, .skip")) continue;
    const drawing = element.closest("svg"), style = getComputedStyle(element);
    // words on cells of a heat map are the figure's own: black or white by the cell's colour
    if (drawing && element.hasAttribute("fill") && !element.getAttribute("class") && drawing.querySelector("image")) continue;
    const ground = behind(drawing ? drawing.parentElement : element);
    const ink = over(rgba(drawing ? style.fill : style.color), ground);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    found.push({ kind: drawing ? "svg" : "html", text, contrast: contrast(ink, ground), needed: large ? 3 : 4.5 });
  }
  return found;
}
