// The contrast of each visible text of a page to what is behind it, by element.
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = (above, below) => above.slice(0, 3).map((level, i) => level * above[3] + below[i] * (1 - above[3]));
  const linear = (level) => (level <= 0.03928 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4);
  const luminance = (rgb) =>
    rgb.reduce((sum, level, i) => sum + linear(level / 255) * [0.2126, 0.7152, 0.0722][i], 0);
  const found = {};
  const texts = "h1, summary, b, small, label, span, p, a, legend, figcaption, output";
  for (const element of document.querySelectorAll(texts)) {
    if (!element.checkVisibility() || !element.textContent.trim()) continue;
    const chain = [];
    for (let each = element; each; each = each.parentElement) chain.unshift(getComputedStyle(each));
    let [opacity, background] = [1, [255, 255, 255]];
    for (const style of chain) {
      opacity *= style.opacity;
      background = over(rgba(style.backgroundColor), background);
    }
    const ink = rgba(getComputedStyle(element).color);
    ink[3] *= opacity;
    const [dark, light] = [luminance(over(ink, background)), luminance(background)].sort((a, b) => a - b);
    found[`${element.tagName} ${element.textContent.trim().slice(0, 40)}`] = (light + 0.05) / (dark + 0.05);
  }
  return found;
})()
