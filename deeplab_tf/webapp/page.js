// The page in the browser. All that comes from the server, or from a file's name, goes into the page as text.
"use strict";

const told = JSON.parse(document.body.dataset.told);
const token = new URLSearchParams(location.search).get("token");
const find = (selector) => document.querySelector(selector);
const crf = find("#crf input");

let file = null; // that is to be shown
let answer = null; // of the server, for the file in answer.file
let sending = new AbortController();
let running = false;
let again = false;

// ------------------------------------------------------------------ asking the server

async function post(path, type, body) {
  const headers = { "Content-Type": type };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { method: "POST", headers, body, signal: sending.signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Was the command ended?");
  }
  if (!response.ok) {
    const error = new Error((await response.text()) || `The server answers ${response.status}.`);
    error.status = response.status;
    throw error;
  }
  return response.json();
}

async function segment(sent) {
  if (sent.size > told.maxBytes) {
    throw new Error(
      `${sent.name}: expected a file of at most ${told.maxBytes / 1e6} MB, got ${(sent.size / 1e6).toFixed(1)} MB. ` +
        "Save it as JPEG, or start the page with a larger --max_megabytes.",
    );
  }
  const path = `segment?name=${encodeURIComponent(sent.name)}`;
  return { ...(await post(path, "application/octet-stream", sent)), file: sent };
}

function refine(constants) {
  return post("refine", "application/json", JSON.stringify({ image: answer.image, constants }));
}

async function refineOrSendAgain(constants) {
  try {
    return await refine(constants);
  } catch (error) {
    if (error.status !== 410) throw error;
    answer.image = (await segment(answer.file)).image;
    return refine(constants);
  }
}

// One request at a time. What changes meanwhile is asked for afterwards, once.
async function update() {
  again = true;
  if (running) return;
  running = true;
  const begin = performance.now();
  const clock = setInterval(() => say(begin), 250);
  find("#answer").classList.add("busy");
  try {
    while (again) {
      again = false;
      await bringUpToDate();
    }
  } finally {
    running = false;
    clearInterval(clock);
    find("#answer").classList.remove("busy");
    find("#status").textContent = "";
  }
}

async function bringUpToDate() {
  const constants = crf.checked ? readConstants() : null;
  try {
    if (!file) {
      answer = null;
      return show("empty");
    }
    if (!answer || answer.file !== file) {
      answer = null;
      answer = await segment(file);
      if (constants) draw(answer.network, null); // while the CRF runs
    }
    if (constants) {
      const key = JSON.stringify(constants);
      if (answer.key !== key) Object.assign(answer, await refineOrSendAgain(constants), { key });
    }
    draw(answer.network, constants ? answer.crf : null);
  } catch (error) {
    if (error.name === "AbortError") return;
    show(answer ? "shown" : "");
    find("#problem").textContent = error.message;
    find("#problem").hidden = false;
  }
}

function say(begin) {
  const what = !answer || answer.file !== file ? "Sending the image and running the network" : "Running the CRF";
  const seconds = (performance.now() - begin) / 1000;
  if (seconds > 0.5) find("#status").textContent = `${what}: ${seconds.toFixed(0)} s`;
}

// ------------------------------------------------------------------ showing what it answers

function show(id) {
  find("#problem").hidden = true;
  for (const other of ["empty", "shown"]) find(`#${other}`).hidden = other !== id;
}

function draw(network, refined) {
  const result = refined ?? network;
  find("img.image").src = answer.picture;
  find("img.image").alt = `The image. In it: ${result.shares.map((item) => `${item.name} ${item.share}`).join(", ")}.`;
  find("img.layer").src = result.layer;
  find("img.labels").src = result.labels;
  find("#save-labels").href = result.labels;
  find("#save-labels").download = `${stem(answer.file.name)}_labels.png`;
  find(".legend").replaceChildren(
    ...result.shares.map((item) => {
      const swatch = element("i");
      swatch.style.background = `rgb(${item.colour})`;
      return element("li", swatch, element("b", item.name), element("span", item.share));
    }),
  );
  const facts = [`network ${network.seconds.toFixed(2)} s`];
  if (refined) facts.push(`CRF ${refined.seconds.toFixed(2)} s`);
  const [size, seen] = [answer.size.join(" x "), answer.seen.join(" x ")];
  facts.push(`${size} pixels` + (size === seen ? "" : `, scaled down to ${seen}`));
  facts.push(...answer.notes);
  find(".facts").replaceChildren(...facts.map((fact) => element("span", fact)));
  show("shown");
}

