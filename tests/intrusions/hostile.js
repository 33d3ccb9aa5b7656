// What a page can try with another one in the same browser, whose address is behind its own "#".
// `attack` gives what each attempt got; null for nothing.
const target = location.hash.slice(1);
let image; // that the page would take
const octets = { "Content-Type": "application/octet-stream" };

function within(promise) {
  return Promise.race([promise, new Promise((done) => setTimeout(done, 3000, null))]).catch(() => null);
}

function reads(path, options) {
  return within(fetch(target + path, options).then((response) => response.text()).then((text) => text || null));
}

function loads(tag, attributes) {
  return within(
    new Promise((done) => {
      const element = Object.assign(document.createElement(tag), attributes);
      element.onload = () => done(`${tag} loaded`);
      element.onerror = () => done(null);
      document.body.append(element);
    }),
  );
}

function textOf(frame) {
  try {
    return frame.document.body.innerText || null;
  } catch {
    return null;
  }
}

function frames(tag, attribute) {
  return within(
    new Promise((done) => {
      const element = document.createElement(tag);
      element.onload = () => done(textOf(element.contentWindow ?? {}));
      element[attribute] = target;
      document.body.append(element);
    }),
  );
}

function submits(kind) {
  return within(
    new Promise((done) => {
      const frame = Object.assign(document.createElement("iframe"), { name: kind });
      const form = Object.assign(document.createElement("form"), { method: "post", enctype: kind, target: kind });
      form.action = `${target}segment`;
      form.append(Object.assign(document.createElement("input"), { name: "file", value: "x" }));
      document.body.append(frame, form);
      frame.onload = () => done(textOf(frame.contentWindow));
      form.submit();
    }),
  );
}

function opens() {
  return within(
    new Promise((done) => {
      const opened = window.open(target);
      setTimeout(() => {
        done(textOf(opened ?? {}));
        opened?.close();
      }, 1000);
    }),
  );
}

function streams(make) {
  return within(
    new Promise((done) => {
      const stream = make();
      stream.onopen = () => done("open");
      stream.onmessage = (event) => done(event.data);
      stream.onerror = () => done(null);
    }),
  );
}

function posts(path, body, headers, mode = "cors") {
  return reads(path, { method: "POST", body, headers, mode });
}

async function attack() {
  image = await new Promise((done) => document.createElement("canvas").toBlob(done));
  return attempts();
}

const attempts = async () => ({
  page: await reads(""),
  opaque: await reads("", { mode: "no-cors" }),
  credentials: await reads("", { credentials: "include" }),
  script: await reads("page.js"),
  simple: await posts("segment", image, {}, "no-cors"),
  preflighted: await posts("segment", image, octets),
  dropped_header: await posts("segment", image, octets, "no-cors"),
  refine: await posts("refine", "{}", { "Content-Type": "application/json" }),
  file_route: await reads("gradio_api/file=/etc/passwd"),
  beacon: await within(navigator.sendBeacon(`${target}segment`, image) && null),
  script_tag: await loads("script", { src: `${target}page.js` }),
  page_as_script: await loads("script", { src: target }),
  module: await loads("script", { src: `${target}page.js`, type: "module" }),
  style: await loads("link", { rel: "stylesheet", href: `${target}page.css` }),
  picture: await loads("img", { src: target }),
  frame: await frames("iframe", "src"),
  object: await frames("object", "data"),
  multipart: await submits("multipart/form-data"),
  plain: await submits("text/plain"),
  urlencoded: await submits("application/x-www-form-urlencoded"),
  window: await opens(),
  events: await streams(() => new EventSource(target)),
  socket: await streams(() => new WebSocket(`${target.replace("http", "ws")}segment`)),
});
