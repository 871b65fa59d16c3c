// Runs the functions of one module for the process that started it; see `worker.py`.
//
// Requests come in on stdin, answers go out on stdout, a line of JSON each. The code of the user
// runs in here too, and may print and redefine what it wants: an answer counts because it begins
// with a random word, which only the closure below has, and nothing that could be redefined ever
// sees it. Hence what is called after the user's code was loaded is taken beforehand, and answers
// are put together from primitive values.

import "./prelude.js";

const { exit, stdin, stdout, stderr } = Deno;
const read = stdin.read.bind(stdin);
const write = stdout.writeSync.bind(stdout);
const complain = stderr.writeSync.bind(stderr);
const encode = TextEncoder.prototype.encode.bind(new TextEncoder());
const { parse, stringify } = JSON;
const Bytes = Uint8Array;
const typed = Object.getPrototypeOf(Uint8Array.prototype);
const get = (name) => {
  const { get } = Object.getOwnPropertyDescriptor(typed, name);
  return Function.prototype.call.bind(get);
};
const bufferOf = get("buffer");
const lengthOf = get("byteLength");
const catchAll = Function.prototype.call.bind(Promise.prototype.then);
const text = String;

// The tool's own words go to the log, and stdout is not one.
console.log = console.info = console.debug = console.error;

async function* lines() {
  const decoder = new TextDecoder();
  const chunk = new Bytes(1 << 16);
  let rest = "";
  for (;;) {
    const size = await read(chunk);
    if (size === null) return; // whoever asked is gone
    rest += decoder.decode(new Bytes(bufferOf(chunk), 0, size), { stream: true });
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
      const line = rest.slice(0, end);
      rest = rest.slice(end + 1);
      yield line;
    }
  }
}

function send(word, body) {
  const bytes = encode("\n" + word + " " + body + "\n");
  let sent = 0;
  while (sent < lengthOf(bytes)) sent += write(new Bytes(bufferOf(bytes), sent));
}

function described(error) {
  const of = (name) => {
    try {
      const value = error?.[name];
      return value === undefined || value === null ? "" : text(value);
    } catch {
      return "";
    }
  };
  let message = of("message");
  if (message === "") {
    try {
      message = typeof error === "string" ? error : text(error);
    } catch {
      message = "something that is no error was thrown";
    }
  }
  return '{"name":' + stringify(of("name")) + ',"message":' + stringify(message) +
    ',"stack":' + stringify(of("stack")) + "}";
}

function chosen(module, tool) {
  if (tool === "") return module.default; // inline code is one function
  const byDefault = module.default;
  const own = byDefault !== null && typeof byDefault === "object" && Object.hasOwn(byDefault, tool);
  const found = own ? byDefault[tool] : Object.hasOwn(module, tool) ? module[tool] : undefined;
  if (typeof found === "function") return found;
  const names = [...Object.keys(module), ...Object.keys(own || byDefault === undefined ? {} : byDefault)]
    .filter((name) => name !== "default");
  const missing = new Error(names.join(", ") || "nothing");
  missing.name = "MissingExport";
  throw missing;
}

const requests = lines();
const first = parse((await requests.next()).value);
const word = first.word;
const entry = first.entry;
let module;
let running = 0; // the number of the call; 0 without one

const fail = (id, error) => {
  if (running !== id || id === 0) return;
  running = 0;
  send(word, '{"id":' + id + ',"error":' + described(error) + "}");
};

const succeed = (id, result) => {
  if (running !== id) return;
  let json;
  try {
    json = stringify(result) ?? "null";
  } catch (error) {
    error.message = "the result is no JSON: " + error.message;
    fail(id, error);
    return;
  }
  running = 0;
  send(word, '{"id":' + id + ',"result":' + json + "}");
};

const lost = (error) => {
  if (running) fail(running, error);
  else complain(encode("uncaught after the call: " + described(error) + "\n"));
};
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  lost(event.reason);
});
addEventListener("error", (event) => {
  event.preventDefault();
  lost(event.error ?? event);
});

async function answer({ tool, input, config }) {
  // Not a literal: what is imported by one is read without asking for permission.
  module ??= await import(entry);
  return await chosen(module, tool)(input, config);
}

for (let next = requests.next();;) {
  const { value, done } = await next;
  if (done) exit(0);
  // A read is always under way, so that the end of the other process is noticed.
  next = requests.next();
  const request = parse(value);
  const id = request.id;
  running = id;
  catchAll(answer(request), (result) => succeed(id, result), (error) => fail(id, error));
}
