"use strict";
// The page's data: numbers of all images in typed arrays; probabilities of the images that are shown.
const data = JSON.parse(document.getElementById("data").textContent);
const typed = (Type, text) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const mapped = (object, f) => Object.fromEntries(Object.entries(object).map(([key, value]) => [key, f(value)]));

const setOf = typed(Int16Array, data.set);
const labelOf = typed(Int16Array, data.label);
const right = typed(Int16Array, data.right); // -1: not known
const shown = typed(Uint32Array, data.shown); // the places of the images that are shown
const predicted = mapped(data.predicted, (text) => typed(Int16Array, text));
const values = mapped(data.values, (measures) => mapped(measures, (text) => typed(Float32Array, text)));
const probabilities = mapped(data.probabilities, (text) => typed(Uint16Array, text));
const precision = data.precision && typed(Float32Array, data.precision); // of the shown images, if the student is a Dirichlet
const people = Object.keys(values); // student, and teacher if there is one
const firstOfSet = data.sets.map((_, set) => shown.findIndex((image) => setOf[image] === set));
const PAGE = 120;

const $ = (id) => document.getElementById(id);

function element(tag, text = "", properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: text, ...properties });
}

function row(cells, tag = "td") {
  const line = element("tr");
  line.append(...cells.map((cell) => (cell instanceof Node ? cell : element(tag, cell))));
  return line;
}

function options(select, entries) {
  select.append(...entries.map(([value, text]) => element("option", text, { value })));
}

const percent = (share) => (Number.isFinite(share) ? `${(100 * share).toFixed(1)}%` : "–");
const number = (value) => (value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : value.toFixed(3));

// What a choice such as "student total_variance" or "difference total_variance" means for an image.
function scoreOf(choice) {
  const [who, measure] = choice.split(" ");
  if (who !== "difference") return (image) => values[who][measure][image];
  return (image) => values.student[measure][image] - values.teacher[measure][image];
}

function choices(differences) {
  const whose = differences && people.length > 1 ? [...people, "difference"] : people;
  const said = { ...data.said, difference: "student − teacher" };
  return whose.flatMap((who) =>
    Object.entries(data.measures).map(([measure, name]) => [`${who} ${measure}`, `${said[who]}: ${name}`]));
}

// Selective prediction, from all images.

let sorted = []; // the chosen uncertainty of the first set, from low to high
let most = Infinity; // the threshold

function chooseUncertainty() {
  const score = scoreOf($("answer-by").value);
  sorted = Float32Array.from([...setOf.keys()].filter((image) => setOf[image] === 0), score).sort();
  const stored = data.thresholds[$("answer-by").value.replace("student ", "")];
  if (stored === undefined) return moveThreshold();
  $("threshold").value = (100 * sorted.filter((x) => x <= stored).length) / sorted.length;
  answer(stored);
}

function moveThreshold() {
  const place = Math.round((sorted.length * $("threshold").value) / 100);
  answer(place === 0 ? -Infinity : sorted[place - 1]);
}

const isAnswered = (image) => scoreOf($("answer-by").value)(image) <= most;

function answer(threshold) {
  most = threshold;
  $("below").textContent = threshold === -Infinity ? "no answers" : `at most ${number(threshold)}`;
  const counts = data.sets.map(() => ({ all: 0, answered: 0, judged: 0, wrong: 0 }));
  for (let image = 0; image < setOf.length; image++) {
    const count = counts[setOf[image]];
    count.all++;
    if (!isAnswered(image)) continue;
    count.answered++;
    if (right[image] < 0) continue;
    count.judged++;
    count.wrong += 1 - right[image];
  }
  const judged = right.some((x) => x >= 0); // without labels there is no column of errors
  const line = (...cells) => cells.slice(0, judged ? 5 : 4);
  const head = row(line("set", "images", "answered", "coverage", "error of the answers"), "th");
  const lines = counts.map((count, set) =>
    row(line(data.sets[set] || "images", count.all, count.answered, percent(count.answered / count.all), percent(count.wrong / count.judged))));
  $("answers").replaceChildren(head, ...lines);
  if ($("answered").value === "") mark();
  else arrange();
}

// Why an image is answered or not, at the threshold.
function reason(image) {
  const [who, measure] = $("answer-by").value.split(" ");
  const name = data.measures[measure].split(" (")[0].split(",")[0];
  if (isAnswered(image)) return `Answered: its ${name} is at most ${number(most)}.`;
  const { mutual_information: unknown, predictive_entropy: all } = mapped(values[who], (x) => x[image]);
  return `Not answered: its ${name}, ${number(values[who][measure][image])}, is above the threshold. Of its predictive entropy, ` +
    `${percent(unknown / all)} is epistemic (the network does not know such images), the rest aleatoric (the image fits several classes).`;
}

// The images.

let order = []; // places in `shown`, filtered and sorted
let visible = 0;
let current; // the place in `shown` of the image in detail