function element(name, ...content) {
  const made = document.createElement(name);
  made.append(...content);
  return made;
}

function stem(name) {
  return name.replace(/\.[^.]*$/, "") || "image";
}

async function saveOverlay(event) {
  event.preventDefault();
  const [image, layer] = [find("img.image"), find("img.layer")];
  await Promise.all([image.decode(), layer.decode()]);
  const canvas = element("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  context.globalAlpha = find("#opacity-range").value;
  context.imageSmoothingEnabled = false;
  context.drawImage(layer, 0, 0, canvas.width, canvas.height);
  const link = element("a");
  link.href = canvas.toDataURL("image/jpeg", 0.92);
  link.download = `${stem(answer.file.name)}_overlay.jpg`;
  link.click();
}

// ------------------------------------------------------------------ the file and the sliders

function choose(chosen) {
  if (!chosen) return;
  file = chosen;
  find("#name").textContent = file.name;
  find("#file .hint").textContent = `Choose, drop or paste another image: ${told.limits}`;
  sending.abort();
  sending = new AbortController();
  update();
}

function readConstants() {
  return Object.fromEntries(told.constants.map(({ name }) => [name, find(`#${name} input[type=number]`).valueAsNumber]));
}

function addSlider(constant) {
  const { name, low, high, step, value, meaning } = constant;
  const label = element("label", name);
  label.htmlFor = `${name}-number`;
  const number = Object.assign(element("input"), { type: "number", id: `${name}-number`, min: low, max: high });
  number.step = name === "iterations" ? 1 : "any";
  const range = Object.assign(element("input"), { type: "range", min: low, max: high, step });
  range.setAttribute("aria-label", name);
  const reset = Object.assign(element("button", "↺"), { type: "button", title: `Back to ${value}` });
  reset.setAttribute("aria-label", `${name} back to ${value}`);
  const hint = Object.assign(element("span", `${meaning} (${low} to ${high})`), { className: "hint", id: `${name}-hint` });
  for (const input of [number, range]) {
    input.autocomplete = "off";
    input.setAttribute("aria-describedby", hint.id);
  }
  const set = (wanted) => {
    // The number is what counts; the slider shows the nearest of its steps.
    number.value = range.value = wanted;
    update();
  };
  number.value = range.value = value;
  range.addEventListener("input", () => set(range.value));
  number.addEventListener("change", () => {
    if (number.checkValidity() && number.value !== "") set(number.value);
    else number.reportValidity();
  });
  reset.addEventListener("click", () => set(value));
  const slider = Object.assign(element("div", label, number, reset, hint, range), { className: "slider", id: name });
  find("#constants").append(slider);
}

find("#classes summary").textContent = `${told.classes.length} classes`;
find("#classes p").textContent = told.classes.join(", ");
told.constants.forEach(addSlider);
if (told.withoutCrf) {
  crf.disabled = true;
  find("#constants").hidden = true;
  find("#without-crf").textContent = told.withoutCrf;
  find("#without-crf").hidden = false;
}
crf.addEventListener("change", () => {
  find("#constants").disabled = !crf.checked;
  update();
});
find("#opacity-range").addEventListener("input", (event) => {
  document.documentElement.style.setProperty("--opacity", event.target.value);
  find("#opacity output").textContent = `${Math.round(100 * event.target.value)} %`;
});
find("#save-overlay").addEventListener("click", saveOverlay);
find("#file input").addEventListener("change", (event) => {
  choose(event.target.files[0]);
  event.target.value = ""; // so that the same file, changed on the disk, can be chosen again
});
document.addEventListener("paste", (event) => choose(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  choose(event.dataTransfer.files[0]);
});
document.body.dataset.ready = "yes";
