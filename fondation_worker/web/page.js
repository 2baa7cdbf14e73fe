// Keeps the status page up to date. Without it the page is complete, and reloads itself.

const AGAIN = 2000; // milliseconds before another attempt to connect
const PATIENCE = 40000; // milliseconds without a word; the worker gives one every 15 s

const connection = document.getElementById("connection");
const news = document.getElementById("news");
const shown = new Map(); // the sections as they came, by id
const waiting = new Map(); // sections that came while text in them was selected
let build;
let instance;
let another = "";

function say(words, state) {
  connection.className = state;
  if (connection.textContent !== words) connection.textContent = words;
}

// Times come in UTC; a reader has a clock of another zone.
function localise(root) {
  const today = new Date().toDateString();
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    const day = at.toDateString() === today ? {} : { day: "numeric", month: "short" };
    const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...day };
    time.textContent = at.toLocaleString("en-GB", clock);
    time.title = at.toLocaleString();
  }
  for (const zone of root.querySelectorAll(".zone")) zone.remove();
}

function isSelected(section) {
  const selection = document.getSelection();
  return !selection.isCollapsed && selection.containsNode(section, true);
}

// What somebody is about to copy stays until the selection goes.
function show() {
  for (const [id, content] of waiting) {
    const section = document.getElementById(id);
    if (section && isSelected(section)) continue;
    waiting.delete(id);
    section?.replaceChildren(content);
  }
}

function take(message) {
  build ??= message.build;
  if (build !== message.build) return location.reload(); // its script is another one
  instance ??= message.instance;
  if (instance !== message.instance) another = "; the worker has started anew";
  instance = message.instance;
  say(`live${another}`, "live");
  if (document.title !== message.title) news.textContent = message.title;
  document.title = message.title;
  for (const [id, html] of Object.entries(message.sections)) {
    const template = document.createElement("template");
    template.innerHTML = html;
    if (template.innerHTML === shown.get(id)) continue;
    shown.set(id, template.innerHTML);
    localise(template.content);
    waiting.set(id, template.content);
  }
  show();
}

// A browser gives up on an answer that is no stream, so every attempt is a new one, and ours.
function connect() {
  const source = new EventSource("events");
  let timer;
  const lose = () => {
    source.close();
    clearTimeout(timer);
    say(instance ? "connection lost, trying again" : "not connected, trying again", "lost");
    setTimeout(connect, AGAIN);
  };
  const hear = () => {
    clearTimeout(timer);
    timer = setTimeout(lose, PATIENCE);
  };
  source.addEventListener("error", lose);
  source.addEventListener("alive", hear);
  source.addEventListener("message", (event) => {
    hear();
    take(JSON.parse(event.data));
  });
  hear();
}

for (const section of document.querySelectorAll("main > section")) {
  shown.set(section.id, section.innerHTML);
  localise(section);
}
document.addEventListener("selectionchange", show);
say("connecting", "");
connect();