function arrange() {
  const score = scoreOf($("sort").value);
  const sign = $("ascending").checked ? 1 : -1;
  const chosen = (id) => ($(id).value === "" ? null : Number($(id).value));
  const [set, label, said, correct, answered] = ["set", "label", "predicted", "right", "answered"].map(chosen);
  order = [...shown.keys()].filter((k) => {
    const image = shown[k];
    return (set === null || setOf[image] === set) && (label === null || labelOf[image] === label) &&
      (said === null || predicted.student[image] === said) && (correct === null || right[image] === correct) &&
      (answered === null || isAnswered(image) === Boolean(answered));
  });
  order.sort((a, b) => sign * (score(shown[a]) - score(shown[b])) || a - b);
  visible = 0;
  $("grid").replaceChildren();
  const sample = shown.length < setOf.length ? `, a random sample of ${setOf.length}` : "";
  $("count").textContent = `${order.length} of ${shown.length} images${sample}.`;
  more();
}

function more() {
  const next = order.slice(visible, visible + PAGE);
  visible += next.length;
  $("grid").append(...next.map(thumbnail));
  mark();
  $("more").hidden = visible >= order.length;
  return visible - next.length;
}

// Frame the images that are not answered, and say in the detail whether its image is.
function mark() {
  [...$("grid").children].forEach((image, place) => image.classList.toggle("unanswered", !isAnswered(shown[order[place]])));
  if (current !== undefined) detail(current);
}

function picture(k, tag) {
  const set = setOf[shown[k]];
  const place = k - firstOfSet[set];
  const made = element(tag, "", { className: `image sheet${set}` });
  const [column, line] = [place % data.columns, Math.floor(place / data.columns)];
  made.style.backgroundPosition = `${-column * data.size}px ${-line * data.size}px`;
  return made;
}

function thumbnail(k) {
  const button = picture(k, "button");
  button.ariaLabel = `${data.names[k]}, predicted ${data.classes[predicted.student[shown[k]]]}`;
  button.tabIndex = k === order[0] ? 0 : -1; // one stop for Tab; arrow keys move it
  button.onmouseenter = () => detail(k);
  button.onfocus = () => {
    $("grid").querySelector("[tabindex='0']").tabIndex = -1;
    button.tabIndex = 0;
    detail(k);
  };
  return button;
}

function detail(k) {
  const image = shown[k];
  current = k;
  const facts = element("p");
  const label = labelOf[image] < 0 ? "" : `, true class ${data.labels[labelOf[image]]}`;
  facts.append(element("b", data.names[k]), `${data.sets[setOf[image]] ? ` of ${data.sets[setOf[image]]}` : ""}${label}`);
  for (const who of people) facts.append(element("br"), `${data.said[who]}: ${data.classes[predicted[who][image]]}`);

  const uncertainties = element("table");
  uncertainties.append(row(["", ...people.map((who) => data.said[who])], "th"));
  for (const [measure, name] of Object.entries(data.measures)) {
    uncertainties.append(row([name, ...people.map((who) => number(values[who][measure][image]))]));
  }

  const enlarged = picture(k, "div");
  enlarged.classList.add("large");
  const legend = element("small");
  for (const who of people) legend.append(element("span", "", { className: `bar ${who}`, style: "width: 1em" }), ` ${data.said[who]} `);
  $("detail").replaceChildren(enlarged, facts, element("p", reason(image)), uncertainties, ...(probabilities.student ? [bars(k)] : []), legend);
}

// The probabilities of the twelve classes that the student finds most likely.
function bars(k) {
  const made = element("table", "", { id: "bars" });
  const classes = data.classes.length;
  const p = mapped(probabilities, (all) => Array.from(all.subarray(k * classes, (k + 1) * classes), (x) => x / 65535));
  const likely = [...data.classes.keys()].sort((a, b) => p.student[b] - p.student[a]).slice(0, 12);
  made.append(row(["", "probability", "", ...(precision ? ["α"] : [])], "th"));
  for (const c of likely.sort((a, b) => a - b)) {
    const drawn = element("td");
    for (const who of people) {
      const line = element("div");
      line.append(element("span", "", { className: `bar ${who}`, style: `width: ${6 * p[who][c]}rem`, title: data.said[who] }));
      drawn.append(line);
    }
    const shares = people.map((who) => percent(p[who][c])).join(" / ");
    made.append(row([data.classes[c], drawn, shares, ...(precision ? [number(precision[k] * p.student[c])] : [])]));
  }
  return made;
}

// Arrow keys move through the images.
$("grid").onkeydown = (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const images = [...$("grid").children];
  const next = step && images[images.indexOf(document.activeElement) + step];
  if (next) next.focus();
};

const all = ["", "all"];
options($("answer-by"), choices(false));
options($("sort"), choices(true));
options($("set"), [all, ...data.sets.entries()]);
options($("label"), [all, ...data.labels.entries()]);
options($("predicted"), [all, ...data.classes.entries()]);
options($("right"), [["", "right or wrong"], [1, "right"], [0, "wrong"]]);
options($("answered"), [["", "all"], [1, "yes"], [0, "no"]]);
for (const id of ["set", "label"]) $(id).parentElement.hidden = data[id === "set" ? "sets" : "labels"].length < 2;
$("right").parentElement.hidden = !right.some((x) => x >= 0);
$("answer-by").value = "student predictive_entropy";
$("sort").value = "student total_variance";
for (const id of ["sort", "ascending", "set", "label", "predicted", "right", "answered"]) $(id).onchange = arrange;
$("answer-by").onchange = chooseUncertainty;
$("threshold").oninput = moveThreshold;
$("more").onclick = () => $("grid").children[more()].focus();
chooseUncertainty();
arrange();
if (order.length) detail(order[0]);
