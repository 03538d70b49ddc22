// Complains on the console about charts that are not as they should be.
const charts = [...document.querySelectorAll("svg")];
if (charts.length < 5) console.error(`only ${charts.length} charts`);
for (const chart of charts) {
  const complain = (what) => console.error(`${chart.getAttribute("aria-label")}: ${what}`);
  const box = chart.getBoundingClientRect();
  if (box.width < 200 || box.height < 60) complain(`${box.width} x ${box.height} pixels`);
  if (/NaN|inf/.test(chart.outerHTML)) complain("a place that is no number");
  if (!chart.querySelector(".bar, .dot, .ring")) complain("no mark");
  if (!chart.querySelector(".name")) complain("no axis with a name");
  const texts = [...chart.querySelectorAll("text")];
  const boxes = texts.map((text) => text.getBoundingClientRect());
  boxes.forEach((a, i) => {
    const name = texts[i].textContent;
    const slack = 1;
    if (a.left < box.left - slack || a.right > box.right + slack
      || a.top < box.top - slack || a.bottom > box.bottom + slack) complain(`"${name}" is cut off`);
    for (let j = 0; j < i; j++) {
      const b = boxes[j];
      // A turned text's box is larger than itself.
      if (texts[i].hasAttribute("transform") || texts[j].hasAttribute("transform")) continue;
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 2 && down > 3) complain(`"${name}" on top of "${texts[j].textContent}"`);
    }
  });
}
document.title = `${charts.length} charts checked`;
